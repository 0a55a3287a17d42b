"""Two sets of runs side by side, in the first form: ratios and exact differences, and no verdict from too little."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from attnlib.runs.load import Cell, Run

MIN_RUNS = 6  # a side: with fewer runs the spread between runs is not known


@dataclass(frozen=True)
class Row:
    """One case on both sides; a side's ``None`` is a case that it lacks or has no time for."""

    case_id: str
    label: str
    base_status: str | None
    new_status: str | None
    base_s: float | None
    new_s: float | None
    base_bytes: int | None
    new_bytes: int | None
    verdict: str

    @property
    def ratio(self) -> float | None:
        """New seconds over base seconds, or None unless both have a time."""
        return None if self.base_s is None or self.new_s is None else self.new_s / self.base_s

    def as_json(self) -> dict[str, Any]:
        """Every field and the ratio."""
        return asdict(self) | {"ratio": self.ratio}


@dataclass(frozen=True)
class Comparison:
    """All cases of both sides, and what is different about the machines."""

    rows: tuple[Row, ...]
    machine: tuple[str, ...]
    same: bool  # both sides are the very same runs

    @property
    def exact_changes(self) -> tuple[Row, ...]:
        """Cases whose bytes or status changed, or that one side lacks: no statistics needed."""
        return tuple(row for row in self.rows if row.base_status != row.new_status or row.base_bytes != row.new_bytes)

    @property
    def regressed(self) -> bool:
        """Whether a case uses more bytes, or no longer runs."""
        return any(
            (row.base_status == "ok" and row.new_status not in ("ok", None))
            or (row.base_bytes is not None and row.new_bytes is not None and row.new_bytes > row.base_bytes)
            for row in self.exact_changes
        )

    @property
    def exit_code(self) -> int:
        """0 no regression, 1 a regression of bytes or status, 2 nothing about time could be decided."""
        if self.regressed:
            return 1
        return 0 if self.rows and self.same else 2


def compare(base: Sequence[Run], new: Sequence[Run]) -> Comparison:
    """Compare runs case by case: a side's time is the median of its runs' medians.

    No verdict on time is given yet, whatever the number of runs; a set compared with itself is the same.
    """
    same = {r.path.resolve() for r in base} == {r.path.resolve() for r in new}
    sides = [_by_case(base), _by_case(new)]
    verdict = "same" if same else undecided(len(base), len(new))
    rows = [
        _row(case_id, sides[0].get(case_id, []), sides[1].get(case_id, []), verdict)
        for case_id in {**sides[0], **sides[1]}
    ]
    return Comparison(tuple(rows), machine_differences(base, new), same)


def _by_case(runs: Sequence[Run]) -> dict[str, list[Cell]]:
    cells: dict[str, list[Cell]] = {}
    for run in runs:
        for cell in run.cells:
            cells.setdefault(cell.case_id, []).append(cell)
    return cells


def undecided(base: int, new: int) -> str:
    """Why time is not decided, in words."""
    counts = f"{base} run{'s' * (base != 1)} a side" if base == new else f"{base} and {new} runs a side"
    if min(base, new) < MIN_RUNS:
        return f"undecided: {counts}"
    return f"undecided: {counts}, and this version does not judge times"


def machine_differences(base: Sequence[Run], new: Sequence[Run]) -> tuple[str, ...]:
    """What differs between the machines and settings of the first base run and any other run, a line each."""
    first = base[0].machine
    lines = {
        f"{key}: {first[key]} | {run.machine[key]}": None
        for run in (*base[1:], *new)
        for key in first
        if run.machine[key] != first[key]
    }
    return tuple(lines)


def _row(case_id: str, base: list[Cell], new: list[Cell], verdict: str) -> Row:
    def summary(cells: list[Cell]) -> tuple[str | None, float | None, int | None]:
        if not cells:
            return None, None, None
        times = [c.median for c in cells if c.median is not None]
        peaks = {c.peak for c in cells if c.peak is not None}
        worst = next((c.status for c in cells if c.status != "ok"), "ok")
        return worst, float(np.median(times)) if times else None, max(peaks, default=None)

    (bs, bt, bb), (ns, nt, nb) = summary(base), summary(new)
    if not base or not new:
        verdict = "only in new" if not base else "only in base"
    elif bt is None or nt is None:
        verdict = "no time: " + " | ".join(s or "" for s in (bs, ns))
    return Row(case_id, (base or new)[0].label, bs, ns, bt, nt, bb, nb, verdict)
