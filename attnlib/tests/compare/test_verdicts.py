"""Four words on synthetic data of known truth: errors are held, changes are found."""

import numpy as np
import pytest
from scipy import stats

from attnlib.compare.verdicts import (
    Prior,
    behrens_fisher,
    between_runs,
    beyond,
    covariance,
    of_pairs,
    prior,
    word_for,
)

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


def test_without_canaries_it_is_behrens_and_fishers():
    """Ratio and interval are those of the means' t distributions, convolved: here by drawing them."""
    rng = np.random.default_rng(0)
    base, new = without_canary(runs(rng)), without_canary(runs(rng, 1.1, n=8))
    verdict = between_runs(base, new, **OPTIONS)
    logs = [np.log([t for t, _ in side]) for side in (base, new)]
    drawn = sum(stats.sem(y) * rng.standard_t(len(y) - 1, 400_000) for y in logs)
    half = float(np.quantile(np.abs(drawn), 0.95))

    assert verdict.ratio == pytest.approx(np.exp(logs[1].mean() - logs[0].mean()))
    assert (verdict.low, verdict.high) == pytest.approx(
        (verdict.ratio * np.exp(-half), verdict.ratio * np.exp(half)), 2e-3
    )
    assert verdict.detectable == pytest.approx(1.05 * np.exp(half), 1e-2)


@pytest.mark.parametrize(("scales", "freedoms"), [((1.0, 0.0), (5, 9)), ((0.0, 2.0), (3, 7))])
def test_one_noisy_side_has_students_interval(scales, freedoms):
    """If only one side spreads, its own degrees of freedom count."""
    for confidence in (0.95, 1 - 1e-4):
        half = max(scales) * stats.t.ppf((1 + confidence) / 2, freedoms[int(np.argmax(scales))])
        assert behrens_fisher(scales, freedoms, confidence) == pytest.approx(half, rel=1e-4)


@pytest.mark.parametrize("confidence", [0.95, 1 - 0.025 / 160])
def test_two_runs_a_side_have_cauchys_interval(confidence):
    """With one degree of freedom a side the sum is Cauchy's, of the scales' sum; tiny scales are only a unit."""
    half = 3.0 * stats.cauchy.ppf((1 + confidence) / 2)

    assert behrens_fisher((1.0, 2.0), (1, 1), confidence) == pytest.approx(half, rel=5e-3)
    assert behrens_fisher((1e-300, 2e-300), (1, 1), confidence) == pytest.approx(1e-300 * half, rel=5e-3)


@pytest.mark.parametrize(
    ("spreads", "shift"), [((0.05, 0.05), 0.0), ((0.05, 0.05), 0.1), ((0.02, 0.15), 0.1), ((0.15, 0.02), 0.0)]
)
def test_intervals_hold_far_out(spreads, shift):
    """Six runs a side, of unequal spread and shifted canary: no more misses than the level says, at three levels."""
    rng, n, beta = np.random.default_rng(0), 6, 0.6
    x = [0.1 * rng.standard_normal((40_000, n)) + side * shift for side in (0, 1)]
    y = [beta * x[side] + spreads[side] * rng.standard_normal((40_000, n)) for side in (0, 1)]
    dx, dy = ([v - v.mean(1, keepdims=True) for v in sides] for sides in (x, y))
    squares = np.array([(d**2).sum(1) for d in dx])
    slope = sum((a * b).sum(1) for a, b in zip(dx, dy, strict=True)) / squares.sum(0)
    apart, share = x[1].mean(1) - x[0].mean(1), squares / squares.sum(0)
    freedoms = n - 1 - share
    left = np.array([((b - slope[:, None] * a) ** 2).sum(1) for a, b in zip(dx, dy, strict=True)])
    scales = np.sqrt(left / freedoms * (1 / n + apart**2 * share / squares.sum(0)))
    error = np.abs(y[1].mean(1) - y[0].mean(1) - slope * apart)
    difference, half = covariance(y[0][0], y[1][0], (x[0][0], x[1][0]), 0.95)

    assert abs(difference) == pytest.approx(error[0])  # these arrays are what covariance computes
    assert half == pytest.approx(behrens_fisher(scales[:, 0], freedoms[:, 0], 0.95))
    far = error > 2 * np.hypot(*scales)
    chance = beyond(error[far], scales[:, far], freedoms[:, far])
    for level in (0.05, 0.025 / 46, 0.025 / 160):
        expected = level * len(error)
        assert (chance < level).sum() <= expected + 2.33 * np.sqrt(expected)


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
    assert stats.t.ppf(0.975, 11) <= half / error <= 1.1 * stats.t.ppf(0.975, 5)


@pytest.mark.parametrize("beta", [None, 0.0, 0.6])
@pytest.mark.parametrize(("sizes", "spreads"), [((6, 6), (0.05, 0.05)), ((6, 18), (0.08, 0.02))])
def test_intervals_cover(beta, sizes, spreads):
    """Among 200 pairs of equal sides at least 95 % hold 1, within chance, also where spreads and n differ."""
    rng = np.random.default_rng(sizes[1])
    hits = 0
    for _ in range(200):
        sides = [runs(rng, spread=s, beta=beta or 0.0, n=n) for n, s in zip(sizes, spreads, strict=True)]
        verdict = between_runs(*(map(without_canary, sides) if beta is None else sides), **OPTIONS)
        hits += verdict.low <= 1 <= verdict.high

    assert hits / 200 >= 0.92


def test_equal_sides_are_hardly_ever_called_different():
    """Among 400 pairs of equal sides at most 1 % are faster or slower: the threshold takes most of the 5 %."""
    rng = np.random.default_rng(2)
    words = [between_runs(runs(rng), runs(rng), **OPTIONS).word for _ in range(400)]

    assert words.count("faster") + words.count("slower") <= 4


def test_the_canary_buys_power():
    """At +20 % with a spread of 3 % beside what the canary explains, 95 % are found with it and fewer without."""
    rng = np.random.default_rng(3)
    sides = [(runs(rng, spread=0.03, beta=0.7), runs(rng, 1.2, spread=0.03, beta=0.7)) for _ in range(100)]
    found = [between_runs(*pair, **OPTIONS).word == "slower" for pair in sides]
    blind = [between_runs(*map(without_canary, pair), **OPTIONS).word == "slower" for pair in sides]

    assert sum(found) >= 0.95 * 100
    assert sum(blind) < 0.8 * sum(found)


def test_a_canary_that_explains_everything():
    """If nothing is left to explain, the interval is the ratio itself."""
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
    """With Student's t of one degree of freedom corrected for 400 tests, no number could hold its ends."""
    found = between_runs([(1.0, None), (1.1, None)], [(1.0, None), (1.2, None)], confidence=1 - 1e-4, threshold=0.05)

    assert (found.word, found.low, found.high, found.detectable) == ("undecided", None, None, None)
    assert found.reason == "too few runs for an interval"


def test_cases_lend_each_other_their_mean_spread():
    """It counts for eight degrees of freedom, weighted by what each case has; few cases, or rounding, say nothing."""
    found = prior([0.01] * 10 + [0.04] * 10, [5.0] * 10 + [10.0] * 10)

    assert found == (pytest.approx(0.03), 8.0)
    assert prior([0.1] * 9, [5.0] * 9) is None
    assert prior([0.0] * 50, [5.0] * 50) is None


def test_leaning_intervals_hold():
    """With 40 equal cases that spread unequally one in 1,600 intervals may miss; they are narrower than by case."""
    rng, missed, wider, suites = np.random.default_rng(0), 0, 0, 25
    confidence = 1 - 0.025 / 40
    for _ in range(suites):
        spreads = np.sqrt(0.01**2 * 8 / rng.chisquare(8, 40))
        sides = np.exp(spreads[:, None, None] * rng.standard_normal((40, 2, 6)))
        variances = np.log(sides).var(axis=2, ddof=1).ravel().tolist()
        others = prior(variances, [5.0] * 80)
        for base, new in sides[:4]:
            pair = [[(float(t), None) for t in side] for side in (base, new)]
            leaning = between_runs(*pair, confidence=confidence, threshold=0.05, others=others)
            own = between_runs(*pair, confidence=confidence, threshold=0.05)
            missed += not leaning.low <= 1 <= leaning.high
            wider += own.high / own.low > leaning.high / leaning.low

    assert missed <= 1  # of 100
    assert wider > 80


def test_others_count_as_runs():
    """A prior of variance v and d degrees of freedom is pooled with a side's own: (d v + 5 s^2) / (d + 5)."""
    rng = np.random.default_rng(1)
    base, new = (without_canary(runs(rng)) for _ in range(2))
    leaning = between_runs(base, new, **OPTIONS, others=Prior(0.04, 1e6))

    half = np.sqrt(2 * 0.04 / 6) * stats.norm.ppf(0.975)
    assert np.log(leaning.high / leaning.low) / 2 == pytest.approx(half, rel=1e-3)


@pytest.mark.parametrize("outliers", [0.0, 0.1])
@pytest.mark.parametrize("trim", [False, True])
@pytest.mark.parametrize("pairs", [6, 14, 40])
def test_intervals_over_pairs_hold(pairs, outliers, trim):
    """Among 400 cases of equal sides 95 % hold 1 (less 3 sigma), also where a tenth of the pairs is far off."""
    rng, held = np.random.default_rng(pairs), 0
    for _ in range(400):
        logs = 0.01 * rng.standard_normal(pairs) + (rng.uniform(size=pairs) < outliers) * 0.08 * rng.standard_normal(
            pairs
        )
        verdict = of_pairs(logs.tolist(), **OPTIONS, trim=trim)
        held += verdict.low <= 1 <= verdict.high

    assert held / 400 >= 0.95 - 3 * np.sqrt(0.95 * 0.05 / 400)


def test_a_pair_that_is_far_off_widens_nothing():
    """One of twenty pairs may say 1.2: with ends left out the interval is hardly wider than without it."""
    logs = (0.01 * np.random.default_rng(0).standard_normal(20)).tolist()
    quiet, far = (of_pairs(own, **OPTIONS, trim=True) for own in (logs, [*logs[:-1], 0.2]))

    assert np.log(far.high / far.low) < 1.5 * np.log(quiet.high / quiet.low)
