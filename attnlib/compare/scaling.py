"""Fits of time against length or depth: sums of powers with non-negative coefficients, never one exponent."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from attnlib.compare.cells import Cells
from attnlib.compare.intervals import Estimate, mean_over_runs
from attnlib.runs.load import Cell

LENGTH, DEPTH = (0, 1, 2), (0, 1)  # powers of T and of L
RESAMPLES = 2000
SIZES, RANGE = 5, 16  # fewer, or a narrower range, cannot tell a square from a line
SHARE = 0.05  # of the time at the largest size: the least that a term is worth a name
STRAIGHT = 0.05  # the largest relative deviation of a line


@dataclass(frozen=True)
class Fit:
    """Seconds as a sum of powers of a size, t(n) = sum_p c_p n^p with c_p >= 0.

    Args:
        sizes: n, ascending.
        powers: p.
        terms: c_p n^p at the largest n, in seconds; so ``terms[p] / sum(terms)`` is a share of the time there.
        samples: the same from bootstrap resamples of the runs, ``[resamples, powers]``, not held above 0, which would
            hide their spread; none with one run.
        seconds: mean over the runs at each size.
        deviations: largest relative deviation of each resample from its own fit.
        runs: number of runs.
    """

    sizes: tuple[float, ...]
    powers: tuple[int, ...]
    terms: tuple[float, ...]
    samples: np.ndarray
    seconds: tuple[float, ...]
    deviations: np.ndarray
    runs: int

    def coefficient(self, power: int) -> float:
        """Return c_p in seconds per n^p."""
        return self.terms[self.powers.index(power)] / self.sizes[-1] ** power

    def around(self, value: float, samples: np.ndarray, most: float = np.inf) -> Estimate:
        """Return ``value`` with the 95 % t interval of its bootstrap standard error; without one for a single run.

        The interval is that of the samples' mean, cut to [0, most] and widened if need be to hold ``value``, whose
        coefficients, unlike the samples', are not below 0.
        """
        from scipy import special

        if self.runs < 2:
            return Estimate(value, value, value)
        error = samples.std() * np.sqrt(self.runs / (self.runs - 1))  # resamples of n runs spread by (n - 1) / n
        half = special.stdtrit(self.runs - 1, 0.975) * error
        low, high = np.clip([samples.mean() - half, samples.mean() + half], 0.0, most)
        return Estimate(value, min(value, float(low)), max(value, float(high)))

    def between(self, value: float, samples: np.ndarray) -> Estimate:
        """Return a skewed ``value`` with the 95 % percentile interval of its bootstrap values; none for a single run.

        Percentiles of few runs are too narrow; they are taken further out by as much as Student's t is wider than the
        normal distribution (the expanded percentile interval of arXiv 1411.5279).
        """
        from scipy import special

        if self.runs < 2:
            return Estimate(value, value, value)
        tail = special.ndtr(np.sqrt(self.runs / (self.runs - 1)) * special.stdtrit(self.runs - 1, 0.025))
        low, high = np.quantile(samples, [tail, 1 - tail], method="closest_observation")
        return Estimate(value, float(low), float(high))

    def term(self, power: int) -> Estimate:
        """Return c_p with its interval."""
        scale = self.sizes[-1] ** power
        return self.around(self.coefficient(power), self.samples[:, self.powers.index(power)] / scale)

    def share(self, power: int) -> Estimate:
        """Return the share of a term in the time at the largest size, with its interval."""
        place = self.powers.index(power)
        value = self.terms[place] / sum(self.terms)
        return self.around(value, self.samples[:, place] / self.samples.sum(axis=1), most=1.0)

    def crossover(self) -> Estimate | None:
        """Return the size b / c, beyond which the quadratic term exceeds the linear one; None if c is 0."""
        b, c = self.terms[1:]
        drawn = np.full(len(self.samples), np.inf)
        np.divide(self.samples[:, 1].clip(0), self.samples[:, 2], out=drawn, where=self.samples[:, 2] > 0)
        return None if c == 0 else self.between(float(self.sizes[-1] * b / c), self.sizes[-1] * drawn)

    def at(self, size: float) -> float:
        """Return the predicted seconds at a size."""
        return sum(term * (size / self.sizes[-1]) ** power for term, power in zip(self.terms, self.powers, strict=True))

    @property
    def deviation(self) -> float:
        """Largest relative deviation of the fit from the mean times."""
        return max(abs(self.at(n) / t - 1) for n, t in zip(self.sizes, self.seconds, strict=True))

    @property
    def quadratic(self) -> str:
        """Verdict: ``quadratic``, ``absent``, ``not identifiable``, ``range too small`` or ``undecided: one run``.

        Quadratic: the interval of c excludes 0 and the term has at least ``SHARE`` of the time at the largest size.
        Absent: the interval of its share ends below ``SHARE``.
        """
        if len(self.sizes) < SIZES or self.sizes[-1] < RANGE * self.sizes[0]:
            return "range too small"
        if self.runs < 2:
            return "undecided: one run"
        share = self.share(2)
        if self.term(2).low > 0 and share.value >= SHARE:
            return "quadratic"
        return "absent" if share.high < SHARE else "not identifiable"

    @property
    def straight(self) -> str:
        """Verdict: ``linear``, ``not linear``, ``not identifiable``, ``range too small`` or ``undecided: one run``.

        By the interval of the largest relative deviation from the line: within ``STRAIGHT``, beyond it, or across it.
        Two sizes always lie on a line, hence three.
        """
        if len(self.sizes) < 3 or self.sizes[-1] < RANGE * self.sizes[0]:
            return "range too small"
        if self.runs < 2:
            return "undecided: one run"
        _, low, high = self.between(self.deviation, self.deviations)
        if high <= STRAIGHT:
            return "linear"
        return "not linear" if low > STRAIGHT else "not identifiable"


def fit(sizes: Sequence[float], times: np.ndarray, powers: tuple[int, ...], seed: int = 0) -> Fit:
    """Fit powers of a size to run medians: least squares of the relative residuals, coefficients non-negative.

    Args:
        sizes: ascending, ``[n]``.
        times: seconds, ``[runs, n]``.
        powers: powers p, ascending.
        seed: seed of the bootstrap, which draws whole runs.
    """
    draws = RESAMPLES if len(times) > 1 else 0
    drawn = np.random.default_rng(seed).integers(len(times), size=(draws, len(times)))
    means, design = times[drawn].mean(axis=1), relative_sizes(sizes, powers)
    weighted = design / means[:, :, None]
    normal = weighted.swapaxes(1, 2)
    samples = np.linalg.solve(normal @ weighted, normal.sum(axis=2)[:, :, None])[:, :, 0]
    deviations = np.abs(samples @ design.T / means - 1).max(axis=1, initial=0.0)
    mean = times.mean(axis=0)
    terms = tuple(nonnegative(sizes, mean, powers).tolist())
    return Fit(tuple(sizes), powers, terms, samples, tuple(mean.tolist()), deviations, len(times))


def relative_sizes(sizes: Sequence[float], powers: Sequence[int]) -> np.ndarray:
    """Return (n / largest n)^p, ``[n, powers]``: well conditioned, with coefficients in seconds at the largest n."""
    return np.asarray((np.asarray(sizes, dtype=float) / sizes[-1])[:, None] ** np.asarray(powers))


def nonnegative(sizes: Sequence[float], times: np.ndarray, powers: Sequence[int]) -> np.ndarray:
    """Return the terms at the largest size that minimise sum(((fit - t) / t)^2), none below 0."""
    from scipy import optimize

    solution, _ = optimize.nnls(relative_sizes(sizes, powers) / times[:, None], np.ones(len(times)))
    return np.asarray(solution)


def complete(cells: Cells, points: Sequence[tuple[float, list[Cell]]]) -> tuple[list[float], np.ndarray]:
    """Return the sizes at which any run has a time, and times ``[runs, sizes]`` of the runs that have them all."""
    timed = [(size, {cell.case_id for cell in group}) for size, group in points if any(c.median for c in group)]
    rows = []
    for own in cells.times:
        row = [next((own[i].value for i in ids if i in own), None) for _, ids in timed]
        if None not in row:
            rows.append(row)
    return [size for size, _ in timed], np.array(rows, dtype=float)


def slopes(sizes: Sequence[float], times: np.ndarray) -> list[Estimate]:
    """Return the exponents between neighbouring sizes, d log t / d log n, each with its 95 % interval over the runs."""
    local = np.diff(np.log(times), axis=1) / np.diff(np.log(sizes))
    return [interval for column in local.T if (interval := mean_over_runs(column.tolist()))]


class Line(NamedTuple):
    """Cases that differ in one size only: one of their cells, the fit, and the times ``[runs, sizes]``."""

    cell: Cell
    fit: Fit
    times: np.ndarray


def lines(cells: Cells, name: str, **fields: Any) -> list[Line]:
    """Return a fit along ``seq_len`` or ``depth`` for all cases that differ in nothing else and have three sizes.

    They are sorted by phase, encoding and the other size.
    """
    groups: dict[tuple[Any, ...], list[tuple[float, list[Cell]]]] = {}
    for group in cells.where(**fields):
        case = group[0].fields
        rest = tuple(value for key, value in case.items() if key != name)
        groups.setdefault(rest, []).append((case[name], group))
    order = cells.names("pe").index
    found = []
    for points in groups.values():
        sizes, times = complete(cells, sorted(points, key=lambda point: point[0]))
        if len(sizes) >= 3 and len(times):
            found.append(Line(points[0][1][0], fit(sizes, times, LENGTH if name == "seq_len" else DEPTH), times))
    other = "depth" if name == "seq_len" else "seq_len"
    return sorted(found, key=lambda line: (line.cell.case.phase, order(line.cell.case.pe), line.cell.fields[other]))


def flop_crossover(cells: Cells, line: Line) -> float | None:
    """Return the T beyond which quadratic FLOPs exceed linear ones, by formula; None if never or unknown."""
    case = line.cell.fields
    points = cells.where(**{key: value for key, value in case.items() if key != "seq_len"})
    flops = sorted((g[0].case.seq_len, f) for g in points if (f := next((c.cost.flops for c in g), None)))
    if len(flops) < 3:
        return None
    sizes, counts = zip(*flops, strict=True)
    _, b, c = nonnegative(sizes, np.array(counts, dtype=float), LENGTH)
    return None if c == 0 else float(sizes[-1] * b / c)
