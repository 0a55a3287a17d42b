"""Cells of several runs of one machine, looked up by case, and their centre with an interval."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from scipy import stats

from attnlib.runs.load import RESULTS, Cell, Run, load_all, newest


class Cells:
    """The cells of several runs of one machine, looked up by case."""

    def __init__(self, runs: Sequence[Run]) -> None:
        self.runs = runs
        self.by_id: dict[str, list[Cell]] = {}
        for run in runs:
            for cell in run.cells:
                self.by_id.setdefault(cell.case_id, []).append(cell)

    def where(self, **fields: Any) -> list[list[Cell]]:
        """Groups of one case's cells, one cell a run, whose case has these fields."""
        return [
            cells
            for cells in self.by_id.values()
            if all(cells[0].case[name] == value for name, value in fields.items())
        ]

    def first(self, **fields: Any) -> list[Cell]:
        """The first case with these fields: its cells, one a run; none without such a case."""
        return next(iter(self.where(**fields)), [])

    def axis(self, name: str, **fields: Any) -> list[Any]:
        """Values of a field among these cases, sorted, or in registry order where it has one."""
        values = {cells[0].case[name] for cells in self.where(**fields)}
        order = self.runs[0].data["attnlib"]["axes"].get(name)
        return [v for v in order if v in values] if order else sorted(values)


def read_cells(paths: Sequence[Path]) -> tuple[Cells | None, list[str]]:
    """Read runs of one machine, the newest run if no path is given.

    Returns:
        their cells, or None without a good run; and a line for each file that was left out, or on how to make one.
    """
    latest = newest()
    paths = paths or ([latest] if latest else [])
    if not paths:
        return None, [f"no saved run in {RESULTS}/; make one with: pytest bench/ --benchmark-autosave"]
    runs, left_out = load_all(paths)
    ours = [run for run in runs if run.machine == runs[0].machine]
    left_out += [
        f"{run.path}: another machine or other settings than {runs[0].path}, left out"
        for run in runs
        if run not in ours
    ]
    return (Cells(ours) if ours else None), left_out


def centre(cells: Sequence[Cell]) -> tuple[float, float, float] | None:
    """Seconds of a case, with the lower and upper end of its interval; None where no run has a time."""
    medians = [cell.median for cell in cells if cell.median is not None]
    if len(medians) != 1:
        return over_runs(medians)
    info = next(cell.info for cell in cells if cell.median is not None)
    low, high = (info or {})["time"]["interval"] or (medians[0], medians[0])
    return medians[0], low, high


def over_runs(values: Sequence[float]) -> tuple[float, float, float] | None:
    """Mean of one value a run with its 95 % t interval, or None without any."""
    return t_interval(values) if values else None


def t_interval(values: Sequence[float]) -> tuple[float, float, float]:
    """Mean with its 95 % t interval; one value alone, or equal ones, have none but themselves.

    Raises:
        ValueError: there are no values.
    """
    if not values:
        raise ValueError("no values")
    mean = float(np.mean(values))
    if len(values) == 1 or np.ptp(values) == 0:
        return mean, mean, mean
    low, high = stats.t.interval(0.95, len(values) - 1, mean, stats.sem(values))
    return mean, float(low), float(high)


def points_along(cells: Cells, name: str, **fields: Any) -> list[tuple[float, list[Cell]]]:
    """Cases along one field, sorted."""
    groups = cells.where(**fields)
    return sorted(((group[0].case[name], group) for group in groups), key=lambda point: point[0])


def middle(values: Sequence[Any]) -> Any:
    """The middle of an axis."""
    return values[len(values) // 2]
