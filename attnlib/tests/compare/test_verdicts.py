"""Four words on synthetic data of known truth: errors are held, changes are found."""

import numpy as np
import pytest
from scipy import stats

from attnlib.compare.verdicts import between_runs, covariance, of_pairs, word_for

OPTIONS = {"confidence": 0.95, "threshold": 0.05}


@pytest.mark.parametrize(
    ("low", "high", "word"),
    [
        (1.06, 1.2, "slower"),
        (1.04, 1.2, "undecided"),
        (0.97, 1.04, "same"),
        (0.9, 1.04, "undecided"),
        (0.8, 0.9, "faster"),
        (0.8, 0.96, "undecided"),
        (1.0, 1.0, "same"),
    ],
)
def test_words(low, high, word):
    """A word needs the whole interval on one side of the threshold, or inside it."""
    assert word_for(low, high, 0.05) == word


def runs(rng, ratio=1.0, spread=0.05, beta=0.0, n=6):
    """Seconds of a case in n runs, and canaries that explain them with ``beta``."""
    canary = 0.1 * rng.standard_normal(n)
    logs = np.log(ratio) + beta * canary + spread * rng.standard_normal(n)
    return [(float(np.exp(t)), float(np.exp(c))) for t, c in zip(logs, canary, strict=True)]


def without_canary(side):
    return [(seconds, None) for seconds, _ in side]


def test_welch_is_scipys():
    """Without canaries ratio and interval are those of Welch's test on logarithms."""
    rng = np.random.default_rng(0)
    base, new = without_canary(runs(rng)), without_canary(runs(rng, 1.1, n=8))
    verdict = between_runs(base, new, **OPTIONS)
    logs = [np.log([t for t, _ in side]) for side in (new, base)]
    low, high = stats.ttest_ind(*logs, equal_var=False).confidence_interval(0.95)

    assert verdict.ratio == pytest.approx(np.exp(logs[0].mean() - logs[1].mean()))
    assert (verdict.low, verdict.high) == pytest.approx((np.exp(low), np.exp(high)))
    assert verdict.detectable == pytest.approx(1.05 * np.exp((high - low) / 2))


def test_covariance_is_least_squares():
    """The difference at equal canary is that of an independent fit; with equal n so is its error, on fewer degrees."""
    rng = np.random.default_rng(1)
    base, new = rng.standard_normal((2, 7))
    canaries = rng.standard_normal((2, 7))
    y, side, canary = np.concatenate([base, new]), np.repeat([0, 1], 7), np.concatenate(canaries)
    # Frisch, Waugh and Lovell: regress what the canary leaves of y on what it leaves of the side
    left = [v - np.polyval(np.polyfit(canary, v, 1), canary) for v in (y, side)]
    slope = left[0] @ left[1] / (left[1] @ left[1])
    error = np.sqrt(((left[0] - slope * left[1]) ** 2).sum() / 11 / (left[1] @ left[1]))
    difference, half = covariance(base, new, tuple(canaries), 0.95)

    assert difference == pytest.approx(slope)
    assert stats.t.ppf(0.975, 11) <= half / error <= stats.t.ppf(0.975, 5)


@pytest.mark.parametrize("beta", [None, 0.0, 0.6])
@pytest.mark.parametrize(
    ("sizes", "spreads"), [((6, 6), (0.05, 0.05)), ((9, 9), (0.05, 0.05)), ((6, 18), (0.08, 0.02))]
)
def test_intervals_cover(beta, sizes, spreads):
    """Of 2,000 pairs of equal sides, 95 % of the intervals hold 1 (within 0.02), also where spreads and n differ."""
    rng = np.random.default_rng(sizes[1])
    hits = 0
    for _ in range(2000):
        sides = [runs(rng, spread=s, beta=beta or 0.0, n=n) for n, s in zip(sizes, spreads, strict=True)]
        verdict = between_runs(*(map(without_canary, sides) if beta is None else sides), **OPTIONS)
        hits += verdict.low <= 1 <= verdict.high

    assert hits / 2000 == pytest.approx(0.95, abs=0.02)


def test_equal_sides_are_hardly_ever_called_different():
    """Of 1,000 pairs of equal sides at most 1 % are faster or slower: the threshold takes most of the 5 %."""
    rng = np.random.default_rng(2)
    words = [between_runs(runs(rng), runs(rng), **OPTIONS).word for _ in range(1000)]

    assert words.count("faster") + words.count("slower") <= 10


def test_the_canary_buys_power():
    """At +20 % with a spread of 3 % beside what the canary explains, 95 % are found with it and fewer without."""
    rng = np.random.default_rng(3)
    sides = [(runs(rng, spread=0.03, beta=0.7), runs(rng, 1.2, spread=0.03, beta=0.7)) for _ in range(300)]
    found = [between_runs(*pair, **OPTIONS).word == "slower" for pair in sides]
    blind = [between_runs(*map(without_canary, pair), **OPTIONS).word == "slower" for pair in sides]

    assert sum(found) >= 0.95 * 300
    assert sum(blind) < 0.8 * sum(found)


def test_a_canary_that_explains_everything():
    """Where nothing is left to explain the interval is the ratio itself."""
    sides = [[(scale * c, c) for c in (1.0, 2.0, 4.0)] for scale in (1.0, 2.0)]
    verdict = between_runs(*sides, **OPTIONS)

    assert (verdict.word, verdict.low, verdict.high) == ("slower", pytest.approx(2.0), pytest.approx(2.0))


def test_equal_times_have_an_interval_of_nothing():
    """Sides without any spread are the same, or differ by exactly their ratio."""
    assert between_runs([(1.0, None)] * 6, [(1.0, None)] * 6, **OPTIONS).word == "same"
    verdict = between_runs([(1.0, None)] * 6, [(2.0, None)] * 6, **OPTIONS)

    assert (verdict.word, verdict.ratio, verdict.low, verdict.high) == ("slower", 2.0, 2.0, 2.0)


def test_a_reason_leaves_it_undecided():
    """Whatever the times, and without losing ratio and interval."""
    verdict = between_runs([(1.0, None)] * 6, [(2.0, None)] * 6, reason="the machine drifted", **OPTIONS)

    assert (verdict.word, verdict.ratio, verdict.reason) == ("undecided", 2.0, "the machine drifted")


@pytest.mark.parametrize(("base", "new"), [(1, 1), (1, 6), (0, 6)])
def test_too_few_runs_have_no_interval(base, new):
    """One run a side has a ratio and no interval; none has neither."""
    verdict = between_runs([(1.0, None)] * base, [(2.0, None)] * new, reason="few", **OPTIONS)

    assert (verdict.word, verdict.low) == ("undecided", None)
    assert verdict.ratio == (2.0 if base else None)


def test_pairs_have_a_t_interval():
    """Ratio and interval are those of scipy's one-sample t test."""
    logs = np.random.default_rng(4).normal(0.1, 0.02, 8)
    verdict = of_pairs(logs.tolist(), **OPTIONS)
    low, high = stats.ttest_1samp(logs, 0).confidence_interval(0.95)

    assert (verdict.low, verdict.high) == pytest.approx((np.exp(low), np.exp(high)))
    assert (verdict.word, verdict.runs) == ("slower", (8, 8))


def test_two_runs_have_no_interval_among_hundreds_of_tests():
    """Where Student's t with one degree of freedom is corrected for 400 tests, no number could hold its ends."""
    found = between_runs([(1.0, None), (1.1, None)], [(1.0, None), (1.2, None)], confidence=1 - 1e-4, threshold=0.05)

    assert (found.word, found.low, found.high, found.detectable) == ("undecided", None, None, None)
    assert found.reason == "too few runs for an interval"
