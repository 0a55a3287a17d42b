"""Intervals of a mean, and the number of values that would make one narrow enough."""

import numpy as np
import pytest

from attnlib.compare.intervals import count_needed, t_interval


@pytest.mark.parametrize(("mean", "margin"), [(0.0, 0.01), (0.005, 0.01), (-0.02, 0.01)])
def test_the_number_of_values_that_would_decide(mean, margin):
    """With it, and not with one fewer, an interval of this mean and spread contains neither end of the margin."""
    half = np.array([-1.0, 1.0]) * 0.02
    values = mean + np.tile(half, 3)
    count = count_needed(values.tolist(), margin, 0.95)
    spread = values.std(ddof=1)

    def decided(many):
        found = t_interval(scaled(mean, spread, many))
        return not any(found.low <= end <= found.high for end in (-margin, margin))

    assert count is not None
    assert count > len(values)
    assert decided(count)
    assert not decided(count - 1)


def scaled(mean, spread, many):
    """Return ``many`` values of this mean and standard deviation."""
    values = np.linspace(-1.0, 1.0, many)
    return (mean + spread * values / values.std(ddof=1)).tolist()


def test_no_number_would_do_at_the_margin_itself():
    """The mean lies on an end of the margin, whatever the number."""
    assert count_needed([0.0, 0.02, 0.01], 0.01, 0.95) is None


def test_it_is_more_than_there_are():
    """Those that there are have not decided, for whatever reason."""
    assert count_needed([0.0, 1e-6, 0.0], 0.01, 0.95) == 4
