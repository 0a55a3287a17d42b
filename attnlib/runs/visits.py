"""The visits of a case: its ratio over its reference from all of them, and which cases need more.

An interval over the rounds of one visit knows nothing of what changes from visit to visit, which is more than what
changes within. So the interval comes from the visits alone; three say little of their spread, and like cells lend theirs.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

WEIGHT = 8  # degrees of freedom that the spread of like cells counts for, in any cell
LIKE = 5  # cells that say how alike cells spread; where there are fewer they are joined with others
APART = 4.0  # standard deviations between a cell's visits at most, before it is visited more often
FURTHER = 2  # visits then
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
    def variance(self) -> float:
        """Of its visits; 0 with one."""
        return float(np.var(self.logs, ddof=1)) if self.freedoms else 0.0


def visited(benchmark: Object) -> Visited | None:
    """The visits of a saved benchmark; None where it has no ratio, or was saved before there were visits."""
    info = benchmark.get("extra_info", {})
    time = info.get("time") or {}
    logs = tuple(visit["log_ratio"] for visit in time.get("visits") or () if visit["log_ratio"] is not None)
    if not logs or not (time.get("over_reference") or {}).get("value"):
        return None
    further = len(logs) > time["visits_planned"]
    return Visited(kernel_kind(info), info["case"]["seq_len"], logs, further)


def kernel_kind(info: Object) -> str:
    """``written out`` where a case's attention was not torch's fused kernel, else ``fused``."""
    return "written out" if (info.get("attention") or {}).get("fused") is False else "fused"


def pooled(cells: Iterable[Visited]) -> dict[Group, float]:
    """Variance between the visits of a cell, by group, and the mean over the group's cells."""
    groups: dict[Group, list[Visited]] = {}
    for cell in cells:
        if cell.freedoms:
            groups.setdefault((cell.kind, cell.seq_len), []).append(cell)
    return {group: mean_variance(own) for group, own in sorted(groups.items())}


def mean_variance(cells: Sequence[Visited]) -> float:
    """Mean of the cells' variances, each weighted by its degrees of freedom."""
    return sum(c.freedoms * c.variance for c in cells) / sum(c.freedoms for c in cells)


def like(cell: Visited, cells: Sequence[Visited]) -> list[Visited]:
    """The cells that say how this one should spread: same kernel and length, or same kernel, or all that there are."""
    spread = [other for other in cells if other.freedoms]
    kind = [other for other in spread if other.kind == cell.kind]
    length = [other for other in kind if other.seq_len == cell.seq_len]
    return next((own for own in (length, kind) if len(own) >= LIKE), spread)


def half_width(cell: Visited, others: Sequence[Visited]) -> float | None:
    """Half-width of the 95 % interval of a cell's log ratio; None where neither it nor a like cell has a spread.

    With s^2 the cell's variance over its V visits and p^2 the mean variance of like cells, sigma^2 = (w p^2 + (V - 1)
    s^2) / (w + V - 1), and the half-width is t(w + V - 1) sigma / sqrt(V). w is ``WEIGHT``, or what the others have.

    Args:
        cell: its visits.
        others: like cells, itself among them if it has a spread.
    """
    from scipy import special  # a tenth of a second that collecting need not pay

    known = sum(other.freedoms for other in others)
    weight = min(WEIGHT, known - cell.freedoms)
    freedoms = weight + cell.freedoms
    if freedoms < 1:
        return None
    variance = (weight * mean_variance(others) + cell.freedoms * cell.variance) / freedoms
    error = float(np.sqrt(variance / len(cell.logs))) * (MEDIAN_OF_FIVE if cell.further else 1.0)
    return float(special.stdtrit(freedoms, 0.975)) * error


def settle(benchmarks: Sequence[Object]) -> list[Object]:
    """Return benchmarks whose ratios over their references, and intervals, come from all visits of all of them."""
    found = [visited(benchmark) for benchmark in benchmarks]
    cells = [cell for cell in found if cell is not None]
    alike = {(cell.kind, cell.seq_len): like(cell, cells) for cell in cells}
    return [
        benchmark if cell is None else _with_ratio(benchmark, cell, alike[cell.kind, cell.seq_len])
        for benchmark, cell in zip(benchmarks, found, strict=True)
    ]


def _with_ratio(benchmark: Object, cell: Visited, alike: Sequence[Visited]) -> Object:
    info = benchmark["extra_info"]
    time, half = info["time"], half_width(cell, alike)
    if half is None:  # one visit of a run that has no others: what its own pairs of rounds say
        low, high = time["visits"][0]["interval"]
        interval = "pairs of one visit"
    else:
        low, high = (float(np.exp(cell.centre + end * half)) for end in (-1, 1))
        interval = "visits"
    value = float(np.exp(cell.centre))
    over = time["over_reference"] | {"value": value, "low": min(low, value), "high": max(high, value)}
    over |= {"visits": len(cell.logs), "interval": interval}
    over |= {"blocks": sum(visit.get("blocks", 0) for visit in time["visits"])}
    return benchmark | {"extra_info": info | {"time": time | {"over_reference": over}}}


def left(benchmarks: Mapping[str, Object]) -> dict[str, int]:
    """How many more visits each benchmark needs: those that were planned, then two more where its visits disagree.

    Args:
        benchmarks: of the cases that were timed, by test.
    """
    cells = {test: cell for test, benchmark in benchmarks.items() if (cell := visited(benchmark)) is not None}
    times = {test: benchmarks[test]["extra_info"]["time"] for test in cells}
    made = {test: len(time["visits"]) + len(time["visits_lost"]) for test, time in times.items()}
    planned = {test: time["visits_planned"] - made[test] for test, time in times.items()}
    if found := {test: count for test, count in planned.items() if count > 0}:
        return found
    own = list(cells.values())
    found = {}
    for test, cell in cells.items():
        wanted = times[test]["visits_planned"] + FURTHER
        far = np.ptp(cell.logs[: times[test]["visits_planned"]])
        apart = len(cell.logs) >= 3 and far > APART * float(np.sqrt(mean_variance(like(cell, own))))
        if (apart or made[test] > times[test]["visits_planned"]) and made[test] < wanted:
            found[test] = wanted - made[test]
    return found
