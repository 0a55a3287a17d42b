"""The loop of timed rounds, of one side or of two that take turns; a case's own are pytest-benchmark's. No torch."""

import math
from collections.abc import Callable, Iterable, Iterator, Sequence

Step = Callable[[], None]
Clock = Callable[[], float]  # seconds
Turn = Callable[[], float]  # one round of a side: seconds of a step


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
