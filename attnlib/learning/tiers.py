"""Tiers: groups of encodings that cannot be told apart from the best one of the group, by paired differences."""

from collections.abc import Mapping
from math import comb
from typing import NamedTuple

import numpy as np

from attnlib.compare.intervals import Estimate, t_interval


class Tiered(NamedTuple):
    """An encoding's place.

    Args:
        name: of the encoding.
        tier: number of its tier, 1 the best.
        leader: encoding with the highest mean of the tier.
        behind: mean of the encoding minus that of its tier's leader, with the interval that holds for all pairs
            together; None for the leader itself.
    """

    name: str
    tier: int
    leader: str
    behind: Estimate | None


def tiers(values: Mapping[str, Mapping[int, float]], step: float = 0.0) -> list[Tiered]:
    """Return encodings from the best to the worst, each with its tier.

    The one with the highest mean leads the first tier. In its tier is whatever has an interval of the paired difference
    to it that holds 0; the best of the others leads the next tier, and so on. The intervals are Student's over the
    seeds, with confidence 1 - 0.05 / (number of pairs), so that all hold together (Bonferroni).

    Args:
        values: accuracy by encoding and seed. Seeds that two encodings do not share are left out of their difference.
        step: smallest possible difference of accuracies: the half-width of the interval of equal differences.
    """
    left = sorted(values, key=lambda name: -float(np.mean(list(values[name].values()))))
    confidence = 1 - 0.05 / max(1, comb(len(left), 2))
    found: list[Tiered] = []
    tier = 0
    while left:
        leader, tier = left[0], tier + 1
        gaps = {name: difference(values[name], values[leader], confidence, step) for name in left[1:]}
        alike = [name for name, gap in gaps.items() if gap is None or gap.low <= 0 <= gap.high]
        found += [Tiered(leader, tier, leader, None), *(Tiered(name, tier, leader, gaps[name]) for name in alike)]
        left = [name for name in left[1:] if name not in alike]
    return found


def difference(own: Mapping[int, float], base: Mapping[int, float], confidence: float, step: float) -> Estimate | None:
    """Return the mean difference over shared seeds with its interval; None with fewer than two of them."""
    seeds = sorted(own.keys() & base.keys())
    if len(seeds) < 2:
        return None
    found = t_interval([own[seed] - base[seed] for seed in seeds], confidence)
    return Estimate(found.value, found.value - step, found.value + step) if found.low == found.high else found
