"""Warm-up, and the plan of a case's rounds: their number and length are fixed before the first one is timed."""

import math
import time
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np

from attnlib.measure.rounds import Side, Turn, settle, turn, turns

MIN_ROUNDS = 6  # with fewer no order statistics bound the median at 95 %
SOME = 12  # least rounds, if the budget allows, however alike the first ones: one outlier cannot be an interval bound
MAX_ROUNDS = 2000
STRETCH = 4  # rounds of a side of which the faster half counts
BLOCKS = 2  # least blocks of two turns of either side: the second block is in the opposite order
STEADY, WINDOW = 0.05, 3  # a side is warm once a window of calls is not faster than the previous one by this share
WARM = 0.1  # largest share of the budget for warming up
SLOW = 5  # a case whose least number of rounds takes this many times the budget is warmed up by one call
MIN_WARM_SECONDS = 1e-4  # shorter steps are warmed up several at a time
MIN_ROUND_SECONDS = 1e-3  # shorter steps are repeated within a round, so that the clock's share stays below 0.1 %
# Seconds of untimed steps after a change of side, and of rounds in a turn. Measured on one core with 1 MiB of L2 and 32
# MiB of L3: the first steps of 1 to 10 ms after those of another side are 20, 10, 5, 3 % slow, and without untimed
# steps ratios over a small reference are 2 to 7 % low; with 3 ms of them within 1 % of those with 12 ms. Steps of 0.1 s
# and more show no such effect. Turns are short, since the machine changes its speed every few tenths of a second:
# turns of 25 ms give ratios that spread twice as far in the same time.
REFILL, TURN = 0.004, 0.006
LONG_STEP = 0.1  # seconds of a step that needs no untimed ones


@dataclass(frozen=True)
class Pilot:
    """The plan of a case's rounds, fixed before it is measured, and its warm-up, in counts and seconds."""

    warmup_calls: int
    warmup_s: float
    steady: bool | None  # True if more warming up no longer made it faster; None if too slow to tell
    iterations: tuple[int, ...]  # steps in a round, one a side
    untimed: tuple[int, ...]  # untimed steps after a change of side, one a side
    blocks: int  # blocks of two turns of either side; 0 with one side
    each: int  # rounds in a turn
    rounds: int  # rounds of each side
    stop_reason: str

    def as_json(self) -> dict[str, Any]:
        """Return the plan as it is saved."""
        first: dict[str, int | None] = {"reference_iterations": None, "reference_untimed": None}
        if len(self.iterations) > 1:
            first = {"reference_iterations": self.iterations[0], "reference_untimed": self.untimed[0]}
        return asdict(self) | {"iterations": self.iterations[-1], "untimed": self.untimed[-1]} | first

    def with_iterations(self, iterations: tuple[int, ...]) -> "Pilot":
        """Return this plan with other numbers of steps in a round, one a side."""
        return replace(self, iterations=iterations)

    def order(self) -> Iterable[tuple[int, bool]]:
        """Return, for every round, its side and True if another side ran right before it, see ``rounds``."""
        return turns(self.blocks, self.each) if self.blocks else [(0, n == 0) for n in range(self.rounds)]

    def turns(self, sides: Sequence[Side]) -> list[Turn]:
        """Return a callable for each side that runs one of its rounds."""
        return [turn(side, *own) for side, *own in zip(sides, self.iterations, self.untimed, strict=True)]

    def settle(self, side: Side) -> None:
        """Run the case's untimed steps after a change of side; the case is the last side."""
        settle(side.step, side.prepare, self.untimed[-1])


def median_interval(samples: Sequence[float], confidence: float = 0.95) -> tuple[float, float] | None:
    """Return the distribution-free interval of the median from order statistics; None below ``MIN_ROUNDS`` samples.

    Its coverage holds for independent samples. Rounds of one process are not independent, so it covers this run only.
    """
    from scipy import special  # imported late: it takes a tenth of a second, which collecting tests need not spend

    ordered = sorted(samples)
    if len(ordered) < MIN_ROUNDS:
        return None
    # tail[k] = P(at most k of n samples lie below the true median), binomial with n and 1/2
    tail = special.bdtr(np.arange(len(ordered)), len(ordered), 0.5)
    # the largest rank r with P(the r-th smallest lies above the median) <= 2.5 %, by symmetry on the other side too
    rank = int(np.searchsorted(tail, (1 - confidence) / 2, side="right"))
    return ordered[rank - 1], ordered[-rank]


def log_ratio(reference: Sequence[float], case: Sequence[float], *, stretch: int = STRETCH) -> float:
    """Return the log ratio of a case's time to its reference's, from the faster half of each side's rounds.

    In a stretch of rounds the n-th fastest round of the case stands beside the n-th fastest round of the
    reference, for the faster half of them; the median over these pairs of all stretches is returned.

    Args:
        reference: seconds of the reference's rounds.
        case: seconds of the case's rounds, as many, in turns with them.
        stretch: rounds of each side in a stretch.
    """
    # Other work only ever slows a round down, so the faster half has the least of it; and within a stretch both sides
    # meet the same speeds of a machine that changes its speed every few tenths of a second.
    count = max(1, len(case) // stretch)
    stretches = zip(np.array_split(np.log(reference), count), np.array_split(np.log(case), count), strict=True)
    ratios = [(np.sort(new) - np.sort(base))[: (len(new) + 1) // 2] for base, new in stretches]
    return float(np.median(np.concatenate(ratios)))


def ratio_over(reference: Sequence[float], case: Sequence[float]) -> tuple[float, float, float]:
    """Return the median ratio of a case's time to its reference's, with its 95 % interval over pairs of rounds.

    The interval is ``median_interval``; with fewer than ``MIN_ROUNDS`` pairs, the least and the largest ratio.

    Args:
        reference: seconds of the reference's rounds.
        case: seconds of the case's rounds, as many.
    """
    # the n-th rounds of two alternating sides are neighbours in time, so a slow spell hits both and cancels
    logs = np.log(case) - np.log(reference)
    low, high = median_interval(logs.tolist()) or (float(logs.min()), float(logs.max()))
    return float(np.exp(np.median(logs))), float(np.exp(low)), float(np.exp(high))


def untimed_steps(step: float) -> int:
    """Return the number of untimed steps after a change of side, for a step of ``step`` seconds."""
    return 0 if step >= LONG_STEP else math.ceil(REFILL / step)


def rounds_for(spread: float | None, *, each: float, precision: float, seconds: float, least: int) -> tuple[int, str]:
    """Return the number of rounds that reach a precision within a budget, and what determined it.

    The standard error of a median is about 1.253 s / sqrt(n) (for normal samples).

    Args:
        spread: s, standard deviation of a round's log time, or of a pair's log ratio; None if unknown.
        each: seconds of a round, or of a pair.
        precision: wanted half-width of the median's 95 % interval, relative to the median.
        seconds: budget of the rounds.
        least: rounds that are run whatever they take.

    Returns:
        the number of rounds or pairs, in [``least``, ``MAX_ROUNDS``], and ``precision``, ``budget``, ``min_rounds`` or
        ``max_rounds``.
    """
    bounds = {"budget": int(seconds / each), "max_rounds": MAX_ROUNDS}
    if spread is not None:  # 1.96 standard errors = precision, solved for n
        bounds["precision"] = max(SOME, math.ceil((1.96 * 1.253 * spread / precision) ** 2))
    reason = min(bounds, key=lambda name: bounds[name])  # the bound that is reached first
    return (least, "min_rounds") if bounds[reason] < least else (bounds[reason], reason)


@dataclass(frozen=True)
class Warmed:
    """The calls of a side's warm-up."""

    seconds: list[float]  # seconds of a step, one a call, or the mean of several calls
    each_s: float  # mean seconds of a call with its untimed set-up
    steady: bool | None  # True if it became steady within the budget; None with too few calls to tell
    at_once: int = 1  # calls that one of ``seconds`` is the mean of

    @property
    def calls(self) -> int:
        """Return the number of calls so far."""
        return len(self.seconds) * self.at_once

    @property
    def step(self) -> float:
        """Seconds of a step: the median of the last two windows of calls."""
        return float(np.median(self.seconds[-2 * WINDOW :]))

    @property
    def spread(self) -> float | None:
        """Standard deviation of a step's log time, estimated from its quartiles; None with too few calls."""
        last = np.log(self.seconds[-4 * WINDOW :])
        # the quartiles of a normal distribution are 1.349 standard deviations apart, and ignore outliers
        return float(np.subtract(*np.percentile(last, [75, 25]))) / 1.349 if len(last) >= 2 * WINDOW else None


def warm_up(side: Side, *, budget: float) -> Warmed:
    """Call a side until a window of calls is no faster than the window before, for half of the budget at least.

    Args:
        side: the side to warm up.
        budget: most seconds of its steps; one call is made whatever it takes.
    """
    steady, at_once = None, 1
    begun = time.perf_counter()
    seconds = [turn(side)()]
    if side.prepare is None:  # with a set-up before each step, steps cannot be timed together
        at_once = max(1, math.ceil(MIN_WARM_SECONDS / seconds[0]))
        seconds = seconds if at_once == 1 else [turn(side, at_once)()]
    once = turn(side, at_once)
    while sum(seconds) * at_once < budget:  # each of ``seconds`` is a mean of ``at_once`` calls
        # medians of the last two windows of calls; before there are two, the side counts as getting faster
        before, last = np.median(seconds[-2 * WINDOW : -WINDOW] or [np.inf]), np.median(seconds[-WINDOW:])
        # two windows may be alike by chance, so half of the budget is spent in any case
        if sum(seconds) * at_once >= budget / 2 and last >= (1 - STEADY) * before:
            steady = True
            break
        seconds.append(once())
    else:
        steady = False if len(seconds) > WINDOW else None
    wall = time.perf_counter() - begun  # includes the untimed set-up, which the budget of rounds has to hold too
    calls = len(seconds) * at_once
    return Warmed(seconds, max(wall, sum(seconds) * at_once) / calls, steady, at_once)


def pilot(
    sides: Sequence[Side], first: Sequence[float], *, precision: float, budget: float, settled: bool = True
) -> Pilot:
    """Warm the sides up and fix the plan of their rounds; the slowest cases are warmed up by one call.

    Args:
        sides: the case alone, or its reference and the case.
        first: seconds of each side's first call, already made; if they are long, a second call is made, which is
            the only warm-up of the slowest cases.
        precision: wanted relative half-width of the median's interval, see ``rounds_for``.
        budget: seconds for warm-up and rounds together; slow cases exceed it by their least number of rounds.
        settled: True if a side runs untimed steps after a change of side.
    """
    paired, ones = len(sides) > 1, (1,) * len(sides)
    least = 2 * BLOCKS if paired else MIN_ROUNDS
    if least * sum(first) > SLOW * budget:  # a first call may compile or load kernels, so a second one decides
        first = [turn(side)() for side in sides]
        if least * sum(first) > SLOW * budget:  # so slow that further warm-up calls would cost too much
            untimed = tuple(untimed_steps(seconds) * settled for seconds in first)
            return Pilot(1, first[-1], None, ones, untimed, BLOCKS * paired, 1, least, "min_rounds")
    warmed = [warm_up(side, budget=WARM * budget / len(sides)) for side in sides]
    # short steps are repeated within a round, unless each of them needs its own set-up
    repeats = [
        1 if side.prepare is not None else max(1, math.ceil(MIN_ROUND_SECONDS / warm.step))
        for side, warm in zip(sides, warmed, strict=True)
    ]
    untimed = tuple(untimed_steps(warm.step) * settled for warm in warmed)
    # the log ratio of two independent rounds has the root of the sum of their variances
    spreads = [warm.spread for warm in warmed]
    spread = None if None in spreads else float(np.hypot.reduce(np.array(spreads, dtype=float)))
    each = sum(n * warm.each_s for n, warm in zip(repeats, warmed, strict=True))  # seconds of a round of every side
    in_turn = max(1, round(2 * TURN / each))  # ``each`` has a round of two sides, and a turn has rounds of one
    if paired:  # two blocks (0110 1001) have four turns a side, three of which follow a change of side
        each += 3 / 4 * sum(n * warm.each_s for n, warm in zip(untimed, warmed, strict=True)) / in_turn
    left = budget - sum(warm.calls * warm.each_s for warm in warmed)
    count, reason = rounds_for(spread, each=each, precision=precision, seconds=left, least=least)
    known = warmed[-1].calls, sum(warmed[-1].seconds) * warmed[-1].at_once, warmed[-1].steady
    if not paired:
        return Pilot(*known, tuple(repeats), (0,), 0, count, count, reason)
    # a block has two turns of either side; an even number of blocks has both orders equally often
    blocks = max(BLOCKS, 2 * round(count / (4 * in_turn)))
    return Pilot(*known, tuple(repeats), untimed, blocks, in_turn, 2 * blocks * in_turn, reason)


def summary(samples: Sequence[float]) -> dict[str, Any]:
    """Return the median's interval, the number of outliers and the drift of a case's rounds.

    ``outliers`` counts samples more than 1.5 interquartile ranges beyond the quartiles (Tukey); none is removed.
    ``drift`` is the median of the last third of the rounds over that of the first third.

    Args:
        samples: seconds, in the order in which they were measured.
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
