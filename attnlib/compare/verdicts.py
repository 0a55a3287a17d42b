"""Verdicts on the difference of two sides: a ratio with its interval, and one of four words."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

EQUAL = 1e-9  # a spread of logarithms that is rounding
ENDLESS = 30.0  # half-width of a log ratio whose interval says nothing, and whose ends are hardly numbers
ALIKE = 10  # cases that can say how like ones spread
# Degrees of freedom that their mean variance is worth. Fitting it to how alike the cases spread, by Smyth's empirical
# Bayes, held in 74 % of simulated runs of which a tenth of the visits were 15 % off; this holds in 95 %.
WEIGHT = 8.0
MANY, TENTH = 10, 0.1  # pairs of workers from which on the lowest and the highest share of them is left out
COVARIATE = 3  # runs a side, the least that leave something after a slope
Replicate = tuple[float, float | None]  # seconds of a case in one run, and of the canary around it


@dataclass(frozen=True)
class Verdict:
    """Ratio new / base, of seconds or of ratios over a reference, with its simultaneous interval and its word.

    Args:
        word: ``faster``, ``slower``, ``same`` or ``undecided``.
        ratio: geometric mean of the new side over that of the base; null without times on both sides.
        low: lower end of the interval; null where there are too few runs to have one.
        high: its upper end.
        detectable: the smallest ratio that this spread would have allowed to call slower.
        runs: replicates that counted, base and new.
        reason: reason why the verdict is undecided.
    """

    word: str
    ratio: float | None
    low: float | None = None
    high: float | None = None
    detectable: float | None = None
    runs: tuple[int, int] = (0, 0)
    reason: str | None = None


class Prior(NamedTuple):
    """Variance expected of a case, from all cases of a comparison, and the degrees of freedom that it counts for."""

    variance: float  # of a logarithm from run to run
    freedoms: float


def prior(variances: Sequence[float], freedoms: Sequence[float]) -> Prior | None:
    """Return the mean variance of cases, worth ``WEIGHT`` degrees of freedom; None for fewer than ``ALIKE`` cases."""
    kept = [(v, d) for v, d in zip(variances, freedoms, strict=True) if v > EQUAL**2 and d > 0]
    if len(kept) < ALIKE:
        return None
    v, d = np.array(kept).T
    return Prior(float(np.average(v, weights=d)), WEIGHT)


def word_for(low: float, high: float, threshold: float) -> str:
    """Return the word for an interval of a ratio: wholly beyond ``threshold``, wholly within it, or neither.

    Args:
        low: lower end.
        high: upper end.
        threshold: the smallest change that matters, as 0.05; a ratio of 1.05 is as far from 1 as 1 / 1.05.
    """
    limit = 1 + threshold
    if low > limit:
        return "slower"
    if high < 1 / limit:
        return "faster"
    return "same" if low >= 1 / limit and high <= limit else "undecided"


def from_log(mean: float, half: float, *, threshold: float, runs: tuple[int, int], reason: str | None) -> Verdict:
    """Return the verdict on a log ratio, given the half-width of its interval; a ``reason`` leaves it undecided."""
    if not half < ENDLESS:  # two runs and a correction for hundreds of tests
        return Verdict("undecided", math.exp(mean), runs=runs, reason=reason or "too few runs for an interval")
    ratio, low, high = (math.exp(mean + side * half) for side in (0, -1, 1))
    word = "undecided" if reason else word_for(low, high, threshold)
    if word == "undecided" and not reason:
        reason = "the interval is too wide" if low <= 1 <= high else "the interval crosses the threshold"
    return Verdict(word, ratio, low, high, (1 + threshold) * math.exp(half), runs, reason)


def between_runs(
    base: Sequence[Replicate],
    new: Sequence[Replicate],
    *,
    confidence: float,
    threshold: float,
    reason: str | None = None,
    others: Prior | None = None,
) -> Verdict:
    """Return the verdict on the values of two sides, one a run, by their logarithms.

    Where every run of ``COVARIATE`` a side has a canary, by analysis of covariance: log t = side + beta log canary, so
    that what slowed the canary down is not held against the case. Either way the intervals are Behrens's and Fisher's,
    which hold when one side is noisier than the other, also far out where many tests share an error.

    Args:
        base: seconds of the case, or its ratio over a reference, and seconds of its canary, one pair a run.
        new: the same, after.
        confidence: confidence of the interval, corrected for the number of tests by the caller.
        threshold: see ``word_for``.
        reason: reason to leave the verdict undecided whatever the times; None without one.
        others: expected variance and its degrees of freedom; None if unknown.
    """
    runs = len(base), len(new)
    if not base or not new:
        return Verdict("undecided", None, runs=runs, reason=reason)
    before, after = (np.log([seconds for seconds, _ in side]) for side in (base, new))
    mean = float(after.mean() - before.mean())
    if min(runs) < 2:
        return Verdict("undecided", math.exp(mean), runs=runs, reason=reason or "one run has no spread")
    heard = [[canary for _, canary in side if canary is not None] for side in (base, new)]
    if max(np.ptp(before), np.ptp(after)) < EQUAL:  # no spread but rounding, of which no t interval can be made
        half = 0.0
    # without a spread of the canary there is no slope on it
    elif tuple(map(len, heard)) == runs and min(runs) >= COVARIATE and any(np.ptp(side) > 0 for side in heard):
        mean, half = covariance(before, after, (np.log(heard[0]), np.log(heard[1])), confidence)
    else:
        own, weight = others or Prior(0.0, 0.0)
        freedoms = [n - 1 + weight for n in runs]
        sides = zip((before, after), runs, freedoms, strict=True)
        # standard error of each mean, from its own variance and that of all cases, by degrees of freedom
        scales = [float(np.sqrt(((n - 1) * y.var(ddof=1) + weight * own) / d / n)) for y, n, d in sides]
        half = behrens_fisher(scales, freedoms, confidence)
    return from_log(mean, half, threshold=threshold, runs=runs, reason=reason)


def covariance(
    base: np.ndarray, new: np.ndarray, canaries: tuple[np.ndarray, np.ndarray], confidence: float
) -> tuple[float, float]:
    """Return the difference new - base at equal canary, and its interval's half-width; the sides' spreads may differ.

    beta is the slope of y on the canary within the sides. A side of n runs leaves it n - 1 - h degrees of freedom, h
    being its share of the canary's sum of squares, and weighs in the difference with 1 / n for its mean and, for beta,
    with the squared distance between the sides' canaries times h over the sum of squares.
    """
    sides = list(zip((base, new), canaries, strict=True))
    n = np.array([len(y) for y, _ in sides])
    # about each side's own mean, so that the slope does not take up the difference of the sides
    squares = np.array([((x - x.mean()) ** 2).sum() for _, x in sides])
    beta = sum(((x - x.mean()) * (y - y.mean())).sum() for y, x in sides) / squares.sum()
    # what the canary leaves unexplained, a sum of squares a side
    left = np.array([((y - y.mean() - beta * (x - x.mean())) ** 2).sum() for y, x in sides])
    share, apart = squares / squares.sum(), canaries[1].mean() - canaries[0].mean()
    freedoms = n - 1 - share
    scales = np.sqrt(left / freedoms * (1 / n + apart**2 * share / squares.sum()))
    difference = float(new.mean() - base.mean() - beta * apart)
    return difference, behrens_fisher(scales, freedoms, confidence)


def behrens_fisher(scales: Sequence[float], freedoms: Sequence[float], confidence: float) -> float:
    """Return h with P(|a t + b t'| < h) = ``confidence``; t and t' are Student's with these degrees of freedom.

    Fisher's answer to Behrens's problem: a little wide where both sides spread alike, and never too narrow. Welch's
    degrees of freedom are too many far out: at six runs a side and spreads of 0.02 and 0.15, an interval that should
    miss once in 6,400 missed three times as often.
    """
    from scipy import optimize

    unit = float(max(scales))
    if unit == 0:  # the canary explains everything
        return 0.0
    # in units of the larger scale a search for the root begins at 1, however small the spreads are
    shares, level, most = [float(scale) / unit for scale in scales], 1 - confidence, 1.0
    while beyond(most, shares, freedoms) > level:
        most *= 2
    return unit * float(optimize.brentq(lambda half: beyond(half, shares, freedoms) - level, 0.0, most, rtol=1e-6))


def beyond(half: Any, scales: Sequence[Any], freedoms: Sequence[Any]) -> Any:
    """Return the probability that |a t + b t'| exceeds ``half``; arrays give arrays.

    It integrates the larger term's tails over the density of the smaller one's t: with t = sinh(s) the trapezoidal
    rule converges at once.
    """
    from scipy import special

    # a last axis of 1, along which the points of the integral lie
    x, y, own, other = (np.asarray(v, dtype=float)[..., None] for v in (*scales, *freedoms))
    a, b = np.minimum(x, y), np.maximum(x, y)
    own, other = np.where(x <= y, own, other), np.where(x <= y, other, own)
    s, limit = np.linspace(-25.0, 25.0, 1001), np.asarray(half)[..., None]
    t = np.sinh(s)
    log_density = special.gammaln((own + 1) / 2) - special.gammaln(own / 2) - np.log(own * np.pi) / 2
    # density of t, times dt = cosh(s) ds
    weights = np.exp(log_density - (own + 1) / 2 * np.log1p(t**2 / own)) * np.cosh(s) * (s[1] - s[0])
    # P(a t + b t' > limit) and P(a t + b t' < -limit) given t, as lower tails, which are exact where they are small
    outside = special.stdtr(other, (a * t - limit) / b) + special.stdtr(other, (-a * t - limit) / b)
    return (outside * weights).sum(-1)


def of_pairs(
    logs: Sequence[float], *, confidence: float, threshold: float, reason: str | None = None, trim: bool = False
) -> Verdict:
    """Return the verdict by a t interval on log ratios new / base, one a pair; other arguments as in ``between_runs``.

    With ``trim``, from ``MANY`` pairs on, the interval is that of the mean without the lowest and the highest tenth
    (Tukey and McLaughlin's, of the winsorised variance): a pair in which the machine changed for one side alone is far
    off, and would widen the interval of the plain mean by as much.
    """
    from scipy import stats

    runs = len(logs), len(logs)
    if len(logs) < 2:
        ratio = math.exp(logs[0]) if logs else None
        return Verdict("undecided", ratio, runs=runs, reason=reason or "one pair has no spread")
    if not trim or len(logs) < MANY or np.ptp(logs) < EQUAL:
        half = float(stats.t.ppf((1 + confidence) / 2, len(logs) - 1) * stats.sem(logs))
        return from_log(float(np.mean(logs)), half, threshold=threshold, runs=runs, reason=reason)
    low, high = stats.mstats.trimmed_mean_ci(logs, limits=(TENTH, TENTH), alpha=1 - confidence)
    mean, half = float(low + high) / 2, float(high - low) / 2
    return from_log(mean, half, threshold=threshold, runs=runs, reason=reason)
