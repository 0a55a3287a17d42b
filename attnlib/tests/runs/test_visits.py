"""The interval of a ratio from its visits: how often it holds the truth, and who needs further visits."""

import numpy as np
import pytest
from scipy import stats

from attnlib.runs.visits import Visited, half_width, left, like, pool, pools, settle, visited


def drawn(rng, *, spread=0.015, epochs=0.0, cells=40, visits=3):
    """Cells of a true log ratio 0, whose spread differs from group to group; a share of visits is 15 % off."""
    found = []
    for T, kind in ((64, "fused"), (512, "written out")):
        for _ in range(cells):
            logs = spread * (1 + (T == 512)) * rng.standard_normal(visits)
            logs += 0.15 * (rng.uniform(size=visits) < epochs)
            found.append(Visited(kind, T, tuple(logs)))
    return found


def covered(cells):
    return [abs(cell.centre) <= half_of(cell, cells) for cell in cells]


def half_of(cell, cells):
    return half_width(cell, pool(like((cell.kind, cell.seq_len), cells)))


@pytest.mark.parametrize("visits", [2, 3, 5])
def test_intervals_hold_the_truth(visits):
    """Among 4,000 cells 94 to 98 % hold it."""
    rng = np.random.default_rng(visits)
    held = [one for _ in range(50) for one in covered(drawn(rng, visits=visits))]

    assert 0.94 <= np.mean(held) <= 0.98


def test_intervals_hold_the_truth_with_slow_epochs():
    """If a tenth of the visits is 15 % off, they still do."""
    rng = np.random.default_rng(0)
    held = [one for _ in range(50) for one in covered(drawn(rng, epochs=0.1))]

    assert np.mean(held) >= 0.92


def test_a_lone_cell_has_students_interval():
    """Without others it is that of its own mean."""
    logs = (0.1, 0.12, 0.17)
    half = stats.t.ppf(0.975, 2) * np.std(logs, ddof=1) / np.sqrt(3)

    assert half_of(Visited("fused", 64, logs), [Visited("fused", 64, logs)]) == pytest.approx(half)


def test_like_cells_lend_their_spread():
    """By the formula: twelve degrees of freedom of the group's mean variance, two of its own."""
    cells = [Visited("fused", 64, (0.0, 0.01 * n, 0.02 * n)) for n in range(1, 18)]
    cell = cells[0]
    mean = np.mean([np.var(c.logs, ddof=1) for c in cells])
    sigma = np.sqrt((12 * mean + 2 * np.var(cell.logs, ddof=1)) / 14)

    assert half_of(cell, cells) == pytest.approx(stats.t.ppf(0.975, 14) * sigma / np.sqrt(3))
    assert pools(cells) == {("fused", 64): (pytest.approx(mean), 34)}


def test_small_groups_are_joined():
    """Fewer than five cells of a length take those of their kernel, and where these are few too, all."""
    own = Visited("written out", 64, (0.0, 0.1))
    many = [Visited("written out", 128, (0.0, 0.1))] * 4
    fused = [Visited("fused", 64, (0.0, 0.1))] * 3

    assert like(("written out", 64), [own, *many, *fused]) == [own, *many]
    assert like(("written out", 64), [own, *many[:2], *fused]) == [own, *many[:2], *fused]


def test_one_visit_takes_the_spread_of_others():
    """A run that was interrupted in its second pass has intervals for all; one of single visits has none by visits."""
    cells = [Visited("fused", 64, (0.0, 0.02))] * 8 + [Visited("fused", 64, (0.0,))]

    assert half_of(cells[-1], cells) > half_of(cells[0], cells)
    assert half_of(cells[-1], cells[-1:]) is None


def benchmark(*logs, planned=3, lost=(), seq_len=64):
    visits = [{"log_ratio": log, "interval": [0.9, 1.1], "rounds": 2, "disturbed": []} for log in logs]
    over = {"value": 1.0, "low": 0.9, "high": 1.1, "reference": {"pe": "none"}}
    time = {"visits": visits, "visits_planned": planned, "visits_lost": list(lost), "over_reference": over}
    return {"extra_info": {"time": time, "attention": {"fused": True}, "case": {"seq_len": seq_len}}}


def test_saved_ratios_come_from_all_visits():
    """The mean of the log ratios with the interval of the visits; the benchmark itself is left as it was."""
    own = [benchmark(0.1, 0.2, 0.3), benchmark(0.1, 0.1, 0.2)]
    found = settle(own)
    over = found[0]["extra_info"]["time"]["over_reference"]

    assert over["value"] == pytest.approx(np.exp(0.2))
    assert over["low"] < over["value"] < over["high"]
    assert (over["visits"], over["interval"]) == (3, "visits")
    assert own[0]["extra_info"]["time"]["over_reference"]["value"] == 1.0


def test_a_run_of_single_visits_says_so():
    """Its intervals are those of its pairs of rounds."""
    (found,) = settle([benchmark(0.05)])
    over = found["extra_info"]["time"]["over_reference"]

    assert (over["low"], over["high"], over["interval"]) == (0.9, 1.1, "pairs of one visit")


def test_what_was_saved_before_stays():
    """Benchmarks without visits, and those that are no case, are handed on."""
    old = {"extra_info": {"case": {}, "time": {"over_reference": {"value": 1.2}}}}

    assert settle([old, {"fullname": "x"}]) == [old, {"fullname": "x"}]
    assert visited(old) is None


def test_visits_that_are_planned_come_first():
    """Each case lacks what it has not had, and lost visits are not tried again."""
    lost = [{"visit": 2, "reason": "oom: no room"}]
    cases = {"a": benchmark(0.1), "b": benchmark(0.1, 0.1), "c": benchmark(0.1, 0.1, lost=lost)}

    assert left(cases) == {"a": 2, "b": 1}


def test_visits_that_disagree_are_followed_by_two_more():
    """Beyond four pooled deviations: then the median of the five counts, and no more are made."""
    rng = np.random.default_rng(0)
    alike = {str(n): benchmark(*(0.01 * rng.standard_normal(3))) for n in range(30)}
    far = (0.0, 0.0, 0.3)

    assert left(alike | {"far": benchmark(*far)}) == {"far": 2}
    assert left(alike | {"far": benchmark(*far, 0.01)}) == {"far": 1}
    assert left(alike | {"far": benchmark(*far, 0.01, 0.02)}) == {}
    found = visited(benchmark(*far, 0.01, 0.02))
    assert (found.further, found.centre) == (True, 0.01)
