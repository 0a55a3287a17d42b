"""Whether one way of learning is as good as another: differences of a seed, and one of four words."""

from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from attnlib.compare.intervals import Estimate, t_interval

MARGIN = 0.01  # of accuracy, fixed before anything was trained: less is no difference that one would act on
MOST = 10_000  # seeds that anybody would train


@dataclass(frozen=True)
class Equivalence:
    """A mean difference, its interval, and what it says.

    Args:
        word: ``better`` or ``worse`` where the whole interval lies beyond the margin, ``equivalent`` where it lies
            within, else ``undecided``.
        difference: of accuracies.
        seeds: pairs that it rests on.
        needed: seeds after which these mean and spread would decide; None where they have, or where none would do.
    """

    word: str
    difference: Estimate
    seeds: int
    needed: int | None = None


def verdict(differences: Sequence[float], *, margin: float = MARGIN, tests: int = 1, step: float = 0.0) -> Equivalence:
    """Two one-sided tests at each end of the margin, read off one t interval (Schuirmann, doi 10.1007/BF01068419).

    Args:
        differences: new minus base, one a seed; two at least say something.
        margin: the greatest difference that does not matter.
        tests: verdicts that are to hold together: each interval has confidence 1 - 0.05 / tests (Bonferroni).
        step: the least by which accuracies can differ, one test example: the half-width where all differences are
            equal, which is no proof that there is no spread.

    Raises:
        ValueError: there are no differences.
    """
    confidence = 1 - 0.05 / tests
    found = t_interval(differences, confidence)
    seeds = len(differences)
    if found.low == found.high:
        found = Estimate(found.value, found.value - step, found.value + step)
    if seeds < 2:
        return Equivalence("undecided", found, seeds)
    if found.low > margin:
        return Equivalence("better", found, seeds)
    if found.high < -margin:
        return Equivalence("worse", found, seeds)
    if found.low >= -margin and found.high <= margin:
        return Equivalence("equivalent", found, seeds)
    return Equivalence("undecided", found, seeds, needed(differences, margin, confidence))


def needed(differences: Sequence[float], margin: float, confidence: float) -> int | None:
    """How many seeds would decide if mean and spread stayed as they are; None where more than ``MOST`` would be."""
    from scipy import special

    room = abs(abs(float(np.mean(differences))) - margin)
    spread = float(np.std(differences, ddof=1))

    def decides(seeds: int) -> bool:
        return bool(special.stdtrit(seeds - 1, (1 + confidence) / 2) * spread / seeds**0.5 < room)

    found = bisect_left(range(MOST + 1), True, lo=len(differences), key=decides)
    return found if found <= MOST else None
