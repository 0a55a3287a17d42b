"""How many rounds a case gets: warm-up until steady, a short pilot, then a number that is fixed before measuring."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from attnlib.measure.clock import device_clock
from attnlib.measure.rounds import Clock, Step, timed

MIN_ROUNDS = 6  # with fewer no order statistics bound the median at 95 %
MAX_ROUNDS = 2000
STEADY, WINDOW = 0.05, 3  # warm once a window of calls is not faster than the one before by this share
MIN_ROUND_SECONDS = 1e-3  # shorter steps are repeated within a round, so that the clock's share stays below 0.1 %


@dataclass(frozen=True)
class Pilot:
    """What warm-up and pilot fixed, in seconds and counts; pilot rounds are seconds per call."""

    warmup_calls: int
    warmup_s: float
    steady: bool | None  # whether more warming up no longer made it faster; None where too slow to tell
    pilot_s: tuple[float, ...]
    iterations: int
    rounds: int
    stop_reason: str


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


def rounds_for(pilot: Sequence[float], *, precision: float, seconds: float) -> tuple[int, str]:
    """Rounds that should bring the median's relative half-width to ``precision`` within ``seconds``, and what bound.

    The standard error of a median is about 1.253 s / sqrt(n), with s taken robustly from the pilot's quartiles.

    Args:
        pilot: seconds of each pilot round.
        precision: wished half-width of the 95 % interval over the median.
        seconds: left for the rounds.

    Returns:
        the number of rounds, in [``MIN_ROUNDS``, ``MAX_ROUNDS``], and ``precision``, ``budget``, ``min_rounds`` or
        ``max_rounds``.
    """
    median = float(np.median(pilot))
    spread = float(np.subtract(*np.percentile(pilot, [75, 25]))) / 1.349
    wished = math.ceil((1.96 * 1.253 * spread / (precision * median)) ** 2)
    affordable = int(seconds / median)
    bounds = {"precision": wished, "budget": affordable, "max_rounds": MAX_ROUNDS}
    reason = min(bounds, key=lambda name: bounds[name])
    return (MIN_ROUNDS, "min_rounds") if bounds[reason] < MIN_ROUNDS else (bounds[reason], reason)


def warm_up(step: Step, prepare: Step | None, *, budget: float, clock: Clock) -> tuple[list[float], bool | None]:
    """Call ``step`` until a window of calls is no faster than the window before, for half the budget at least.

    Returns:
        seconds of each call, and whether it became steady within ``budget`` seconds; None with too few calls to tell.
    """
    warm = [timed(step, prepare, clock)]
    while sum(warm) < budget:
        before, last = np.median(warm[-2 * WINDOW : -WINDOW] or [np.inf]), np.median(warm[-WINDOW:])
        if sum(warm) >= budget / 2 and last >= (1 - STEADY) * before:
            return warm, True
        warm.append(timed(step, prepare, clock))
    return warm, False if len(warm) > WINDOW else None


def pilot(
    step: Step,
    prepare: Step | None,
    *,
    precision: float,
    budget: float,
    clock: Clock = device_clock,
) -> Pilot:
    """Warm ``step`` up, time a few rounds and fix how many will be measured; the slowest steps need no such pilot.

    Args:
        step: what is timed; its first call ever has been made.
        prepare: called untimed before every ``step``; it forbids several steps a round.
        precision: see ``rounds_for``.
        budget: seconds for warm-up, pilot and rounds together; slow steps exceed it by ``MIN_ROUNDS``.
        clock: what the rounds will be timed by.
    """
    warm, steady = warm_up(step, prepare, budget=0.2 * budget, clock=clock)
    if MIN_ROUNDS * min(warm) > budget:  # so slow that a pilot could decide nothing
        return Pilot(len(warm), sum(warm), steady, (), 1, MIN_ROUNDS, "min_rounds")
    repeats = 1 if prepare is not None else max(1, math.ceil(MIN_ROUND_SECONDS / float(np.median(warm))))
    rounds = [timed(step, prepare, clock, repeats) for _ in range(2)]
    while sum(rounds) * repeats < 0.1 * budget and len(rounds) < 50:
        rounds.append(timed(step, prepare, clock, repeats))
    left = budget - sum(warm) - sum(rounds) * repeats
    count, reason = rounds_for([r * repeats for r in rounds], precision=precision, seconds=left)
    return Pilot(len(warm), sum(warm), steady, tuple(rounds), repeats, count, reason)


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
