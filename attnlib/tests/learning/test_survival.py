"""Steps to an event where some trainings never come to it."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from attnlib.compare.intervals import Estimate
from attnlib.learning.survival import Median, Steps, differ, median_steps

# remission in weeks with 6-mercaptopurine and with placebo (Freireich and others 1963, in every textbook)
TREATED = [(6, 1), (6, 1), (6, 1), (6, 0), (7, 1), (9, 0), (10, 1), (10, 0), (11, 0), (13, 1), (16, 1)]
TREATED += [(17, 0), (19, 0), (20, 0), (22, 1), (23, 1), (25, 0), (32, 0), (32, 0), (34, 0), (35, 0)]
PLACEBO = [(n, 1) for n in (1, 1, 2, 2, 3, 4, 4, 5, 5, 8, 8, 8, 8, 11, 11, 12, 12, 15, 17, 22, 23)]


def steps(found):
    return [Steps(count, bool(seen)) for count, seen in found]


def test_the_textbooks_example():
    """Medians 23 and 8 weeks, intervals 13 to infinity and 4 to 11 (R's survfit, log-log), log-rank p = 4.2e-5."""
    treated, placebo = steps(TREATED), steps(PLACEBO)

    assert median_steps(treated) == Median(23.0, 13.0, None, 9, 21)
    assert median_steps(placebo) == Median(8.0, 4.0, 11.0, 21, 21)
    assert differ(treated, placebo) == pytest.approx(4.17e-5, rel=0.01)


def test_no_median_where_fewer_than_half_come_to_it():
    """It is None and no mean of caps."""
    assert median_steps([Steps(100, True), *[Steps(4000, False)] * 3]) == Median(None, 100.0, None, 1, 4)
    assert median_steps([Steps(4000, False)] * 3) == Median(None, None, None, 0, 3)
    with pytest.raises(ValueError, match="no trainings"):
        median_steps([])


@given(st.lists(st.integers(1, 500), min_size=1, max_size=30))
def test_without_censoring_it_is_the_lower_median(counts):
    """With an even number it is the smaller of the two in the middle."""
    found = median_steps([Steps(count, True) for count in counts])

    assert found.steps == sorted(counts)[(len(counts) - 1) // 2]
    assert found.low <= found.steps
    assert found.high is None or found.steps <= found.high


def test_intervals_cover():
    """Among 400 samples of 20 with a third censored, nine in ten intervals and more hold the true median."""
    rng, held = np.random.default_rng(0), 0
    for _ in range(400):
        times, ends = 100 * rng.exponential(size=20), 250 * rng.uniform(size=20)
        found = median_steps([Steps(float(min(t, e)), bool(t <= e)) for t, e in zip(times, ends, strict=True)])
        held += (found.low or 0) <= 100 * np.log(2) <= (found.high or np.inf)
    assert held / 400 > 0.92


def test_groups_that_are_the_same_do_not_differ():
    """Not even where nothing spreads, or nothing was seen."""
    assert differ(steps(PLACEBO), steps(PLACEBO)) == pytest.approx(1.0)
    assert differ([Steps(5, True)] * 3, [Steps(5, True)] * 3) == 1.0
    assert differ([Steps(5, False)] * 3, [Steps(5, False)] * 3) is None


def test_seconds_are_steps_times_a_step():
    """Each bound with its own; a bound that is missing stays so."""
    found = Median(10.0, 5.0, None, 3, 4).times(Estimate(2.0, 1.0, 3.0))

    assert found == Median(20.0, 5.0, None, 3, 4)
