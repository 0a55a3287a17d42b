"""The loop of timed rounds, of one side or of two that take turns; a case's own are pytest-benchmark's. No torch."""

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Protocol

Step = Callable[[], None]
Clock = Callable[[], float]  # seconds
Turn = Callable[..., float]  # one round of a side, given whether another side ran before it: seconds of a step


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


def settle(step: Step, prepare: Step | None, untimed: int) -> None:
    """Run steps untimed, so that what comes meets caches full of its own."""
    for _ in range(untimed):
        if prepare is not None:
            prepare()
        step()


def timed(step: Step, prepare: Step | None, clock: Clock, iterations: int = 1, untimed: int = 0) -> float:
    """One round: seconds of one ``step``, averaged over ``iterations`` back to back.

    Args:
        step: what is timed.
        prepare: called, not timed, before the round and before every untimed step.
        clock: read right before and right after the steps.
        iterations: steps in the round.
        untimed: steps before it, so that it meets caches full of its own.
    """
    settle(step, prepare, untimed)
    if prepare is not None:
        prepare()
    start = clock()
    for _ in range(iterations):
        step()
    return (clock() - start) / iterations


def turn(side: Side, iterations: int = 1, untimed: int = 0) -> Turn:
    """Return what takes one round of a side; called with True, the round comes right after the other side's."""

    def take(changed: bool = False) -> float:
        return timed(side.step, side.prepare, side.clock, iterations, untimed if changed else 0)

    return take


def rounds(sides: Sequence[Turn], order: Iterable[tuple[int, bool]]) -> list[list[float]]:
    """Let the sides take turns; returns the seconds of each side's rounds.

    Args:
        sides: one, or several that are compared.
        order: of every round, the place of its side in ``sides`` and whether another side ran before it, see ``turns``.
    """
    samples: list[list[float]] = [[] for _ in sides]
    for side, changed in order:
        samples[side].append(sides[side](changed))
    return samples


def abba(blocks: int) -> Iterator[int]:
    """Turns of 0 (base) and 1 (new) in blocks of four that a linear drift favours neither in: 0110, 1001, 0110, ..."""
    for block in range(blocks):
        yield from (1, 0, 0, 1) if block % 2 else (0, 1, 1, 0)


def turns(blocks: int, each: int) -> Iterator[tuple[int, bool]]:
    """Yield the side of every round of two that take turns, and whether the other side ran right before it.

    Args:
        blocks: of two turns of either side, in ``abba`` order.
        each: rounds in a turn.
    """
    before = None
    for side in abba(blocks):
        for _ in range(each):
            yield side, side != before
            before = side


def log_ratios(samples: Sequence[Sequence[float]]) -> list[float]:
    """Of two sides that took turns in ``abba``: log(new / base) of each block."""
    base, new = samples
    return [math.log(sum(new[i : i + 2]) / sum(base[i : i + 2])) for i in range(0, len(base), 2)]


class Between:
    """Runs what lies between the rounds of a case whose loop belongs to someone else: its reference's turns.

    Call it before the case's first round and after each.

    Args:
        reference: one round of the reference.
        settle: runs the case's untimed steps after a change of side.
        order: of all rounds, the reference being 0 and the case 1, see ``turns``.
    """

    def __init__(self, reference: Turn, settle: Step, order: Iterable[tuple[int, bool]]) -> None:
        self.reference, self.settle, self.order = reference, settle, iter(order)
        self.samples: list[float] = []  # seconds of a step of the reference

    def __call__(self) -> None:
        """Run what comes before the next round of the case, or before the end."""
        for side, changed in self.order:
            if side:
                if changed:
                    self.settle()
                return
            self.samples.append(self.reference(changed))
