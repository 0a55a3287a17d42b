"""The counts of our own errors, on saved runs and fake matches of known truth."""

import json

import numpy as np
import pytest

from attnlib.commands import trust
from attnlib.commands.__main__ import main
from attnlib.compare.verdicts import Verdict
from attnlib.runs.load import load
from attnlib.tests.runs.examples import saved


@pytest.fixture(name="paths")
def _paths(tmp_path):
    """Twelve runs of the same code that spread by 1 %."""
    rng, paths = np.random.default_rng(0), []
    for number in range(12):
        paths.append(tmp_path / f"{number:02}.json")
        paths[-1].write_text(json.dumps(saved((float(np.exp(0.01 * rng.standard_normal())),))))
    return paths


def run(*arguments):
    assert main(["trust", *map(str, arguments)]) == 0


def test_a_slower_encoding_has_a_larger_ratio(tmp_path):
    """Its ratio over the reference grows with its samples, the others' do not; a slower phase slows its references."""
    path = tmp_path / "run.json"
    path.write_text(json.dumps(saved(ratio=1.5)))
    cells = trust.delayed(load(path), "sinusoidal").cells
    ratios = {cell.case.pe: cell.ratio.value for cell in cells}

    assert ratios == {"none": 1.0, "sinusoidal": pytest.approx(1.2 * 1.5)}
    slow, known = trust.delayed(load(path), "train_step").cells[1], load(path).cells[1]
    assert slow.ratio == known.ratio
    assert slow.reference_medians == pytest.approx([1.2 * seconds for seconds in known.reference_medians])


def test_only_the_named_phase_is_delayed(paths):
    """Its samples are multiplied; another phase's are not."""
    original = load(paths[0])
    for phase, factor in (("train_step", 1.2), ("forward", 1.0), (None, 1.0)):
        delayed = trust.delayed(original, phase)
        assert delayed.cells[0].median == pytest.approx(factor * original.cells[0].median)


def test_errors_of_compare_are_counted(paths, monkeypatch, capsys):
    """Equal runs are never called different, and a phase that takes 20 % longer always is."""
    run("compare", "--draws", 5, *paths)
    out = capsys.readouterr().out

    assert "shuffled: 0 of 5 suites with any false verdict" in out
    assert "blocks of time: 0 of 1 suites with any false verdict" in out
    assert "train_step +20%: found in 5 of 5" in out
    assert "sinusoidal +20%: found in 5 of 5" in out


def test_contrasts_are_counted(tmp_path, monkeypatch, capsys):
    """Saved runs give what cases over themselves read, and how far a ratio changes from run to run."""
    rng, paths = np.random.default_rng(0), []
    for number in range(6):
        paths.append(tmp_path / f"{number}.json")
        paths[-1].write_text(json.dumps(saved(ratio=float(1.5 * np.exp(0.02 * rng.standard_normal())))))
    run("contrasts", *paths)
    out = capsys.readouterr().out

    assert out.startswith("train_step, 6 runs: over itself: 0.0% rms, worst 1.000, 24 of 24 intervals hold 1")
    assert (
        0.3 < float(out.rpartition("; from run to run ")[2].partition("%")[0]) < 2.5
    )  # half of the cells spread by 2 %


def test_contrasts_are_made(monkeypatch, capsys):
    """Without saved runs it makes some, of each encoding beside itself."""
    made = []

    def smoke_run(path, place, *options, tests):
        made.append(options)
        path.write_text(json.dumps(saved(ratio=1.5)))
        return load(path)

    monkeypatch.setattr(trust, "smoke_run", smoke_run)
    run("contrasts", "--tries", 2, "--pe", "none", "t5")

    assert [options[3:5] for options in made] == [("none", "--reference"), ("t5", "--reference")] * 2
    assert "train_step, 4 runs: over itself" in capsys.readouterr().out


def test_too_few_runs_are_refused(paths, capsys):
    """Eleven runs cannot be drawn six and six."""
    assert main(["trust", "compare", *map(str, paths[1:])]) == 4
    assert "11 runs are too few; name at least 12" in capsys.readouterr().err


def test_verdicts_of_ab_are_counted(monkeypatch, capsys):
    """Every case of every suite counts once."""

    class Played(trust.Match):
        def play(self, budget):
            for place, contest in enumerate(self.contests):
                contest.verdict = Verdict(("same", "slower")[place % 2], 1.0)

    monkeypatch.setattr(trust, "Match", Played)
    run("ab", "--suites", 3)

    assert "extra work 0%: {'same': 6, 'slower': 6} of 12 case verdicts" in capsys.readouterr().out


def test_extra_work_is_done():
    """A burdened worker runs eleven steps for every ten that count, in rounds as long as the other side's."""
    asked = []

    def ask(**request):
        asked.append(request)
        return {"seconds": [1.0] * request["step"]}

    assert trust.burdened(ask, 0.1, 10, step=2, iterations=14)["seconds"] == [pytest.approx(1.1)] * 2
    assert asked.pop()["iterations"] == 22
    assert trust.burdened(ask, 0.0, 10, step=2, iterations=14)["seconds"] == [1.0] * 2
    assert asked.pop()["iterations"] == 20
    assert trust.burdened(ask, 0.1, 10, step=1)["seconds"] == [1.0]
    assert asked.pop() == {"step": 1}
