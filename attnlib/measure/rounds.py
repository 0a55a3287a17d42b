"""The loop of timed rounds, of one side or of two that alternate. pytest-benchmark runs a case's own rounds."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Protocol

Step = Callable[[], None]
Clock = Callable[[], float]  # seconds
Turn = Callable[..., float]  # one round of a side, given True right after the other side's: seconds of a step


class Side(Protocol):
    """A step that is timed, alone or in alternation with another one."""

    @property
    def prepare(self) -> Step | None:
        """The untimed set-up before every step, or None."""

    @property
    def step(self) -> Step:
        """The timed step."""

    @property
    def clock(self) -> Clock:
        """The clock, in seconds."""


def settle(step: Step, prepare: Step | None, untimed: int) -> None:
    """Run ``untimed`` steps without timing them, so that the next step finds its own data in the caches."""
    for _ in range(untimed):
        if prepare is not None:  # a backward step uses its graph up, so each needs a new one
            prepare()
        step()


def timed(step: Step, prepare: Step | None, clock: Clock, iterations: int = 1, untimed: int = 0) -> float:
    """Run one round and return the seconds of one ``step``, averaged over the round's steps.

    Args:
        step: the timed step.
        prepare: set-up, called untimed before the round and before every untimed step.
        clock: read right before and right after the steps.
        iterations: steps in the round, back to back.
        untimed: steps before the round, so that it finds its own data in the caches.
    """
    settle(step, prepare, untimed)
    if prepare is not None:
        prepare()
    start = clock()  # waits for the device: what the set-up queued is not counted
    for _ in range(iterations):
        step()
    return (clock() - start) / iterations  # waits again: all that the steps queued is counted


def turn(side: Side, iterations: int = 1, untimed: int = 0) -> Turn:
    """Return a callable that runs one round of a side, after untimed steps if called with True (side has changed)."""

    def take(changed: bool = False) -> float:
        return timed(side.step, side.prepare, side.clock, iterations, untimed if changed else 0)

    return take


def rounds(sides: Sequence[Turn], order: Iterable[tuple[int, bool]]) -> list[list[float]]:
    """Run rounds of the sides in this order, and return the seconds of each side's rounds.

    Args:
        sides: one side, or several that are compared.
        order: for every round, the index of its side and True if another side ran right before it, see ``turns``.
    """
    samples: list[list[float]] = [[] for _ in sides]
    for side, changed in order:
        samples[side].append(sides[side](changed))
    return samples


def abba(blocks: int) -> Iterator[int]:
    """Yield turns of 0 (base) and 1 (new) in blocks of four, 0110, 1001, 0110, ..., which cancel a linear drift."""
    for block in range(blocks):  # blocks alternate too, so that neither side always begins one
        yield from (1, 0, 0, 1) if block % 2 else (0, 1, 1, 0)


def turns(blocks: int, each: int) -> Iterator[tuple[int, bool]]:
    """Yield, for every round of two sides that alternate, its side and True if the other side ran right before it.

    Args:
        blocks: blocks of two turns of either side, in ``abba`` order.
        each: rounds in a turn.
    """
    before = None
    for side in abba(blocks):
        for _ in range(each):
            # an inner pair of turns, as in 0 1 1 0, is one stretch of a side: only its first round follows a change
            yield side, side != before
            before = side


class Between:
    """Runs the reference's rounds between the rounds of a case whose loop belongs to pytest-benchmark.

    Call it before the case's first round and after each.

    Args:
        reference: runs one round of the reference.
        settle: runs the case's untimed steps after a change of side.
        order: order of all rounds, with 0 for the reference and 1 for the case, see ``turns``.
    """

    def __init__(self, reference: Turn, settle: Step, order: Iterable[tuple[int, bool]]) -> None:
        self.reference, self.settle, self.order = reference, settle, iter(order)
        self.samples: list[float] = []  # seconds of a step, one a round of the reference

    def __call__(self) -> None:
        """Run the reference's rounds that come before the case's next round, or before the end."""
        for side, changed in self.order:
            if side:  # the case's turn: its caller times it
                if changed:
                    self.settle()
                return
            self.samples.append(self.reference(changed))
