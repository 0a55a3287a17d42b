"""Better, worse, equivalent, undecided: how often the words err on differences whose truth is known."""

from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from attnlib.compare.intervals import share_interval, t_interval
from attnlib.learning.equivalence import MARGIN, verdict

SEEDS, TRIALS = 20, 2000
LIMIT = 0.05 + 3 * (0.05 * 0.95 / TRIALS) ** 0.5  # of an error rate of 5 %, three standard deviations of counting it


def words(truth, spread, tests=1):
    """Counts of the words over many studies whose true mean difference is known."""
    rng = np.random.default_rng(0)
    drawn = rng.normal(truth, spread, (TRIALS, SEEDS))
    return Counter(verdict(list(row), tests=tests).word for row in drawn)


@pytest.mark.parametrize("spread", [0.002, 0.01, 0.03])
def test_at_the_margin_hardly_ever_equivalent_nor_better(spread):
    """A true difference of just the margin is called equivalent, and better, in 2.5 % each: 5 % together at most."""
    found = words(MARGIN, spread)

    assert (found["equivalent"] + found["better"]) / TRIALS <= LIMIT
    assert found["worse"] == 0


@pytest.mark.parametrize("spread", [0.002, 0.01, 0.03])
def test_no_difference_is_hardly_ever_better_or_worse(spread):
    """The margin lies between."""
    found = words(0.0, spread)

    assert (found["better"] + found["worse"]) / TRIALS <= LIMIT


def test_what_is_clear_is_said():
    """Three points are better or worse, none is equivalent, where seeds differ by one point."""
    assert words(0.03, 0.01)["better"] > 0.99 * TRIALS
    assert words(-0.03, 0.01)["worse"] > 0.99 * TRIALS
    assert words(0.0, 0.01)["equivalent"] > 0.9 * TRIALS


def test_a_family_of_tests_errs_together_no_more_than_one():
    """Ten encodings at the margin: some word is wrong in at most 5 % of the studies."""
    rng = np.random.default_rng(1)
    drawn = rng.normal(MARGIN, 0.01, (TRIALS, 10, SEEDS))
    wrong = [any(verdict(list(row), tests=10).word != "undecided" for row in study) for study in drawn[:500]]

    assert np.mean(wrong) <= 0.05 + 3 * (0.05 * 0.95 / 500) ** 0.5


@given(st.lists(st.floats(-0.1, 0.1), min_size=2, max_size=30))
def test_words_mirror(differences):
    """The other way round it is the other word."""
    other = {"better": "worse", "worse": "better"}
    there, back = verdict(differences), verdict([-d for d in differences])

    assert back.word == other.get(there.word, there.word)


def test_as_many_seeds_as_said_decide():
    """Drawn again with so many seeds, the studies that were undecided mostly are not any more."""
    rng = np.random.default_rng(2)
    drawn = rng.normal(0.0, 0.03, (200, SEEDS))
    said = [found.needed for row in drawn if (found := verdict(list(row))).word == "undecided" and found.needed]
    again = Counter(verdict(list(rng.normal(0.0, 0.03, int(np.median(said))))).word for _ in range(200))

    assert again["equivalent"] > 100


def test_one_seed_decides_nothing():
    """However large the difference."""
    assert verdict([0.5]).word == "undecided"


def test_equal_differences_are_no_proof_of_no_spread():
    """Their interval has the width of a test example either way: of 500 it is narrow, of 10 it says nothing."""
    assert verdict([0.0, 0.0, 0.0], step=1 / 500).word == "equivalent"
    assert verdict([0.02] * 3, step=1 / 500).word == "better"
    assert verdict([0.0, 0.0, 0.0], step=1 / 10).word == "undecided"


@given(st.integers(1, 300), st.data())
def test_a_share_has_the_exact_interval(count, data):
    """It is the interval of scipy's binomial test."""
    right = data.draw(st.integers(0, count))
    exact = stats.binomtest(right, count).proportion_ci(method="exact")
    found = share_interval(right / count, count)

    assert found[1:] == pytest.approx((exact.low, exact.high), abs=1e-9)


@given(st.lists(st.integers(-1000, 1000), min_size=3, max_size=20, unique=True), st.floats(0.5, 0.999))
def test_a_confidence_is_scipys(values, confidence):
    """The t interval of any confidence is the one that scipy has."""
    low, high = stats.t.interval(confidence, len(values) - 1, np.mean(values), stats.sem(values))

    assert t_interval(values, confidence)[1:] == pytest.approx((low, high), rel=1e-6, abs=1e-12)
