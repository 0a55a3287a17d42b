"""The nodes that runs were measured on, and whether these differ."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from attnlib.compare.intervals import Estimate
from attnlib.compare.pairs import Floor, floor
from attnlib.runs.load import Run


class Node(NamedTuple):
    """What a node did, and how steady it was."""

    name: str
    cases: int  # that were timed there
    disturbed: int  # of them
    canary: Estimate | None  # seconds: median and the middle 90 % of its readings
    floor: Floor | None


def nodes(runs: Sequence[Run]) -> list[Node]:
    """Every node of these runs, by name."""
    names = sorted({name for run in runs for name in run.nodes})
    return [node(name, runs) for name in names]


def node(name: str, runs: Sequence[Run]) -> Node:
    """What one of them did."""
    cells = [cell for run in runs for cell in run.cells if cell.node == name and cell.timed]
    heard = [seconds for run in runs for seconds in run.nodes.get(name, ())]
    canary = Estimate(*np.quantile(heard, [0.5, 0.05, 0.95]).tolist()) if heard else None
    return Node(name, len(cells), sum(cell.disturbed for cell in cells), canary, floor(cells))


def apart(runs: Sequence[Run]) -> str | None:
    """How the slowest node differs from the fastest, where hardly a canary of one is as fast as one of the other."""
    found = [(own.canary, own.name) for own in nodes(runs) if own.canary]
    if not found:
        return None
    (fast, one), (slow, other) = min(found, key=lambda own: own[0].high), max(found, key=lambda own: own[0].low)
    if fast.high >= slow.low:
        return None
    return f"{other} took {slow.value / fast.value:.2f} of {one}'s time for the canary"
