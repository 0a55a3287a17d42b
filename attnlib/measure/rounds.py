"""The loop of timed rounds, of one side or of two that take turns; a case's own are pytest-benchmark's. No torch."""

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from typing import Protocol

Step = Callable[[], None]
Clock = Callable[[], float]  # seconds
Turn = Callable[[], float]  # one round of a side: seconds of a step


class Side(Protocol):
    """What takes turns: a step, what is called untimed before it, and the clock that it is timed by."""

    @property
    def prepare(self) -> Step | None:
        """What is called untimed before every step, or None."""

    @property
    def step(self) -> Step:
        """What is timed."""

    @property
    def clock(self) -> Clock:
        """Seconds."""


def timed(step: Step, prepare: Step | None, clock: Clock, iterations: int = 1, untimed: int = 0) -> float:
    """One round: seconds of one ``step``, averaged over ``iterations`` back to back.

    Args:
        step: what is timed.
        prepare: called, not timed, before the round and before every untimed step.
        clock: read right before and right after the steps.
        iterations: steps in the round.
        untimed: steps before it, so that it meets caches full of its own.
    """
    for _ in range(untimed):
        if prepare is not None:
            prepare()
        step()
    if prepare is not None:
        prepare()
    start = clock()
    for _ in range(iterations):
        step()
    return (clock() - start) / iterations


def turn(side: Side, iterations: int = 1) -> Turn:
    """A side's rounds of so many steps."""
    return partial(timed, side.step, side.prepare, side.clock, iterations)


def rounds(sides: Sequence[Turn], order: Iterable[int]) -> list[list[float]]:
    """Let the sides take turns; returns the seconds of each side's rounds.

    Args:
        sides: one, or several that are compared.
        order: whose turn it is, as places in ``sides``; see ``abba``.
    """
    samples: list[list[float]] = [[] for _ in sides]
    for side in order:
        samples[side].append(sides[side]())
    return samples


def abba(blocks: int) -> Iterator[int]:
    """Turns of 0 (base) and 1 (new) in blocks of four that a linear drift favours neither in: 0110, 1001, 0110, ..."""
    for block in range(blocks):
        yield from (1, 0, 0, 1) if block % 2 else (0, 1, 1, 0)


def log_ratios(samples: Sequence[Sequence[float]]) -> list[float]:
    """Of two sides that took turns in ``abba``: log(new / base) of each block."""
    base, new = samples
    return [math.log(sum(new[i : i + 2]) / sum(base[i : i + 2])) for i in range(0, len(base), 2)]


class Between:
    """Rounds of a reference that lie between those of a case whose loop belongs to someone else, in ``abba`` order.

    Call it before the case's first round and after each.

    Args:
        reference: one round of the reference.
        blocks: of two rounds of either side.
    """

    def __init__(self, reference: Turn, blocks: int) -> None:
        self.reference, self.order = reference, abba(blocks)
        self.samples: list[float] = []  # seconds of a step of the reference

    def __call__(self) -> None:
        """Run the reference's rounds that come before the next one of the case, or before the end."""
        for side in self.order:
            if side:
                return
            self.samples.append(self.reference())
