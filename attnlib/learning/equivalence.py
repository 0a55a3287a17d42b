"""Equivalence of two ways of learning: a verdict in one word from paired differences of accuracy."""

from collections.abc import Sequence
from dataclasses import dataclass

from attnlib.compare.intervals import Estimate, count_needed, t_interval

MARGIN = 0.01  # largest difference of accuracies that does not matter; fixed before anything was trained


@dataclass(frozen=True)
class Equivalence:
    """A mean difference of accuracies with its interval, and the verdict.

    Args:
        word: ``better`` or ``worse`` if the whole interval lies beyond the margin, ``equivalent`` if it lies within,
            else ``undecided``.
        difference: mean difference of accuracies with its interval.
        seeds: number of pairs.
        needed: seeds that would decide with this mean and spread; None if decided, or if no number would.
    """

    word: str
    difference: Estimate
    seeds: int
    needed: int | None = None


def verdict(differences: Sequence[float], *, margin: float = MARGIN, tests: int = 1, step: float = 0.0) -> Equivalence:
    """Return the verdict of two one-sided tests at each end of the margin (Schuirmann, doi 10.1007/BF01068419).

    The tests are read off one t interval of the mean difference.

    Args:
        differences: accuracy of new minus base, one a seed; with one seed the verdict is ``undecided``.
        margin: largest difference that does not matter.
        tests: number of verdicts that hold together: each interval has confidence 1 - 0.05 / tests (Bonferroni).
        step: smallest possible difference of accuracies (one test example): the interval's half-width if all
            differences are equal, which does not prove that they have no spread.

    Raises:
        ValueError: there are no differences.
    """
    confidence = 1 - 0.05 / tests
    found = t_interval(differences, confidence)
    seeds = len(differences)
    if found.low == found.high:
        found = Estimate(found.value, found.value - step, found.value + step)
    found = Estimate(found.value, max(-1.0, found.low), min(1.0, found.high))  # no accuracies differ by more
    if seeds < 2:
        return Equivalence("undecided", found, seeds)
    if found.low > margin:
        return Equivalence("better", found, seeds)
    if found.high < -margin:
        return Equivalence("worse", found, seeds)
    if found.low >= -margin and found.high <= margin:
        return Equivalence("equivalent", found, seeds)
    return Equivalence("undecided", found, seeds, count_needed(differences, margin, confidence))
