"""Two steps in one process, rounds interleaved: what the one costs over the other."""

from functools import partial

import numpy as np

from attnlib.compare.intervals import t_interval
from attnlib.measure.clock import device_clock
from attnlib.measure.rounds import Step, abba, log_ratios, rounds, timed

SECONDS, GROUPS = 8.0, 12  # a ratio: in how many groups of blocks its interval is counted


def ratio(a: Step, b: Step) -> tuple[float, float, float, int]:
    """Geometric mean of a / b over ABBA blocks, its 95 % t interval over groups of blocks, and how many there were.

    An untimed step stands before each timed one.
    """
    sides = [partial(timed, step, None, device_clock, untimed=1) for step in (b, a)]
    once = rounds(sides, (0, 1, 0, 1))[0][-1]  # seconds of b, warm
    blocks = GROUPS * max(2, int(SECONDS / (8 * once * GROUPS)))  # a block is eight steps
    logs = np.reshape(log_ratios(rounds(sides, abba(blocks))), (GROUPS, -1)).mean(1)
    mean, low, high = (float(np.exp(value)) for value in t_interval(logs.tolist()))
    return mean, low, high, blocks
