"""A number with its interval, and the t interval of a mean over runs or seeds."""

import math
from bisect import bisect_left
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from attnlib.errors import message

MOST = 10_000  # largest number of values that is worth stating


class Estimate(NamedTuple):
    """A number and the bounds of its 95 % interval, which equal the number if it has no interval."""

    value: float
    low: float
    high: float

    def exp(self) -> "Estimate":
        """Return the exponential of the number and of its bounds."""
        return Estimate(*map(math.exp, self))


def t_interval(values: Sequence[float], confidence: float = 0.95) -> Estimate:
    """Return the mean with its t interval; for one value, or equal ones, the bounds are the mean itself.

    Args:
        values: one a run or seed.
        confidence: probability with which the interval holds the mean.

    Raises:
        ValueError: there are no values.
    """
    from scipy import special  # a tenth of a second that collecting need not pay; scipy.stats would take one

    if not values:
        raise ValueError(message("no values"))
    mean = float(np.mean(values))
    if len(values) == 1 or np.ptp(values) == 0:
        return Estimate(mean, mean, mean)
    half = float(special.stdtrit(len(values) - 1, (1 + confidence) / 2) * np.std(values, ddof=1) / np.sqrt(len(values)))
    return Estimate(mean, mean - half, mean + half)


def count_needed(values: Sequence[float], margin: float, confidence: float) -> int | None:
    """Return the number of values, more than there are, whose t interval would contain no end of a margin.

    Args:
        values: two or more, whose mean and spread are taken to stay as they are.
        margin: its ends are ``margin`` and ``-margin``.
        confidence: probability with which the interval holds the mean.

    Returns:
        The number, or None if it is larger than ``MOST``.
    """
    from scipy import special

    room = abs(abs(float(np.mean(values))) - margin)  # from the mean to the nearest end
    spread = float(np.std(values, ddof=1))

    def decides(count: int) -> bool:
        return bool(special.stdtrit(count - 1, (1 + confidence) / 2) * spread / count**0.5 < room)

    found = bisect_left(range(MOST + 1), True, lo=len(values) + 1, key=decides)
    return found if found <= MOST else None


def share_interval(share: float, count: int) -> Estimate:
    """Return a share of independent examples with its 95 % interval (Clopper, Pearson; doi 10.1093/biomet/26.4.404)."""
    from scipy import special

    right = min(count, round(share * count))
    low = special.betaincinv(right, count - right + 1, 0.025) if right else 0.0
    high = special.betaincinv(right + 1, count - right, 0.975) if right < count else 1.0
    return Estimate(share, float(low), float(high))


def mean_share(shares: Sequence[float]) -> Estimate:
    """Return the mean of shares with its 95 % t interval, cut to [0, 1]; raises as ``t_interval``."""
    found = t_interval(shares)
    return Estimate(found.value, max(0.0, found.low), min(1.0, found.high))


def mean_over_runs(values: Sequence[float]) -> Estimate | None:
    """Return the mean of one value a run with its 95 % t interval; None without values."""
    return t_interval(values) if values else None
