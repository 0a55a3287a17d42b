"""Ratio of the times of two steps in one process, from interleaved rounds."""

from attnlib.measure.clock import Bare
from attnlib.measure.rounds import Step, rounds, turn
from attnlib.measure.sampling import pilot, ratio_over

SECONDS, PRECISION = 8.0, 0.003  # a ratio, and its wished half-width


def ratio(a: Step, b: Step) -> tuple[float, float, float, int]:
    """Return the ratio of a's time to b's, the bounds of its 95 % interval, and the number of blocks of rounds."""
    sides = [Bare(b), Bare(a)]
    first = [turn(side)() for side in sides]
    plan = pilot(sides, first, precision=PRECISION, budget=SECONDS)
    base, case = rounds(plan.turns(sides), plan.order())
    return (*ratio_over(base, case), plan.blocks)
