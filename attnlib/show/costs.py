"""The tables that answer first: what each encoding costs over the reference, by phase, length and depth."""

from dataclasses import replace
from typing import Any

from attnlib.cases.text import size
from attnlib.compare.cells import Cells, interval_note
from attnlib.compare.intervals import Estimate
from attnlib.compare.pairs import fields_in_words, floor, is_itself, kernels_apart, reference_of, spreads
from attnlib.runs.load import Cell
from attnlib.show.table import Column, Table
from attnlib.show.units import joules, seconds


def cost(estimate: Estimate) -> str:
    """A ratio, and its interval's larger half where that excludes 1."""
    value, low, high = estimate
    return f"{value:.2f}" if holds_one(estimate) else f"{value:.2f} ±{max(value - low, high - value):.2f}"


def ratios_of(phase: str, reference: str) -> str:
    """Return the heading of a table of ratios."""
    note = "±: wider side of the 95 % interval; no ± if the unrounded one contains 1"
    return f"{phase}: time over that of {reference}; {note}"


def holds_one(estimate: Estimate) -> bool:
    """Return True if the interval of a ratio contains 1."""
    return estimate.low <= 1 <= estimate.high


PEAK = Column(size, number=True)
COST = Column(cost, number=True, faint=holds_one)


def costs(cells: Cells) -> list[Table]:
    """One table a phase with pairs: rows T x L, a column an encoding; time, peak, energy of the reference beside."""
    found = [table for phase in cells.axis("phase") if (table := of_phase(cells, phase)).rows]
    if found:  # once, under the last one
        apart = spreads(cell for run in cells.runs for cell in run.cells)
        note = [f"visits of a case lie apart by {apart[-1]} to {apart[0]}, one standard deviation"] if apart else []
        found[-1] = replace(found[-1], after=[*found[-1].after[:-1], *note, f"intervals: {interval_note(cells)}"])
    return found


def of_phase(cells: Cells, phase: str) -> Table:
    """The table of one phase; without rows where nothing was measured beside a reference."""
    groups = [group for group in cells.where(phase=phase) if any(cell.ratio for cell in group)]
    columns = sorted({group[0].case.pe for group in groups}, key=cells.names("pe").index)
    name = reference_name(groups)
    time, rows, links = f"time of {name}", [], []
    for L, T in sorted({place_of(group) for group in groups}):
        own = [group for group in groups if place_of(group) == (L, T)]
        row: dict[str, Any] = {"L": L, "T": T} | {group[0].case.pe: cells.over_reference(group) for group in own}
        if len({reference_of(cell) for group in own for cell in group if cell.ratio}) == 1:  # not one an encoding
            row[time] = cells.reference_time(own[0])
        row["node"] = ", ".join(sorted({cell.node for group in own for cell in group if cell.timed and cell.node}))
        row["its peak"] = next((group[0].peak for group in own if any(map(is_itself, group))), None)
        row["its energy"] = next((group[0].joules for group in own if any(map(is_itself, group))), None)
        rows.append(row)
        links.append({group[0].case.pe: group[0].case_id for group in own})
    heads = {"L": Column(number=True), "T": Column(number=True)}
    heads |= {time: Column(lambda estimate: seconds(estimate.value), number=True), "its peak": PEAK}
    if any(row["its energy"] is not None for row in rows):  # few machines tell
        heads["its energy"] = Column(joules, number=True)
    if len(cells.nodes) > 1:
        heads["node"] = Column()
    found = floor(cell for group in groups for cell in group)
    after = [] if found is None else [f"noise floor of {phase}: {name} {found}"]
    after += kernels(phase, groups, columns)
    before = [ratios_of(phase, name)]
    return Table(heads | dict.fromkeys(columns, COST), rows, before=before, after=[*after, ""], links=links, keys=2)


def kernels(phase: str, groups: list[list[Cell]], columns: list[str]) -> list[str]:
    """Return the line that names the encodings whose attention kernel is another one than their reference's."""
    found: dict[str, set[str]] = {}
    for cell in (cell for group in groups for cell in group):
        attention = cell.info.attention if cell.info else None
        if attention is None or cell.ratio is None:
            continue
        if apart := kernels_apart(attention.kernel, attention.reference_kernel, cell.ratio.reference):
            found.setdefault(apart, set()).add(cell.case.pe)
    pairs = [f"{apart} in {', '.join(pe for pe in columns if pe in own)}" for apart, own in sorted(found.items())]
    return [f"attention kernels of {phase}: {'; '.join(pairs)}"] if pairs else []


def place_of(group: list[Cell]) -> tuple[int, int]:
    """Depth and length of a case."""
    return group[0].case.depth, group[0].case.seq_len


def reference_name(groups: list[list[Cell]]) -> str:
    """The references in words, see ``fields_in_words``."""
    found = (fields_in_words(cell.ratio.reference) for group in groups for cell in group if cell.ratio)
    return " or ".join(dict.fromkeys(found))
