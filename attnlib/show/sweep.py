"""A sweep as a table: how many of its tasks are where, and those that something is to be said of."""

from collections.abc import Sequence

from attnlib.show.table import Column, Table
from attnlib.show.units import duration
from attnlib.sweep.status import STATES, Standing

COLUMNS = {
    "tasks": Column(number=True),
    "state": Column(),
    "cases": Column(number=True),
    "done": Column(number=True),
    "of them": Column(prose=True),
}
NAMED = 8  # tasks of a state, at most


def standing(found: Sequence[Standing], left: float | None, says: Sequence[str] = ()) -> Table:
    """A row a state, with what is to be said of its tasks; then the time left.

    Args:
        found: where each task stands.
        left: seconds, None where not known.
        says: lines that come first.
    """
    rows = []
    for state in STATES:
        own = [one for one in found if one.state == state]
        words = [f"{one.task}{f' {one.note}' if one.note else ''}" for one in own if one.note or state in ("dead",)]
        more = f", and {len(words) - NAMED} more" if len(words) > NAMED else ""
        cases = [one.tests for one in own if one.tests is not None]
        done = sum(one.done for one in own)
        row = {"tasks": len(own), "state": state, "cases": sum(cases) if cases else None, "done": done}
        rows += [row | {"of them": "; ".join(words[:NAMED]) + more}] if own else []
    return Table(COLUMNS, rows, before=says, after=[in_words(found, left)])


def in_words(found: Sequence[Standing], left: float | None) -> str:
    """Cases done and the time left."""
    tests = [one.tests for one in found]
    done = sum(one.done for one in found)
    if None in tests:
        return "not planned yet"
    planned = sum(count for count in tests if count)
    time = f", about {duration(left)} left" if left else ""
    return f"{done} of {planned} cases are done{time}"
