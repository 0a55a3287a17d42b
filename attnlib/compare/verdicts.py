"""When two sides differ: a ratio with its interval, and one of four words."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

EQUAL = 1e-9  # a spread of logarithms that is rounding
ENDLESS = 30.0  # half-width of a log ratio whose interval says nothing, and whose ends are hardly numbers
COVARIATE = 3  # runs a side, the least that leave something after a slope
Replicate = tuple[float, float | None]  # seconds of a case in one run, and of the canary around it


@dataclass(frozen=True)
class Verdict:
    """A ratio new / base of seconds, with its simultaneous interval, and what may be said about it.

    Args:
        word: ``faster``, ``slower``, ``same`` or ``undecided``.
        ratio: geometric mean of the new side over that of the base; null without times on both sides.
        low: lower end of the interval; null where there are too few runs to have one.
        high: its upper end.
        detectable: the smallest ratio that this spread would have allowed to call slower.
        runs: replicates that counted, base and new.
        reason: why it is undecided.
    """

    word: str
    ratio: float | None
    low: float | None = None
    high: float | None = None
    detectable: float | None = None
    runs: tuple[int, int] = (0, 0)
    reason: str | None = None


def word_for(low: float, high: float, threshold: float) -> str:
    """What an interval of a ratio says: beyond ``threshold`` as a whole, within it as a whole, or neither.

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
    """The verdict on a log ratio with the half-width of its interval; a ``reason`` leaves it undecided."""
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
) -> Verdict:
    """The verdict on two sides' run medians, by their logarithms.

    Where every run of ``COVARIATE`` a side has a canary, by analysis of covariance: log t = side + beta log canary, so
    that what slowed the canary down is not held against the case. Else by Welch's t interval.

    Args:
        base: seconds of the case and of its canary, one pair a run.
        new: the same, after.
        confidence: of the interval, corrected for the number of tests by the caller.
        threshold: see ``word_for``.
        reason: why it must stay undecided whatever the times.
    """
    from scipy import stats  # half a second that an exact comparison need not pay

    runs = len(base), len(new)
    if not base or not new:
        return Verdict("undecided", None, runs=runs, reason=reason)
    before, after = (np.log([seconds for seconds, _ in side]) for side in (base, new))
    mean = float(after.mean() - before.mean())
    if min(runs) < 2:
        return Verdict("undecided", math.exp(mean), runs=runs, reason=reason or "one run has no spread")
    heard = [[canary for _, canary in side if canary is not None] for side in (base, new)]
    if max(np.ptp(before), np.ptp(after)) < EQUAL:
        half = 0.0
    elif tuple(map(len, heard)) == runs and min(runs) >= COVARIATE and any(np.ptp(side) > 0 for side in heard):
        mean, half = covariance(before, after, (np.log(heard[0]), np.log(heard[1])), confidence)
    else:
        low, high = stats.ttest_ind(after, before, equal_var=False).confidence_interval(confidence)
        half = float(high - low) / 2
    return from_log(mean, half, threshold=threshold, runs=runs, reason=reason)


def covariance(
    base: np.ndarray, new: np.ndarray, canaries: tuple[np.ndarray, np.ndarray], confidence: float
) -> tuple[float, float]:
    """Difference new - base at equal canary, with the half-width of its interval; the sides' spreads may differ.

    beta is the slope of y on the canary within the sides. What it leaves is compared as in Welch's test, with its
    degrees of freedom less one, and beta's own error times the distance between the sides' canaries is added.
    """
    from scipy import stats

    sides = list(zip((base, new), canaries, strict=True))
    n = np.array([len(y) for y, _ in sides])
    x_squared = sum(((x - x.mean()) ** 2).sum() for _, x in sides)
    beta = sum(((x - x.mean()) * (y - y.mean())).sum() for y, x in sides) / x_squared
    left = np.array([((y - y.mean() - beta * (x - x.mean())) ** 2).sum() for y, x in sides])
    lost = (n.sum() - 2) / (n.sum() - 3)  # beta took one of the degrees of freedom
    errors = left / (n - 1) * lost / n
    apart = canaries[1].mean() - canaries[0].mean()
    difference = float(new.mean() - base.mean() - beta * apart)
    if not errors.any():  # the canary explains everything
        return difference, 0.0
    freedom = errors.sum() ** 2 / (errors**2 / (n - 1)).sum() - 1
    variance = errors.sum() + apart**2 * left.sum() / (n.sum() - 3) / x_squared
    half = stats.t.ppf((1 + confidence) / 2, freedom) * np.sqrt(variance)
    return difference, float(half)


def of_pairs(logs: Sequence[float], *, confidence: float, threshold: float, reason: str | None = None) -> Verdict:
    """The verdict of a t interval on log ratios new / base, one a pair; others as in ``between_runs``."""
    from scipy import stats

    runs = len(logs), len(logs)
    if len(logs) < 2:
        ratio = math.exp(logs[0]) if logs else None
        return Verdict("undecided", ratio, runs=runs, reason=reason or "one pair has no spread")
    half = float(stats.t.ppf((1 + confidence) / 2, len(logs) - 1) * stats.sem(logs))
    return from_log(float(np.mean(logs)), half, threshold=threshold, runs=runs, reason=reason)
