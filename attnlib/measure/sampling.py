"""How many rounds a case gets: warm-up until steady, then turns whose number and length are fixed before measuring."""

import math
import time
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np

from attnlib.measure.rounds import Side, Turn, settle, turn, turns

MIN_ROUNDS = 6  # with fewer no order statistics bound the median at 95 %
SOME = 12  # rounds that are taken however alike a few were, if the budget has them: one outlier is no interval's end
MAX_ROUNDS = 2000
BLOCKS = 2  # of two turns of either side, at least: the second in the opposite order
STEADY, WINDOW = 0.05, 3  # warm once a window of calls is not faster than the one before by this share
WARM = 0.1  # share of the budget that goes into warming up at most
SLOW = 5  # times the budget: where the least number of rounds takes so long, no call is spent on warming up
MIN_WARM_SECONDS = 1e-4  # shorter steps are warmed up several at a time
MIN_ROUND_SECONDS = 1e-3  # shorter steps are repeated within a round, so that the clock's share stays below 0.1 %
# Untimed steps after a change of side, and rounds of a turn, in seconds. Measured on one core with 1 MiB of L2 and 32
# MiB of L3: the first steps of 1 to 10 ms after those of another side are 20, 10, 5, 3 % slow, and without untimed
# steps ratios over a small reference are 2 to 7 % low; with 3 ms of them within 1 % of those with 12 ms. In steps of
# 0.1 s and more nothing is seen. Turns are short, since the machine changes its speed every few tenths of a second:
# turns of 25 ms give ratios that spread twice as far in the same time.
REFILL, TURN = 0.004, 0.006
LONG_STEP = 0.1  # seconds of a step that needs no untimed ones


@dataclass(frozen=True)
class Pilot:
    """The rounds of a case, fixed before it is measured, and its warm-up, in seconds and counts."""

    warmup_calls: int
    warmup_s: float
    steady: bool | None  # whether more warming up no longer made it faster; None where too slow to tell
    iterations: tuple[int, ...]  # steps a round, of each side
    untimed: tuple[int, ...]  # steps of each side after a change of side
    blocks: int  # of two turns of either side; 0 where there is one side
    each: int  # rounds in a turn
    rounds: int  # of each side
    stop_reason: str

    def as_json(self) -> dict[str, Any]:
        """What is saved of it."""
        first: dict[str, int | None] = {"reference_iterations": None, "reference_untimed": None}
        if len(self.iterations) > 1:
            first = {"reference_iterations": self.iterations[0], "reference_untimed": self.untimed[0]}
        return asdict(self) | {"iterations": self.iterations[-1], "untimed": self.untimed[-1]} | first

    def with_iterations(self, iterations: tuple[int, ...]) -> "Pilot":
        """This one, with so many steps a round of each side."""
        return replace(self, iterations=iterations)

    def order(self) -> Iterable[tuple[int, bool]]:
        """Return the side of every round and whether another one ran before it, see ``attnlib.measure.rounds``."""
        return turns(self.blocks, self.each) if self.blocks else [(0, n == 0) for n in range(self.rounds)]

    def turns(self, sides: Sequence[Side]) -> list[Turn]:
        """Return what takes one round of each side."""
        return [turn(side, *own) for side, *own in zip(sides, self.iterations, self.untimed, strict=True)]

    def settle(self, side: Side) -> None:
        """Run the untimed steps of the case, which is the last side."""
        settle(side.step, side.prepare, self.untimed[-1])


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


def ratio_over(reference: Sequence[float], case: Sequence[float]) -> tuple[float, float, float]:
    """A case's time over its reference's, with the interval over pairs of rounds.

    Rounds of two that took turns lie beside each other one by one: the ratio is the median over these pairs, and its
    95 % interval that of a median, see ``median_interval``; of fewer than ``MIN_ROUNDS`` pairs the least and the most.

    Args:
        reference: seconds of its rounds.
        case: seconds of as many.
    """
    logs = np.log(case) - np.log(reference)
    low, high = median_interval(logs.tolist()) or (float(logs.min()), float(logs.max()))
    return float(np.exp(np.median(logs))), float(np.exp(low)), float(np.exp(high))


def untimed_steps(step: float) -> int:
    """Return how many steps of so many seconds run untimed after a change of side."""
    return 0 if step >= LONG_STEP else math.ceil(REFILL / step)


def rounds_for(spread: float | None, *, each: float, precision: float, seconds: float, least: int) -> tuple[int, str]:
    """Rounds that should bring the median's relative half-width to ``precision`` within ``seconds``, and what bound.

    The standard error of a median is about 1.253 s / sqrt(n).

    Args:
        spread: s, standard deviation of a round's logarithm, or of a pair's log ratio; None where it is not known.
        each: seconds of a round, or of a pair.
        precision: wished half-width of the 95 % interval, relative to the median.
        seconds: left for the rounds.
        least: rounds that are taken whatever they take.

    Returns:
        the number of rounds or pairs, in [``least``, ``MAX_ROUNDS``], and ``precision``, ``budget``, ``min_rounds`` or
        ``max_rounds``.
    """
    bounds = {"budget": int(seconds / each), "max_rounds": MAX_ROUNDS}
    if spread is not None:
        bounds["precision"] = max(SOME, math.ceil((1.96 * 1.253 * spread / precision) ** 2))
    reason = min(bounds, key=lambda name: bounds[name])
    return (least, "min_rounds") if bounds[reason] < least else (bounds[reason], reason)


@dataclass(frozen=True)
class Warmed:
    """A side that is warm."""

    seconds: list[float]  # of each call, or a call's mean over several
    each_s: float  # a call with what is called untimed before it
    steady: bool | None  # whether it became steady within the budget; None with too few calls to tell
    at_once: int = 1  # calls that one of ``seconds`` is the mean of

    @property
    def calls(self) -> int:
        """Calls so far."""
        return len(self.seconds) * self.at_once

    @property
    def step(self) -> float:
        """Seconds of a step: the median of the last calls."""
        return float(np.median(self.seconds[-2 * WINDOW :]))

    @property
    def spread(self) -> float | None:
        """Standard deviation of the logarithm of a step by its quartiles; None with too few calls."""
        last = np.log(self.seconds[-4 * WINDOW :])
        return float(np.subtract(*np.percentile(last, [75, 25]))) / 1.349 if len(last) >= 2 * WINDOW else None


def warm_up(side: Side, *, budget: float) -> Warmed:
    """Call a side until a window of calls is no faster than the window before, for half the budget at least."""
    steady, at_once = None, 1
    begun = time.perf_counter()
    warm = [turn(side)()]
    if side.prepare is None:
        at_once = max(1, math.ceil(MIN_WARM_SECONDS / warm[0]))
        warm = warm if at_once == 1 else [turn(side, at_once)()]
    once = turn(side, at_once)
    while sum(warm) * at_once < budget:
        before, last = np.median(warm[-2 * WINDOW : -WINDOW] or [np.inf]), np.median(warm[-WINDOW:])
        if sum(warm) * at_once >= budget / 2 and last >= (1 - STEADY) * before:
            steady = True
            break
        warm.append(once())
    else:
        steady = False if len(warm) > WINDOW else None
    wall = time.perf_counter() - begun  # what is called untimed takes its time too
    calls = len(warm) * at_once
    return Warmed(warm, max(wall, sum(warm) * at_once) / calls, steady, at_once)


def pilot(
    sides: Sequence[Side], first: Sequence[float], *, precision: float, budget: float, settled: bool = True
) -> Pilot:
    """Warm the sides up and fix how they will be measured; the slowest steps are not even warmed up.

    Args:
        sides: the case alone, or its reference and the case.
        first: seconds of each side's first call ever, which has been made: the slowest steps need no other warm-up.
        precision: see ``rounds_for``.
        budget: seconds for warm-up and rounds together; slow steps exceed it by the least number of rounds.
        settled: whether a side runs untimed steps after a change of side.
    """
    paired, ones = len(sides) > 1, (1,) * len(sides)
    least = 2 * BLOCKS if paired else MIN_ROUNDS
    if least * sum(first) > SLOW * budget:
        untimed = tuple(untimed_steps(seconds) * settled for seconds in first)
        return Pilot(0, 0.0, None, ones, untimed, BLOCKS * paired, 1, least, "min_rounds")
    warmed = [warm_up(side, budget=WARM * budget / len(sides)) for side in sides]
    repeats = [
        1 if side.prepare is not None else max(1, math.ceil(MIN_ROUND_SECONDS / warm.step))
        for side, warm in zip(sides, warmed, strict=True)
    ]
    untimed = tuple(untimed_steps(warm.step) * settled for warm in warmed)
    spreads = [warm.spread for warm in warmed]
    spread = None if None in spreads else float(np.hypot.reduce(np.array(spreads, dtype=float)))
    each = sum(n * warm.each_s for n, warm in zip(repeats, warmed, strict=True))  # a pair of rounds
    in_turn = max(1, round(2 * TURN / each))
    if paired:  # three changes of side of either in two blocks
        each += 3 / 4 * sum(n * warm.each_s for n, warm in zip(untimed, warmed, strict=True)) / in_turn
    left = budget - sum(warm.calls * warm.each_s for warm in warmed)
    count, reason = rounds_for(spread, each=each, precision=precision, seconds=left, least=least)
    known = warmed[-1].calls, sum(warmed[-1].seconds) * warmed[-1].at_once, warmed[-1].steady
    if not paired:
        return Pilot(*known, tuple(repeats), (0,), 0, count, count, reason)
    blocks = max(BLOCKS, 2 * round(count / (4 * in_turn)))
    return Pilot(*known, tuple(repeats), untimed, blocks, in_turn, 2 * blocks * in_turn, reason)


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
