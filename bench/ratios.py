"""Two steps in one process, rounds interleaved: what the one costs over the other."""

from collections.abc import Callable

import numpy as np

from attnlib.measure import sampling
from attnlib.measure.clock import device_clock
from attnlib.runs.intervals import t_interval

Step = Callable[[], None]
SECONDS, GROUPS = 8.0, 12  # a ratio: in how many groups of pairs its interval is counted


def interleaved(a: Step, b: Step, pairs: int) -> np.ndarray:
    """Log ratios of seconds of ``a`` over ``b``, one an ABBA pair, with an untimed step before each timed one."""
    ratios = []
    for pair in range(pairs):
        order = (a, b, b, a) if pair % 2 else (b, a, a, b)
        seconds = {a: 0.0, b: 0.0}
        for step in order:
            step()
            seconds[step] += sampling.timed(step, None, device_clock)
        ratios.append(np.log(seconds[a] / seconds[b]))
    return np.array(ratios)


def ratio(a: Step, b: Step) -> tuple[float, float, float, int]:
    """Geometric mean of the pairs' ratios a / b, its 95 % t interval over groups of pairs, and the number of pairs."""
    for step in (a, b) * 3:
        step()
    once = sampling.timed(b, None, device_clock)
    pairs = GROUPS * max(2, int(SECONDS / (8 * once * GROUPS)))  # a pair is eight steps
    groups = interleaved(a, b, pairs).reshape(GROUPS, -1).mean(1).tolist()
    mean, low, high = (float(np.exp(value)) for value in t_interval(groups))
    return mean, low, high, pairs
