"""Nodes that runs were measured on, and how much they differ in speed."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from attnlib.compare.intervals import Estimate
from attnlib.compare.pairs import Floor, floor
from attnlib.runs.load import Run


class Node(NamedTuple):
    """A node: its numbers of timed and of disturbed cases, its canary and its noise floor."""

    name: str
    cases: int  # that were timed there
    disturbed: int  # of them
    canary: Estimate | None  # seconds: median and the middle 90 % of its readings
    floor: Floor | None


def nodes(runs: Sequence[Run]) -> list[Node]:
    """Return every node of these runs, sorted by name."""
    names = sorted({name for run in runs for name in run.nodes})
    return [node(name, runs) for name in names]


def node(name: str, runs: Sequence[Run]) -> Node:
    """Return the node with this name, from all of these runs."""
    cells = [cell for run in runs for cell in run.cells if cell.node == name and cell.timed]
    heard = [seconds for run in runs for seconds in run.nodes.get(name, ())]
    canary = Estimate(*np.quantile(heard, [0.5, 0.05, 0.95]).tolist()) if heard else None
    return Node(name, len(cells), sum(cell.disturbed for cell in cells), canary, floor(cells))


def apart(runs: Sequence[Run]) -> str | None:
    """Return in words how the slowest node differs from the fastest; None if the ranges of their canaries overlap."""
    found = [(own.canary, own.name) for own in nodes(runs) if own.canary]
    if not found:
        return None
    (fast, one), (slow, other) = min(found, key=lambda own: own[0].high), max(found, key=lambda own: own[0].low)
    if fast.high >= slow.low:
        return None
    return f"{other} took {slow.value / fast.value:.2f} of {one}'s time for the canary"
