"""Two steps in one process, rounds interleaved: what the one costs over the other."""

from collections.abc import Callable

import numpy as np

from attnlib.measure import sampling
from attnlib.measure.clock import device_clock

Step = Callable[[], None]
SECONDS, BLOCKS = 8.0, 12  # a ratio: in how many blocks of pairs its interval is counted


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
    """Geometric mean of the pairs' ratios a / b, its 95 % t interval over blocks of pairs, and the number of pairs."""
    from attnlib.runs.cells import t_interval  # scipy: half a second that collecting need not pay

    for step in (a, b) * 3:
        step()
    once = sampling.timed(b, None, device_clock)
    pairs = BLOCKS * max(2, int(SECONDS / (8 * once * BLOCKS)))  # a pair is eight steps
    blocks = interleaved(a, b, pairs).reshape(BLOCKS, -1).mean(1).tolist()
    mean, low, high = (float(np.exp(value)) for value in t_interval(blocks))
    return mean, low, high, pairs
