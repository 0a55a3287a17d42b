"""``trust holds`` on synthetic runs: how often intervals hold the other runs, with history and without."""

from types import SimpleNamespace

import numpy as np
import pytest

from attnlib.compare.holds import by, by_kernel_and_length, holding, repeated, shared_by_runs, worst
from attnlib.runs.visits import settle, visited

LENGTHS = (64, 128, 256)


def runs(rng, *, count=5, spread=0.01, history=0.0, epochs=0.0, visits=3):
    """Runs of 90 cells; ``history`` shifts each written-out cell of a run, ``epochs`` of visits are 15 % off."""
    found = []
    for _ in range(count):
        benchmarks, cases = [], []
        for T in LENGTHS:
            for number in range(30):
                fused = number % 2 == 0
                logs = 0.5 + spread * rng.standard_normal(visits) + 0.15 * (rng.uniform(size=visits) < epochs)
                logs = logs + (0 if fused else history * rng.standard_normal())
                made = [{"log_ratio": float(log), "interval": [1, 2], "rounds": 1, "disturbed": []} for log in logs]
                time = {"visits": made, "visits_planned": visits, "visits_lost": [], "over_reference": {"value": 1.0}}
                case = {"seq_len": T, "phase": "forward" if number < 10 else "train_step"}
                benchmarks.append({"extra_info": {"time": time, "attention": {"fused": fused}, "case": case}})
                cases.append((f"{T} {number}", case))
        cells = [
            SimpleNamespace(
                case_id=name,
                case=SimpleNamespace(**case),
                ratio=SimpleNamespace(**one["extra_info"]["time"]["over_reference"]),
                visited=visited(one),
                info=SimpleNamespace(attention=SimpleNamespace(**one["extra_info"]["attention"])),
            )
            for (name, case), one in zip(cases, settle(benchmarks), strict=True)
        ]
        found.append(SimpleNamespace(cells=cells))
    return found


def test_honest_intervals_hold_the_other_runs():
    """A mean of four other runs errs too: nominal is 92 %, and the suite's intervals hold as often at least."""
    cells = repeated(runs(np.random.default_rng(0)))
    found = holding("all", cells)

    assert (len(cells), found.intervals) == (90, 450)
    assert found.share >= 0.9
    assert found.deviation == pytest.approx(0.01 / np.sqrt(3), rel=0.25)
    assert found.half_width < 3 * found.deviation


def test_slow_epochs_are_in_the_intervals():
    """If a tenth of the visits is off, intervals are wider, and hold."""
    found = holding("all", repeated(runs(np.random.default_rng(1), epochs=0.1)))

    assert found.share >= 0.9
    assert found.wide > 0.03


def test_history_is_seen_where_it_is():
    """A shift that a whole run shares, as a heap's, is in no interval of that run: the group that has it stands out."""
    cells = repeated(runs(np.random.default_rng(2), history=0.1))
    shares = {own.name.partition(",")[0]: own.share for own in by_kernel_and_length(cells)}

    assert shares["fused"] >= 0.9
    assert shares["written out"] < 0.5
    assert all(cell.group[0] == "written out" for cell in worst(cells))


def test_groups_of_few_intervals_are_joined():
    """75 intervals a length are fewer than 100: two lengths go together, and the third joins them."""
    found = by_kernel_and_length(repeated(runs(np.random.default_rng(3))))

    assert [own.name for own in found] == ["fused, T = 64, 128, 256", "written out, T = 64, 128, 256"]
    assert [own.intervals for own in found] == [225, 225]


def test_phases_are_counted_by_themselves():
    """Each with its own cells."""
    found = by(repeated(runs(np.random.default_rng(4))), lambda one: one.cell.case.phase)

    assert {own.name: own.intervals for own in found} == {"forward": 150, "train_step": 300}


@pytest.mark.parametrize(("history", "least", "most"), [(0.0, -0.05, 0.05), (0.01, 0.2, 0.45)])
def test_what_runs_share_is_found(history, least, most):
    """Half of the cells are shifted from run to run by as much as visits spread: a third of all variance."""
    assert least < shared_by_runs(repeated(runs(np.random.default_rng(6), count=8, history=history))) < most


def test_two_runs_are_too_few():
    """The mean of the others would be another run."""
    assert repeated(runs(np.random.default_rng(5), count=2)) == []
