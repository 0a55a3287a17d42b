"""Tables of the share of the machine's ceilings that steps reach, and of predicted over measured peaks."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from attnlib.compare.cells import Cells, measured
from attnlib.compare.intervals import Estimate, t_interval
from attnlib.runs.load import Cell
from attnlib.runs.schema import Floor
from attnlib.show.table import Column, Table
from attnlib.show.units import percent, seconds, with_interval

ERROR = Column(lambda share: f"{share:+.2%}", number=True)
COUNT = Column(number=True)
ROUNDED = with_interval(lambda value: f"{value:.3g}")
TEXT = Column()


def near(floor: Floor | None, time: float) -> str:
    """A case's floor as a share of its time, and which ceiling takes most of it; nothing where it is not known."""
    return f"  {percent(floor.seconds / time)} of ceiling ({floor.binding})" if floor else ""


def ceilings(cells: Cells) -> list[Table]:
    """One table, a row for each phase and encoding."""
    rows = []
    for phase in cells.axis("phase"):
        for pe in cells.axis("pe", phase=phase):
            own = [measured(group) for group in cells.where(phase=phase, pe=pe)]
            if row := of_cells(own):
                rows.append({"phase": phase, "encoding": pe} | row)
    shares = ("share of ceiling, median", "least", "most")
    columns = {"phase": TEXT, "encoding": TEXT, "cases": COUNT} | dict.fromkeys(shares, Column(percent, number=True))
    columns |= {"bound by": Column(prose=True), "peak, worst error": ERROR, "median error": ERROR}
    readings = [reading for run in cells.runs for reading in run.data["attnlib"].get("canary", ())]
    lines = summary([cell for run in cells.runs for cell in run.cells], readings)
    after = (
        "share of ceiling: what products, memory and operators would take at their ceilings, over the time of a step"
    )
    return [Table(columns, rows, before=lines, after=[after], keys=2)]


def of_cells(cells: Sequence[Cell]) -> dict[str, Any]:
    """Return the columns of a row about several cases; empty where nothing is known of any."""
    row: dict[str, Any] = {}
    known = [
        (share, floor.binding) for cell in cells if (share := cell.share_of_ceiling) and (floor := cell.cost.floor_s)
    ]
    if known:
        found, names = zip(*known, strict=True)
        bound = ", ".join(f"{name} {names.count(name)}" for name in dict.fromkeys(names))
        row |= {"share of ceiling, median": float(np.median(found)), "least": min(found), "most": max(found)}
        row |= {"bound by": bound}
    if errors := errors_of(cells):
        row |= {"peak, worst error": max(errors, key=abs), "median error": float(np.median(errors))}
    return {"cases": len(cells)} | row if row else {}


def errors_of(cells: Sequence[Cell]) -> list[float]:
    """Return predicted over measured peak, less 1, of each case that has both."""
    return [cell.predicted / cell.peak - 1 for cell in cells if cell.predicted is not None and cell.peak]


def geometric(values: Sequence[float]) -> Estimate:
    """Mean of positive numbers with its 95 % t interval, in logarithms: no end of it is below 0."""
    return t_interval(np.log(values).tolist()).exp()


def summary(cells: Sequence[Cell], readings: Sequence[Mapping[str, Any]]) -> list[str]:
    """The machine's ceilings, the share of them that cases reach, and how well peaks were predicted, a line each."""
    lines = []
    by_dtype: dict[str, list[Mapping[str, Any]]] = {}
    for reading in readings:
        if rates := reading.get("rates"):
            by_dtype.setdefault(rates["dtype"], []).append(rates)
    for dtype, every in by_dtype.items():
        quiet = [found for found in every if not found.get("disturbed")]
        if not quiet:
            reasons = "; ".join(every[-1]["disturbed"])
            lines.append(f"ceilings were read while something else used the machine, shares may be too high: {reasons}")
        elif every[0].get("disturbed"):
            reasons = "; ".join(every[0]["disturbed"])
            lines.append(
                "until the first undisturbed reading of the ceilings something else used the machine, shares of cases "
                f"before it may be too high: {reasons}"
            )
        rates = quiet or every
        products = geometric([found["flops_per_s"] / 1e9 for found in rates])
        copies = geometric([max(moved / s for moved, s in found["copies"]) / 1e9 for found in rates])
        large = geometric([found["copies"][-1][0] / found["copies"][-1][1] / 1e9 for found in rates])
        operator = geometric([found["operator_s"] for found in rates])
        lines.append(
            f"ceilings, {dtype}: {ROUNDED(products)} GFLOP/s in products, {ROUNDED(copies)} GB/s in copies at best, "
            f"{ROUNDED(large)} in large ones, {with_interval(seconds)(operator)} a small operator"
        )
    if found := of_cells(cells):
        if "least" in found:
            least, median, most = (percent(found[n]) for n in ("least", "share of ceiling, median", "most"))
            lines.append(
                "share of ceiling, the time of a step at the machine's best rates over its measured time: "
                f"median {median}, from {least} to {most}; bound by {found['bound by']}"
            )
        if "median error" in found:
            worst, median = (ERROR.form(found[name]) for name in ("peak, worst error", "median error"))
            count = len(errors_of(cells))
            lines.append(f"predicted over measured peak, {count} cases: worst {worst}, median {median}")
    return lines
