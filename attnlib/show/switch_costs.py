"""The tables of ``bench/test_switches.py``: time and memory of each switch, and what gradients do with it."""

from typing import Any

from attnlib.compare.cells import Cells, claims
from attnlib.compare.intervals import Estimate
from attnlib.compare.pairs import is_itself
from attnlib.runs.load import Cell
from attnlib.runs.schema import Claim
from attnlib.show.costs import COST, ratios_of, reference_name
from attnlib.show.table import Column, Table
from attnlib.show.units import digits, with_interval

Group = list[Cell]
RATE = "decades a layer"


def switch_costs(cells: Cells) -> list[Table]:
    """Return a table a phase, a row for each switch and depth: time over the stack without it, by length.

    The last one has the peak memory over that stack's at the longest length, by how many decades a layer the first
    layer's gradient falls in a plain stack with the switch, and how many of the switch's claims hold.
    """
    groups = [group for group in cells.by_id.values() if "switch=" in group[0].test]
    checked = [group for group in groups if group[0].case.phase == "switch"]
    checked.sort(key=lambda group: group[0].case.d_model)  # the narrowest stack's rate is shown
    phases = [p for p in ("forward", "train_step") if any(group[0].case.phase == p for group in groups)]
    return [
        of_phase(cells, phase, [g for g in groups if g[0].case.phase == phase], checked if phase is phases[-1] else [])
        for phase in phases
    ]


def of_phase(cells: Cells, phase: str, groups: list[Group], checked: list[Group]) -> Table:
    """Return the table of one phase."""
    lengths = sorted({group[0].case.seq_len for group in groups})
    depths = sorted({group[0].case.depth for group in groups})
    labels = [pe for pe in cells.names("pe") if any(group[0].case.pe == pe for group in groups)]
    own = {(group[0].case.pe, group[0].case.depth, group[0].case.seq_len): group for group in groups}
    peaks = {key[1:]: group[0].peak for key, group in own.items() if any(map(is_itself, group))}
    rows: list[dict[str, Any]] = []
    for label in labels:
        for depth in depths:
            row: dict[str, Any] = {"switch": label, "L": depth}
            for T in lengths:
                if (group := own.get((label, depth, T))) is not None:
                    row[f"T={T}"] = cells.over_reference(group)
                    row["peak"] = over(group[0].peak, peaks.get((depth, T)))
            rows.append(row | (gradients(label, checked) if depth == depths[0] else {}))
    columns = {"switch": Column(), "L": Column(number=True)} | {f"T={T}": COST for T in lengths}
    columns |= {"peak": Column("{:.2f}".format, number=True)}
    after = [f"peak: of T={lengths[-1]}, over that without the switch"]
    if checked:
        columns |= {RATE: Column(with_interval(digits(3)), number=True), "claims": Column()}
        after.append(
            f"{RATE}: of the first layer's gradient in a plain stack with the switch; claims: attnlib findings"
        )
    before = ratios_of(phase, reference_name(groups))
    return Table(columns, rows, before=[before], after=[*after, ""], keys=2)


def over(peak: int | None, other: int | None) -> float | None:
    """Return a peak over another; None if one of them is not known."""
    return None if peak is None or not other else peak / other


def gradients(label: str, checked: list[Group]) -> dict[str, Any]:
    """Return the columns of the checks of a switch; a window is another one in the short stacks of a check."""
    window = label.startswith("window=")
    found = [claims(g) for g in checked if g[0].case.pe == label or (window and g[0].case.pe.startswith("window="))]
    if not found:
        return {}
    held = [
        within(claim) for own in found for claim in own.values() if claim.least is not None or claim.most is not None
    ]
    rate = found[0].get("first_layer")
    return {
        RATE: None if rate is None else Estimate(rate.mean, rate.low, rate.high),
        "claims": f"{sum(held)} of {len(held)} hold",
    }


def within(claim: Claim) -> bool:
    """Return True if the whole interval of a claim lies within its limits."""
    return (claim.least is None or claim.low >= claim.least) and (claim.most is None or claim.high <= claim.most)
