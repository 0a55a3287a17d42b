"""Two steps in one process, rounds interleaved: what the one costs over the other."""

from attnlib.measure.clock import Bare
from attnlib.measure.rounds import Step, rounds, turn
from attnlib.measure.sampling import pilot, ratio_over

SECONDS, PRECISION = 8.0, 0.003  # a ratio, and its wished half-width


def ratio(a: Step, b: Step) -> tuple[float, float, float, int]:
    """Return the time of a over that of b, the ends of its 95 % interval, and the number of blocks."""
    sides = [Bare(b), Bare(a)]
    first = [turn(side)() for side in sides]
    plan = pilot(sides, first, precision=PRECISION, budget=SECONDS)
    base, case = rounds(plan.turns(sides), plan.order())
    return (*ratio_over(base, case), plan.blocks)
