"""Tables of calls that were measured beside others: one a test, a line for each combination of its parameters."""

from typing import Any

from attnlib.cases.text import size
from attnlib.compare.beside import Point, points
from attnlib.compare.cells import Cells
from attnlib.show.table import Column, Table
from attnlib.show.units import digits, seconds, with_interval

RATIO, TIME, OTHER = "over its reference", "time", "time of the reference"
PEAK, OTHER_PEAK = "adds at its peak", "the reference adds"


def beside_tables(cells: Cells) -> list[Table]:
    """Return a table for each test that measures calls beside others: ratio with interval, verdict, times and bytes."""
    return [table(test, own) for test, own in points(cells.runs).items()]


def table(test: str, own: list[Point]) -> Table:
    """Return the table of one test."""
    columns = {
        name: Column(number=all(type(point.params.get(name)) in (int, float) for point in own))
        for name in dict.fromkeys(name for point in own for name in point.params)
    }
    keys = len(columns)
    columns |= {
        RATIO: Column(with_interval(digits(3)), number=True),
        "verdict": Column(),
        TIME: Column(seconds, number=True),
        OTHER: Column(seconds, number=True),
        PEAK: Column(size, number=True),
        OTHER_PEAK: Column(size, number=True),
    }
    if any(word_of(point) for point in own):
        columns["status"] = Column(prose=True)
    return Table(columns, [row(point) for point in own], before=[test], keys=keys)


def row(point: Point) -> dict[str, Any]:
    """Return the line of one point."""
    values = dict(point.params) | {RATIO: point.ratio, "status": word_of(point) or None}
    found = point.measured.found
    if found is None:
        return values
    words = dict.fromkeys(own.found.verdict for own in point.rows if own.found)
    return values | {
        "verdict": ", ".join(words),
        TIME: found.seconds,
        OTHER: found.reference_seconds,
        PEAK: found.peak.value,
        OTHER_PEAK: found.reference_peak.value,
    }


def word_of(point: Point) -> str:
    """Return the status and reason of a point where a run has another than ok; else nothing."""
    return "; ".join(dict.fromkeys(f"{own.status}: {own.reason}" for own in point.rows if own.status != "ok"))
