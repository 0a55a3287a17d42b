"""Calls that were measured beside others, in several runs: grouped by test, and along a parameter."""

from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

from attnlib.compare.cells import over_runs
from attnlib.compare.intervals import Estimate
from attnlib.runs.load import Run
from attnlib.runs.schema import BesideRow


class Point(NamedTuple):
    """A test with its parameters, and its rows, one a run."""

    params: dict[str, Any]
    rows: tuple[BesideRow, ...]

    @property
    def ratio(self) -> Estimate | None:
        """Ratio of its time to its reference's, the geometric mean over several runs; None if no run has it."""
        found = (row.found.ratio for row in self.rows if row.found)
        return over_runs([Estimate(one.value, one.low, one.high) for one in found])

    @property
    def measured(self) -> BesideRow:
        """First of its rows that has a finding, or else the first row."""
        return next((row for row in self.rows if row.found), self.rows[0])


def by_test(runs: Iterable[Run]) -> dict[str, list[BesideRow]]:
    """Return the rows of calls that were measured beside others, by test, one a run."""
    rows: dict[str, list[BesideRow]] = {}
    for run in runs:
        for row in run.beside:
            rows.setdefault(row.test, []).append(row)
    return rows


def points(runs: Iterable[Run]) -> dict[str, list[Point]]:
    """Return the points of each test, in the order of the first run that has them."""
    found: dict[str, list[Point]] = {}
    for own in by_test(runs).values():
        found.setdefault(own[0].question, []).append(Point(own[0].params, tuple(own)))
    return found


def axis_of(own: Sequence[Point]) -> str | None:
    """Return the parameter whose numbers a line is drawn along: the one with most values, two at least; else None."""
    names = dict.fromkeys(name for point in own for name in point.params)
    values = {name: {point.params.get(name) for point in own} for name in names}
    numeric = {
        name: len(found)
        for name, found in values.items()
        if len(found) > 1 and all(type(value) in (int, float) for value in found)
    }
    return max(numeric, key=lambda name: numeric[name], default=None)


def lines_along(own: Sequence[Point], axis: str) -> dict[str, list[tuple[float, Point]]]:
    """Return the points along a parameter, sorted by its value, for each set of the other parameters in words."""
    found: dict[str, list[tuple[float, Point]]] = {}
    for point in own:
        others = " ".join(f"{name}={value}" for name, value in point.params.items() if name != axis)
        found.setdefault(others or "ratio", []).append((float(point.params[axis]), point))
    return {name: sorted(line, key=lambda one: one[0]) for name, line in found.items()}
