"""Steps that trainings take to an event, where some never come to it: medians and tests for censored numbers."""

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from attnlib.compare.intervals import Estimate
from attnlib.errors import message


class Steps(NamedTuple):
    """Steps of one training until an event, or, if ``seen`` is False, steps after which it had not come to it."""

    steps: float
    seen: bool


@dataclass(frozen=True)
class Median:
    """Median number of steps to an event over trainings.

    Args:
        steps: Kaplan and Meier's median (doi 10.1080/01621459.1958.10501452); None if fewer than half come to it.
        low: lower end of its 95 % interval; None without a bound.
        high: upper end of its 95 % interval; None without a bound.
        seen: trainings that came to the event.
        trainings: all trainings.
    """

    steps: float | None
    low: float | None
    high: float | None
    seen: int
    trainings: int

    def times(self, factor: Estimate) -> "Median":
        """Return the median and its bounds multiplied by a number and its bounds, such as the seconds of a step."""
        ends = zip((self.steps, self.low, self.high), factor, strict=True)
        steps, low, high = (None if own is None else own * by for own, by in ends)
        return Median(steps, low, high, self.seen, self.trainings)


def median_steps(found: Sequence[Steps]) -> Median:
    """Return the median number of steps to an event, with the interval of Brookmeyer and Crowley (doi 10.2307/2530286).

    The interval inverts the 95 % interval of the share that has not come to the event, in log-log terms.

    Raises:
        ValueError: there are no trainings.
    """
    from scipy import stats

    if not found:
        raise ValueError(message("no trainings"))
    seen = sum(one.seen for one in found)
    if not seen:
        return Median(None, None, None, 0, len(found))
    left = stats.ecdf(censored(found)).sf
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # no bounds where every training has come to the event
        bounds = left.confidence_interval(method="log-log")
    median, low, high = (first_below(left.quantiles, one.probabilities) for one in (left, bounds.low, bounds.high))
    return Median(median, median if low is None else low, high, seen, len(found))


def first_below(steps: np.ndarray, shares: np.ndarray) -> float | None:
    """Return the first number of steps at which a share is at most one half; None if it never is, or is unknown."""
    below = np.flatnonzero(np.nan_to_num(shares, nan=1.0) <= 0.5)
    return float(steps[below[0]]) if len(below) else None


def differ(one: Sequence[Steps], other: Sequence[Steps]) -> float | None:
    """Return the p-value of the log-rank test that two groups take equally many steps; None if no event was seen."""
    from scipy import stats

    if not any(steps.seen for steps in (*one, *other)):
        return None
    if len({*one, *other}) == 1:  # equal, without any spread that could be tested
        return 1.0
    return float(stats.logrank(censored(one), censored(other)).pvalue)


def censored(found: Sequence[Steps]) -> Any:
    """Return the steps as scipy takes them."""
    from scipy import stats

    seen, unseen = ([one.steps for one in found if one.seen == which] for which in (True, False))
    return stats.CensoredData(uncensored=seen, right=unseen)
