"""Two sets of saved runs: verdicts, reasons for none, exact changes, exit codes, words."""

import json
import re
from pathlib import Path

import numpy as np
import pytest

from attnlib.commands.__main__ import main
from attnlib.compare.cells import read_cells
from attnlib.compare.machines import machines
from attnlib.compare.saved import compare
from attnlib.runs.load import load as load_path
from attnlib.tests.runs.examples import saved

SPREAD = 0.02


def load(path):
    return load_path(Path(path))


@pytest.fixture(name="write")
def _write(tmp_path):
    def write(run, name):
        path = tmp_path / name
        path.write_text(run if isinstance(run, str) else json.dumps(run))
        return str(path)

    return write


@pytest.fixture(name="runs")
def _runs(write):
    """Write n runs whose times spread by 2 % around ``ratio``; the files."""

    def runs(name, n=6, ratio=1.0, **options):
        rng = np.random.default_rng(sum(map(ord, name)))
        factors = ratio * np.exp(SPREAD * rng.standard_normal(n))
        return [write(saved((float(t),), **options), f"{name}-{i}.json") for i, t in enumerate(factors)]

    return runs


def command(base, new, *options):
    return main(["compare", "--base", *base, "--new", *new, *options])


def test_a_run_with_itself_is_the_same(write, capsys):
    """Every ratio is exactly 1, nothing changed, exit code 0."""
    path = write(saved(), "run.json")
    comparison = compare([load(path)], [load(path)])
    verdicts = [*comparison.phases.values(), *(row.verdict for row in comparison.rows)]

    assert {(v.ratio, v.low, v.high, v.word) for v in verdicts} == {(1.0, 1.0, 1.0, "same")}
    assert command([path], [path]) == 0
    assert "changed in 0" in capsys.readouterr().out


@pytest.mark.parametrize(("n", "words"), [(1, "1 run a side, 6 are needed"), (3, "3 runs a side, 6 are needed")])
def test_few_runs_are_undecided(runs, capsys, n, words):
    """Twice the time in fewer than six runs a side is a ratio and no verdict; exit code 2, or 0 if allowed."""
    sides = runs("a", n), runs("b", n, ratio=2.0)
    comparison = compare(*([load(p) for p in side] for side in sides))

    assert {row.verdict.word for row in comparison.rows} == {"undecided"}
    assert comparison.phases["train_step"].ratio == pytest.approx(2.0, rel=0.1)
    assert command(*sides) == 2
    assert f"undecided: {words}" in capsys.readouterr().out
    assert command(*sides, "--allow-undecided") == 0


@pytest.mark.parametrize(("ratio", "word", "code"), [(1.3, "slower", 1), (0.7, "faster", 0), (1.0, "same", 0)])
def test_six_runs_a_side_decide(runs, capsys, ratio, word, code):
    """Six runs a side that spread by 2 % show 30 % more, 30 % less, and no change, of the phase and of each case."""
    sides = runs("a"), runs("b", ratio=ratio)
    comparison = compare(*([load(p) for p in side] for side in sides))

    assert comparison.phases["train_step"].word == word
    assert comparison.phases["train_step"].ratio == pytest.approx(ratio, rel=0.03)
    assert {row.verdict.word for row in comparison.rows} <= {word, "undecided"}
    assert comparison.tests == (1, 8)
    assert command(*sides) == code
    assert "1 tests of phases and 8 of cases" in capsys.readouterr().out


def test_more_tests_are_more_careful(runs):
    """A case, one of eight tests, has a wider interval than its phase, one of one."""
    comparison = compare(*([load(p) for p in runs(name)] for name in "ab"))

    assert all(row.verdict.high > comparison.phases["train_step"].high for row in comparison.rows)


def test_another_machine_is_undecided_unless_forced(runs, capsys):
    """A different node stands above the table and leaves times undecided; --force decides and says so."""
    sides = runs("a"), runs("b", ratio=1.5, node="there")

    assert command(*sides) == 2
    out = capsys.readouterr().out
    assert "different machine or settings: node: here | there" in out
    assert "undecided: another machine or other settings" in out
    assert command(*sides, "--force") == 1
    assert "forced: verdicts are given although" in capsys.readouterr().out


def test_processors_of_one_name_are_told_apart(write, capsys):
    """A hypervisor may call two generations AMD EPYC: their family and model differ, and so do ratios on them."""
    sides = []
    for model in (17, 1):
        run = saved(ratio=1.5)
        run["machine_info"]["cpu"] = {"brand_raw": "AMD EPYC", "family": 25, "model": model}
        sides.append([write(run, f"{model}-{n}.json") for n in range(6)])

    assert command(*sides) == 2
    names = "AMD EPYC, family 25, model 17 | AMD EPYC, family 25, model 1"
    assert f"different machine or settings: cpu: {names}" in capsys.readouterr().out
    found = machines([load(path) for side in sides for path in side])
    assert [machine.name for machine in found] == names.split(" | ")
    cells, left_out = read_cells([Path(path) for side in sides for path in side])
    assert len(cells.runs) == len(left_out) == 6


def test_a_drifted_canary_is_undecided(write, capsys):
    """A canary that is 20 % slower in every new run leaves every time undecided."""
    rng = np.random.default_rng(0)

    def side(name, ratio):
        canaries = ratio * np.exp(0.01 * rng.standard_normal(6))
        return [write(saved((ratio,), canary=float(c)), f"{name}-{i}.json") for i, c in enumerate(canaries)]

    assert command(side("a", 1.0), side("b", 1.2)) == 2
    out = capsys.readouterr().out
    assert "undecided: the machine drifted" in out
    assert "canary: new / base 1.1" in out or "canary: new / base 1.2" in out


def test_the_canary_explains_slow_runs(write):
    """Runs that are slow where their canary is slow leave an interval that Welch's test could not have."""
    canaries = np.exp(np.linspace(-0.2, 0.2, 12))
    order = np.random.default_rng(1).permutation(12)
    paths = [write(saved((float(canaries[i]),), canary=float(canaries[i])), f"{i}.json") for i in order]
    phase = compare([load(p) for p in paths[:6]], [load(p) for p in paths[6:]]).phases["train_step"]

    assert phase.word == "same"
    assert (phase.low, phase.high) == pytest.approx((1.0, 1.0))


def test_disturbed_runs_do_not_count(runs, capsys):
    """Two of eight runs disturbed leave six, which decide; three leave too few, and the table says how many."""
    new = runs("b", 6)
    held_up = runs("d", 2, ratio=9.0, disturbed=["busy"])
    comparison = compare([load(p) for p in runs("a", 6) + held_up], [load(p) for p in new])
    assert comparison.phases["train_step"].word == "same"
    assert comparison.phases["train_step"].runs == (6, 6)

    command(runs("a", 5) + held_up, new)
    out = capsys.readouterr().out
    assert "undecided: 5 and 6 runs a side undisturbed" in out
    assert "(2 of 7 disturbed)" in out


def test_a_run_with_itself_is_the_same_though_disturbed(write):
    """A disturbed case still has a time, and it is its own."""
    path = write(saved(disturbed=["busy"]), "run.json")

    assert {row.verdict.ratio for row in compare([load(path)], [load(path)]).rows} == {1.0}
    assert command([path], [path]) == 0


def test_holes_do_not_bias_a_phase(write):
    """If every case takes 1.2 times as long, runs that lack some of them give a phase of exactly 1.2."""
    paths = []
    for number in range(12):
        run = saved((1.2 if number >= 6 else 1.0,))
        for hole in ([0, 1, 2], [], [3], [4, 5], [], [])[number % 6] if number >= 6 else ([0] if number else []):
            run["benchmarks"][hole]["extra_info"]["time"]["disturbed"] = ["busy"]
        paths.append(write(run, f"{number}.json"))
    phase = compare([load(p) for p in paths[:6]], [load(p) for p in paths[6:]]).phases["train_step"]

    assert (phase.ratio, phase.low, phase.high) == pytest.approx((1.2, 1.2, 1.2))
    assert phase.word == "slower"


def test_a_case_disturbed_in_every_run(runs):
    """It has times and no verdict, and the reason names the side."""
    sides = runs("a"), runs("b", disturbed=["busy"])
    comparison = compare(*([load(p) for p in side] for side in sides))

    assert {row.verdict.reason for row in comparison.rows} == {"disturbed in every run of new"}
    assert all(row.new.value for row in comparison.rows)


def test_checks_of_gradients_are_not_times(write):
    """A check's one round is read, not timed: it is no test, and never slower."""
    sides = []
    for name, seconds in (("a", 1.0), ("b", 9.0)):
        run = saved((seconds,))
        for benchmark in run["benchmarks"]:
            claim = dict.fromkeys(("mean", "low", "high", "theory", "least", "most", "seeds"), 1) | {"name": "rate"}
            benchmark["extra_info"]["probe"] = {"claims": [claim], "curves": {}}
        sides.append([load(write(run, f"{name}-{i}.json")) for i in range(6)])
    comparison = compare(*sides)

    assert comparison.phases == {}
    assert comparison.tests == (0, 0)
    assert {row.verdict.reason for row in comparison.rows} == {"no time"}
    assert comparison.exit_code() == 2


def test_a_switch_that_was_set_on_one_side_is_named(write, capsys):
    """Times are undecided then; earlier runs, which say nothing of switches, count as usual."""
    changed, usual = saved((1.5,)), saved()
    changed["machine_info"]["attnlib"]["switches"] = {"onednn": False}
    usual["machine_info"]["attnlib"]["switches"] = {}
    old = write(saved(), "old.json")

    assert command([old], [write(changed, "new.json")]) == 2
    assert "switches: {} | {'onednn': False}" in capsys.readouterr().out
    assert command([old], [write(usual, "usual.json")], "--allow-undecided") == 0
    assert "switches" not in capsys.readouterr().out


def test_bad_files_beside_good_ones_are_named(write, capsys):
    """A bad file is named, the good ones are compared, exit code 4."""
    good, bad = write(saved(), "a.json"), write("{", "b.json")

    assert command([good, bad], [good]) == 4
    captured = capsys.readouterr()
    assert "b.json: not JSON" in captured.err
    assert "exact: 8 cases" in captured.out


@pytest.mark.parametrize(
    ("base", "new", "message"),
    [
        ("{", "{", "nothing to compare"),
        ("good", "both", "a.json is on both sides"),
        ("empty", "other", "no cases in these runs"),
    ],
)
def test_what_cannot_be_compared(write, capsys, base, new, message):
    """One line and exit code 4."""
    good, other = write(saved(), "a.json"), write(saved(), "c.json")
    empty = saved() | {"benchmarks": []}
    empty["attnlib"] |= {"cases": []}
    sides = {"{": [write("{", "bad.json")], "good": [good], "both": [good, other]}
    sides |= {"empty": [write(empty, "d.json")], "other": [write(empty, "e.json")]}

    assert command(sides[base], sides[new]) == 4
    assert message in capsys.readouterr().err


@pytest.mark.parametrize("together", [False, True])
def test_files_of_one_run_must_agree(write, capsys, together):
    """Other numbers under one run's token are a line that names both files, on two sides or on one; a part agrees."""
    one, other, part = (saved((seconds,)) for seconds in (1.0, 1.7, 1.0))
    part["attnlib"]["cases"].pop()
    part["benchmarks"].pop()
    for run in (one, other, part):
        run["attnlib"]["run"] = "abc"
    paths = [write(run, f"{name}.json") for name, run in (("a", one), ("b", other), ("c", part))]

    assert command([paths[2]], [paths[0]]) == 0
    capsys.readouterr()
    assert command(paths[:2] if together else paths[:1], paths[1:2]) != 0
    said = capsys.readouterr()
    assert re.search("a.json and .*b.json are files of one run", said.err)
    assert not said.out


def test_the_same_file_twice_is_one_run(runs, capsys, monkeypatch):
    """A run given six times, by whatever path, is no six replicates."""
    (base,), (new,) = runs("a", 1), runs("b", 1, ratio=2.0)
    monkeypatch.chdir(Path(base).parent)

    assert command([base, base, Path(base).name] * 2, [new] * 6) == 2
    assert "undecided: 1 run a side" in capsys.readouterr().out


def test_json_and_markdown_hold_the_same(runs, capsys):
    """Every verdict with ratio and interval in both; Markdown is a table."""
    sides = runs("a"), runs("b", ratio=1.3)
    assert command(*sides, "--json") == 1
    data = json.loads(capsys.readouterr().out)
    assert command(*sides, "--markdown") == 1
    table = capsys.readouterr().out

    assert data["phases"]["train_step"]["word"] == "slower"
    assert data["tests"] == {"phases": 1, "cases": 8}
    assert len(data["cases"]) == 8
    assert f"| {data['phases']['train_step']['ratio']:.3f} |" in table
    assert "| --- |" in table


@pytest.mark.parametrize("threshold", ["0", "1", "-0.1", "x", "nan"])
def test_a_threshold_is_a_share(capsys, threshold):
    """Anything but a share above 0 and below 1 is refused by name."""
    with pytest.raises(SystemExit):
        command(["a"], ["b"], "--threshold", threshold)

    assert f"takes a number between 0 and 1, not '{threshold}'" in capsys.readouterr().err


def test_the_threshold_depends_on_the_device(write):
    """5 % on a CPU, 2 % elsewhere, unless given."""
    run = saved()
    run["machine_info"]["attnlib"]["device"] = {"kind": "cuda"}
    cpu, cuda = load(write(saved(), "a.json")), load(write(run, "b.json"))

    assert [compare([r], [r]).threshold for r in (cpu, cuda)] == [0.05, 0.02]
    assert compare([cpu], [cpu], threshold=0.1).threshold == 0.1
