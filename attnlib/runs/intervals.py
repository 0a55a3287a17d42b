"""The t interval of a mean, for readings of several runs or seeds."""

from collections.abc import Sequence

import numpy as np


def t_interval(values: Sequence[float]) -> tuple[float, float, float]:
    """Mean with its 95 % t interval; one value alone, or equal ones, have none but themselves.

    Raises:
        ValueError: there are no values.
    """
    from scipy import stats  # half a second that collecting and comparing need not pay

    if not values:
        raise ValueError("no values")
    mean = float(np.mean(values))
    if len(values) == 1 or np.ptp(values) == 0:
        return mean, mean, mean
    low, high = stats.t.interval(0.95, len(values) - 1, mean, stats.sem(values))
    return mean, float(low), float(high)


def over_runs(values: Sequence[float]) -> tuple[float, float, float] | None:
    """Mean of one value a run with its 95 % t interval, or None without any."""
    return t_interval(values) if values else None
