"""How many rounds a case gets: warm-up until steady, a short pilot, then a number that is fixed before measuring."""

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from attnlib.measure.rounds import Side, rounds, turn

MIN_ROUNDS = 6  # with fewer no order statistics bound the median at 95 %
SOME = 12  # rounds that are taken however alike a pilot's few were, if the budget has them: one outlier moves no end
MAX_ROUNDS = 2000
STEADY, WINDOW = 0.05, 3  # warm once a window of calls is not faster than the one before by this share
WARM = 0.1  # share of the budget that goes into warming up at most
SLOW = 5  # times the budget: where the least number of rounds takes so long, no call is spent on warming up
MIN_ROUND_SECONDS = 1e-3  # shorter steps are repeated within a round, so that the clock's share stays below 0.1 %


@dataclass(frozen=True)
class Pilot:
    """What warm-up and pilot fixed of a case, in seconds and counts."""

    warmup_calls: int
    warmup_s: float
    steady: bool | None  # whether more warming up no longer made it faster; None where too slow to tell
    pilot_s: tuple[float, ...]  # a step
    iterations: tuple[int, ...]  # steps a round, of each side
    rounds: int  # of each side
    stop_reason: str
    spent_s: float  # in pilot rounds, by all sides

    def as_json(self) -> dict[str, Any]:
        """What is saved of it."""
        first = self.iterations[0] if len(self.iterations) > 1 else None
        return asdict(self) | {"iterations": self.iterations[-1], "reference_iterations": first}


def median_interval(samples: Sequence[float], confidence: float = 0.95) -> tuple[float, float] | None:
    """Distribution-free interval of the median from order statistics; None with fewer than ``MIN_ROUNDS`` samples.

    It holds for independent samples: rounds of one process are not, so it speaks of this run only.
    """
    from scipy import special  # a tenth of a second that collecting need not pay

    ordered = sorted(samples)
    if len(ordered) < MIN_ROUNDS:
        return None
    tail = special.bdtr(np.arange(len(ordered)), len(ordered), 0.5)  # P(at most k samples lie below the median)
    rank = int(np.searchsorted(tail, (1 - confidence) / 2, side="right"))
    return ordered[rank - 1], ordered[-rank]


def over(reference: Sequence[float], case: Sequence[float]) -> tuple[float, float, float]:
    """A case's time over its reference's, with the 95 % interval of this run.

    Rounds of the two that took turns in ``abba`` lie beside each other one by one: the ratio is the median over these
    pairs, and its interval that of a median, see ``median_interval``.

    Args:
        reference: seconds of its rounds, at least ``MIN_ROUNDS``.
        case: seconds of as many.
    """
    logs = np.log(case) - np.log(reference)
    low, high = median_interval(logs.tolist()) or (float(logs.min()), float(logs.max()))
    return float(np.exp(np.median(logs))), float(np.exp(low)), float(np.exp(high))


def rounds_for(logs: Sequence[float], *, each: float, precision: float, seconds: float) -> tuple[int, str]:
    """Rounds that should bring the median's relative half-width to ``precision`` within ``seconds``, and what bound.

    The standard error of a median is about 1.253 s / sqrt(n), with s taken robustly from the pilot's quartiles.

    Args:
        logs: logarithm of each pilot round, or of the ratio of each pair.
        each: seconds of a round, or of a pair.
        precision: wished half-width of the 95 % interval, relative to the median.
        seconds: left for the rounds.

    Returns:
        the number of rounds or pairs, in [``MIN_ROUNDS``, ``MAX_ROUNDS``], and ``precision``, ``budget``,
        ``min_rounds`` or ``max_rounds``.
    """
    spread = float(np.subtract(*np.percentile(logs, [75, 25]))) / 1.349
    wished = max(SOME, math.ceil((1.96 * 1.253 * spread / precision) ** 2))
    bounds = {"precision": wished, "budget": int(seconds / each), "max_rounds": MAX_ROUNDS}
    reason = min(bounds, key=lambda name: bounds[name])
    return (MIN_ROUNDS, "min_rounds") if bounds[reason] < MIN_ROUNDS else (bounds[reason], reason)


def warm_up(side: Side, *, budget: float) -> tuple[list[float], bool | None]:
    """Call a side until a window of calls is no faster than the window before, for half the budget at least.

    Returns:
        seconds of each call, and whether it became steady within ``budget`` seconds; None with too few calls to tell.
    """
    once = turn(side)
    warm = [once()]
    while sum(warm) < budget:
        before, last = np.median(warm[-2 * WINDOW : -WINDOW] or [np.inf]), np.median(warm[-WINDOW:])
        if sum(warm) >= budget / 2 and last >= (1 - STEADY) * before:
            return warm, True
        warm.append(once())
    return warm, False if len(warm) > WINDOW else None


def pilot(sides: Sequence[Side], first: Sequence[float], *, precision: float, budget: float) -> Pilot:
    """Warm the sides up, time a few rounds and fix how many will be measured; the slowest steps need no such pilot.

    Args:
        sides: the case alone, or its reference and the case.
        first: seconds of each side's first call ever, which has been made: the slowest steps need no other warm-up.
        precision: see ``rounds_for``.
        budget: seconds for warm-up, pilot and rounds together; slow steps exceed it by ``MIN_ROUNDS``.
    """
    if MIN_ROUNDS * sum(first) > SLOW * budget:
        return Pilot(0, 0.0, None, (), (1,) * len(sides), MIN_ROUNDS, "min_rounds", 0.0)
    warmed = [warm_up(side, budget=WARM * budget / len(sides)) for side in sides]
    spent, (warm, steady) = sum(sum(warm) for warm, _ in warmed), warmed[-1]
    known = len(warm), sum(warm), steady
    if MIN_ROUNDS * sum(min(warm) for warm, _ in warmed) > budget:  # so slow that a pilot could decide nothing
        return Pilot(*known, (), (1,) * len(sides), MIN_ROUNDS, "min_rounds", 0.0)
    repeats = [
        1 if side.prepare is not None else max(1, math.ceil(MIN_ROUND_SECONDS / float(np.median(warm))))
        for side, (warm, _) in zip(sides, warmed, strict=True)
    ]
    turns = [turn(side, n) for side, n in zip(sides, repeats, strict=True)]
    found, seconds, order = np.empty((0, len(sides))), 0.0, list(range(len(sides)))
    while len(found) < 2 or (seconds < 0.1 * budget and len(found) < 50):
        found = np.append(found, np.array(rounds(turns, order)).T, axis=0)
        seconds, order = float((found @ repeats).sum()), order[::-1]
    logs = np.log(found[:, -1]) - (np.log(found[:, 0]) if len(sides) > 1 else 0.0)
    each = float(np.median(found, axis=0) @ repeats)
    left = budget - spent - seconds
    count, reason = rounds_for(logs.tolist(), each=each, precision=precision, seconds=left)
    count += count % 2 if len(sides) > 1 else 0  # whole blocks
    return Pilot(*known, tuple(found[:, -1].tolist()), tuple(repeats), count, reason, seconds)


def summary(samples: Sequence[float]) -> dict[str, Any]:
    """What is saved beside the raw samples: the median's interval within this run, outlier counts, drift.

    ``outliers`` counts samples beyond Tukey's 1.5 interquartile ranges; none is removed. ``drift`` is the median of
    the last third over that of the first.
    """
    interval = median_interval(samples)
    low, high = np.percentile(samples, [25, 75])
    reach = 1.5 * (high - low)
    third = max(1, len(samples) // 3)
    return {
        "interval": None if interval is None else list(interval),
        "interval_reason": f"fewer than {MIN_ROUNDS} rounds" if interval is None else None,
        "outliers": sum(not low - reach <= s <= high + reach for s in samples),
        "drift": float(np.median(samples[-third:]) / np.median(samples[:third])),
    }
