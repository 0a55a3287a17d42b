"""Coverage: share of runs' intervals that hold the mean of other runs, and spread of ratios from run to run."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from attnlib.compare.pairs import over_reference
from attnlib.runs.load import Cell, Run
from attnlib.runs.visits import kernel_kind

FEWEST = 3  # runs: the mean of the others is more than another run
ENOUGH = 100  # intervals of a group; smaller ones are joined with the next length


@dataclass(frozen=True)
class Repeated:
    """A cell's ratio over its reference in several runs.

    Args:
        cell: the first run's cell.
        ratios: ratios over the reference, one a run.
        lows: lower ends of the runs' own intervals.
        highs: upper ends.
        visits: log ratios of the visits, a tuple per run; runs that were saved before there were visits have none.
    """

    cell: Cell
    ratios: np.ndarray
    lows: np.ndarray
    highs: np.ndarray
    visits: tuple[tuple[float, ...], ...] = ()
    kind: str = "fused"

    @property
    def group(self) -> tuple[str, int]:
        """Kind of the attention kernel, and T."""
        return self.kind, self.cell.case.seq_len

    @property
    def held(self) -> np.ndarray:
        """One boolean a run: True if its interval holds the geometric mean of the other runs."""
        logs = np.log(self.ratios)
        others = np.exp((logs.sum() - logs) / (len(logs) - 1))
        return np.asarray((self.lows <= others) & (others <= self.highs))

    @property
    def half_widths(self) -> np.ndarray:
        """Half-width of each run's interval of the log ratio."""
        return np.asarray(np.log(self.highs / self.lows) / 2)

    @property
    def deviation(self) -> float:
        """Standard deviation of the log ratio from run to run."""
        return float(np.log(self.ratios).std(ddof=1))


@dataclass(frozen=True)
class Holding:
    """Summary of a group of cells: number of intervals, share that holds the mean of the other runs, and spread."""

    name: str
    intervals: int
    share: float
    half_width: float  # median
    wide: float  # nine in ten are narrower
    deviation: float  # from run to run, median cell


def repeated(runs: Sequence[Run]) -> list[Repeated]:
    """Return the cells that at least ``FEWEST`` runs have measured beside a reference."""
    found: dict[str, list[Cell]] = {}
    for cell in (cell for run in runs for cell in run.cells if cell.ratio):
        found.setdefault(cell.case_id, []).append(cell)
    return [repetition(own) for own in found.values() if len(own) >= FEWEST]


def repetition(own: Sequence[Cell]) -> Repeated:
    """Return the ratios of one case in several runs, given its cells."""
    value, low, high = np.array([over_reference(cell) for cell in own], dtype=float).T
    made = [one for cell in own if (one := cell.visited) is not None]
    attention = own[0].info.attention if own[0].info else None
    kind = kernel_kind(fused=attention is None or attention.fused is not False)
    return Repeated(own[0], value, low, high, tuple(one.logs for one in made), kind)


def shared_by_runs(cells: Iterable[Repeated]) -> float | None:
    """Return the share of the variance between visits that visits of one run have in common; None if unknown.

    By analysis of variance: with V visits in each of several runs, the variance of the runs' means exceeds the V-th
    part of the variance within runs by what the visits of a run share. Cells count with equal weight. Below 0 if the
    runs' means lie closer together than chance makes them.
    """
    within, between = [], []
    for cell in cells:
        runs = [np.array(logs) for logs in cell.visits if len(logs) == len(cell.visits[0]) > 1]
        if len(runs) >= FEWEST:
            own = float(np.mean([logs.var(ddof=1) for logs in runs]))
            within.append(own)
            between.append(float(np.var([logs.mean() for logs in runs], ddof=1)) - own / len(runs[0]))
    if not within:
        return None
    shared = float(np.mean(between))
    return shared / (shared + float(np.mean(within)))


def holding(name: str, cells: Sequence[Repeated]) -> Holding:
    """Return the summary of a group of cells."""
    halves = np.concatenate([cell.half_widths for cell in cells])
    held = np.concatenate([cell.held for cell in cells])
    deviations = [cell.deviation for cell in cells]
    wide = float(np.quantile(halves, 0.9))
    return Holding(name, len(held), float(held.mean()), float(np.median(halves)), wide, float(np.median(deviations)))


def by(cells: Iterable[Repeated], key: Callable[[Repeated], str]) -> list[Holding]:
    """Return the summary of each group of cells that share a key, in order of their first cells."""
    groups: dict[str, list[Repeated]] = {}
    for cell in cells:
        groups.setdefault(key(cell), []).append(cell)
    return [holding(name, own) for name, own in groups.items()]


def by_kernel_and_length(cells: Sequence[Repeated]) -> list[Holding]:
    """Return summaries by kind of kernel and T; a T with fewer than ``ENOUGH`` intervals is joined with a neighbour."""
    found = []
    for kind in sorted({cell.group[0] for cell in cells}):
        joined: list[tuple[list[int], list[Repeated]]] = []
        for length in sorted({cell.group[1] for cell in cells if cell.group[0] == kind}):
            own = [cell for cell in cells if cell.group == (kind, length)]
            if joined and intervals(joined[-1][1]) < ENOUGH:
                joined[-1] = ([*joined[-1][0], length], joined[-1][1] + own)
            else:
                joined.append(([length], own))
        if len(joined) > 1 and intervals(joined[-1][1]) < ENOUGH:
            lengths, own = joined.pop()
            joined[-1] = (joined[-1][0] + lengths, joined[-1][1] + own)
        found += [holding(f"{kind}, T = {', '.join(map(str, lengths))}", own) for lengths, own in joined]
    return found


def intervals(cells: Sequence[Repeated]) -> int:
    """Return the number of intervals of these cells."""
    return sum(len(cell.ratios) for cell in cells)


def worst(cells: Sequence[Repeated], count: int = 10) -> list[Repeated]:
    """Return the ``count`` cells whose ratios change most from run to run."""
    return sorted(cells, key=lambda cell: -cell.deviation)[:count]
