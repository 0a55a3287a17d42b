"""The visits of a case: its ratio over its reference from all of them, and which cases need more.

An interval over the rounds of one visit knows nothing of what changes from visit to visit, which is more than what
changes within. So the interval comes from the visits alone; three say little of their spread, and like cells lend them
theirs.
"""

import math
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

WEIGHT = 12  # degrees of freedom that the spread of like cells counts for, in any cell
LIKE = 5  # cells that say how alike cells spread; where there are fewer they are joined with others
APART = 4.0  # standard deviations between a cell's visits at most, before it is visited more often
FURTHER = 2  # visits then
KNOWN = 8  # least degrees of freedom of like cells that say how far apart a cell's visits usually are
# Standard error of a median over that of the mean, of five normal numbers
MEDIAN_OF_FIVE = 1.198
Object = dict[str, Any]
Group = tuple[str, int]  # fused or written out, and sequence length


class Visited(NamedTuple):
    """A cell's visits.

    Args:
        kind: ``fused`` or ``written out``, by its attention kernel.
        seq_len: T.
        logs: log ratio of each visit.
        further: whether it was visited more often than planned, so that the median counts.
    """

    kind: str
    seq_len: int
    logs: tuple[float, ...]
    further: bool = False

    @property
    def centre(self) -> float:
        """Log of its ratio: the mean over the visits, or their median where there were further ones."""
        return float(np.median(self.logs) if self.further else np.mean(self.logs))

    @property
    def freedoms(self) -> int:
        """Degrees of freedom of its spread."""
        return len(self.logs) - 1

    @property
    def squares(self) -> float:
        """Sum of the squared deviations of its visits from their mean."""
        mean = sum(self.logs) / len(self.logs)
        return sum((log - mean) ** 2 for log in self.logs)


class Pool(NamedTuple):
    """Mean variance between the visits of several cells, weighted by degrees of freedom, and their sum."""

    variance: float
    freedoms: int

    def without(self, cell: Visited) -> "Pool":
        """Return the pool of the other cells."""
        freedoms = self.freedoms - cell.freedoms
        squares = self.variance * self.freedoms - cell.squares
        return Pool(squares / freedoms if freedoms else 0.0, freedoms)


def visited(benchmark: Object) -> Visited | None:
    """Return the visits of a saved benchmark; None where it has no ratio, or was saved before there were visits."""
    info = benchmark.get("extra_info", {})
    time = info.get("time") or {}
    logs = tuple(visit["log_ratio"] for visit in time.get("visits") or () if visit["log_ratio"] is not None)
    if not logs or not (time.get("over_reference") or {}).get("value"):
        return None
    further = len(logs) > time["visits_planned"]
    fused = (info.get("attention") or {}).get("fused") is not False
    return Visited(kernel_kind(fused=fused), info["case"]["seq_len"], logs, further)


def kernel_kind(*, fused: bool) -> str:
    """Return ``written out`` where a case's attention was not torch's fused kernel, else ``fused``."""
    return "fused" if fused else "written out"


def pool(cells: Iterable[Visited]) -> Pool:
    """Pool the spread of cells; 0 with no degree of freedom."""
    own = list(cells)
    freedoms = sum(cell.freedoms for cell in own)
    return Pool(sum(cell.squares for cell in own) / freedoms if freedoms else 0.0, freedoms)


def pools(cells: Iterable[Visited]) -> dict[Group, Pool]:
    """Pool the spread of the cells of each group that has one."""
    groups: dict[Group, list[Visited]] = {}
    for cell in cells:
        if cell.freedoms:
            groups.setdefault((cell.kind, cell.seq_len), []).append(cell)
    return {group: pool(own) for group, own in sorted(groups.items())}


def like(group: Group, cells: Iterable[Visited]) -> list[Visited]:
    """Return the cells that say how a group's should spread: of the same kernel and length, or kernel, or all."""
    spread = [other for other in cells if other.freedoms]
    kind = [other for other in spread if other.kind == group[0]]
    length = [other for other in kind if other.seq_len == group[1]]
    return next((own for own in (length, kind) if len(own) >= LIKE), spread)


def half_width(cell: Visited, alike: Pool) -> float | None:
    """Return the half-width of the 95 % interval of a cell's log ratio; None where no like cell has a spread.

    With s^2 the cell's variance over its V visits and p^2 the mean variance of like cells, sigma^2 = (w p^2 + (V - 1)
    s^2) / (w + V - 1), and the half-width is t(w + V - 1) sigma / sqrt(V). w is ``WEIGHT``, or what the others have.

    Args:
        cell: its visits.
        alike: like cells, itself among them if it has a spread.
    """
    from scipy import special  # a tenth of a second that collecting need not pay

    weight = min(WEIGHT, alike.freedoms - cell.freedoms)
    freedoms = weight + cell.freedoms
    if freedoms < 1:
        return None
    variance = (weight * alike.variance + cell.squares) / freedoms
    error = math.sqrt(variance / len(cell.logs)) * (MEDIAN_OF_FIVE if cell.further else 1.0)
    return float(special.stdtrit(freedoms, 0.975)) * error


def settle(benchmarks: Sequence[Object], some: Collection[int] | None = None) -> list[Object]:
    """Return benchmarks whose ratios over their references, and intervals, come from all visits of all of them.

    Args:
        benchmarks: all of a run's.
        some: places of those that are returned; None for all.
    """
    found = [visited(benchmark) for benchmark in benchmarks]
    cells = [cell for cell in found if cell is not None]
    places = range(len(benchmarks)) if some is None else some
    groups = {(cell.kind, cell.seq_len) for place in places if (cell := found[place]) is not None}
    alike = {group: pool(like(group, cells)) for group in groups}
    return [
        benchmarks[place] if cell is None else _with_ratio(benchmarks[place], cell, alike[cell.kind, cell.seq_len])
        for place in places
        for cell in [found[place]]
    ]


def _with_ratio(benchmark: Object, cell: Visited, alike: Pool) -> Object:
    info = benchmark["extra_info"]
    time, half = info["time"], half_width(cell, alike)
    if half is None:  # one visit of a run that has no others: what its own pairs of rounds say
        low, high = time["visits"][0]["interval"]
        interval = "pairs of one visit"
    else:
        low, high = (math.exp(cell.centre + end * half) for end in (-1, 1))
        interval = "visits"
    value = math.exp(cell.centre)
    over = time["over_reference"] | {"value": value, "low": min(low, value), "high": max(high, value)}
    over |= {"visits": len(cell.logs), "interval": interval}
    over |= {"blocks": sum(visit.get("blocks", 0) for visit in time["visits"])}
    return benchmark | {"extra_info": info | {"time": time | {"over_reference": over}}}


def planned_left(benchmarks: Mapping[str, Object]) -> dict[str, int]:
    """Return how many of its planned visits each benchmark lacks that lacks any; lost visits count as made.

    Args:
        benchmarks: of the cases that were timed, by test.
    """
    times = {test: benchmarks[test]["extra_info"]["time"] for test in benchmarks if visited(benchmarks[test])}
    lacking = {test: time["visits_planned"] - made(time) for test, time in times.items()}
    return {test: count for test, count in lacking.items() if count > 0}


def made(time: Object) -> int:
    """Return the number of a row's visits, lost ones too."""
    return len(time["visits"]) + len(time["visits_lost"])


def left(benchmarks: Mapping[str, Object]) -> dict[str, int]:
    """Return how many more visits each benchmark needs: those planned, then two more where its visits disagree.

    Args:
        benchmarks: of the cases that were timed, by test.
    """
    if found := planned_left(benchmarks):
        return found
    cells = {test: cell for test, benchmark in benchmarks.items() if (cell := visited(benchmark)) is not None}
    times = {test: benchmarks[test]["extra_info"]["time"] for test in cells}
    own = list(cells.values())
    alike = {(cell.kind, cell.seq_len): pool(like((cell.kind, cell.seq_len), own)) for cell in own}
    found = {}
    for test, cell in cells.items():
        first = times[test]["visits_planned"]
        others = alike[cell.kind, cell.seq_len].without(cell)
        known = len(cell.logs) >= 3 and others.freedoms >= KNOWN  # fewer cannot say what is far
        apart = known and np.ptp(cell.logs[:first]) > APART * others.variance**0.5
        so_far = made(times[test])
        if (apart or so_far > first) and so_far < first + FURTHER:
            found[test] = first + FURTHER - so_far
    return found
