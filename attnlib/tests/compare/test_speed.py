"""Runs at different speeds of the machine: found by the canary's kinds of work, and said wherever runs meet."""

import copy
import json
import os
from pathlib import Path

import pytest

from attnlib.commands.__main__ import main
from attnlib.compare import speed
from attnlib.compare.cells import Cells, kind_of_interval
from attnlib.compare.saved import compare
from attnlib.runs.load import load
from attnlib.tests.runs.examples import saved

USUAL = {"products": 4e-4, "traffic": 4e-4, "operators": 2e-4}
SLOW = {"products": 6.4e-4, "traffic": 1.4e-3, "operators": 2e-4}
IN_WORDS = "products took 1.60 times as long, memory traffic took 3.50 times as long"


@pytest.fixture(autouse=True)
def _few_readings(monkeypatch):
    """Runs of these tests have a reading each."""
    monkeypatch.setattr(speed, "FEWEST", 1)


@pytest.fixture(name="side")
def _side(tmp_path):
    """Makes six runs with the canary's seconds by kind of work, and ratios that differ a little."""

    def make(name, kinds, ratio=1.5):
        paths = [tmp_path / f"{name}{n}.json" for n in range(6)]
        for n, path in enumerate(paths):
            path.write_text(json.dumps(saved(ratio=ratio + 0.001 * n, canary=kinds)))
        return [str(path) for path in paths]

    return make


def loaded(paths):
    return [load(Path(path)) for path in paths]


def times(kinds, factor):
    return {kind: factor * seconds for kind, seconds in kinds.items()}


def test_a_reading_counts_on_its_device_and_unless_it_waited():
    """The median of each kind of work, without readings of other devices and of a canary that waited."""
    readings = [{"seconds": 1.0, "kinds": {"products": s}, "device": "cpu"} for s in (1.0, 2.0, 30.0)]
    readings += [{"seconds": 1.0, "kinds": {"products": 9.0}, "device": "cuda"}]
    readings += [{"seconds": 1.0, "kinds": {"products": 9.0}, "waited": True}, {"seconds": 1.0}]

    assert speed.of_readings(readings, "cpu") == {"products": 2.0}
    assert speed.of_readings(readings, "cuda") == {"products": 9.0}
    assert speed.of_readings(readings, "mps") == {}


@pytest.mark.parametrize(("count", "known"), [(59, False), (60, True)])
def test_the_speed_of_a_short_run_is_unknown(monkeypatch, count, known):
    """A minute's readings tell of that minute, not of the machine."""
    monkeypatch.undo()

    assert bool(speed.of_readings([{"seconds": 1.0, "kinds": {"products": 1.0}}] * count, "cpu")) is known


@pytest.mark.parametrize("factor", [1.0, 1.49, 1 / 1.49])
def test_a_small_change_is_none(factor):
    """Within a factor of 1.5 runs are of one speed; so they are where no kind of work is known."""
    assert speed.change([USUAL], [times(USUAL, factor)]) is None
    assert speed.change([], [USUAL]) is None
    assert speed.change([{}], [USUAL]) is None


@pytest.mark.parametrize(("base", "new", "said"), [(USUAL, SLOW, IN_WORDS), (SLOW, USUAL, "products took 0.62 times")])
def test_a_change_of_one_kind_of_work_is_said(base, new, said):
    """In either direction, as new / base; kinds that did not change are not named."""
    assert speed.change([base, base], [new, new, new]).startswith(said)
    assert "small operators" not in speed.change([base], [new])


def test_sides_that_overlap_have_one_speed():
    """A machine that was slow in one run of either side is no other machine: the runs' spread knows of it."""
    assert speed.change([USUAL, USUAL, SLOW], [SLOW, SLOW, SLOW]) is None
    assert speed.change([USUAL, USUAL, USUAL], [USUAL, SLOW]) is None


def test_ratios_of_another_speed_are_undecided(side, capsys):
    """No verdict where the machine's speed changed between the sides, unless --force asks for it."""
    base, new = side("a", USUAL), side("b", SLOW, ratio=2.0)
    found = compare(loaded(base), loaded(new))

    assert {row.verdict.word for row in found.rows} == {"undecided"}
    assert found.notes == (f"the machine had another speed in new: {IN_WORDS} (--force decides ratios all the same)",)
    forced = compare(loaded(base), loaded(new), force=True)
    assert "slower" in {row.verdict.word for row in forced.rows}
    assert forced.notes[-1] == f"forced: verdicts are given although the speed of the machine changed: {IN_WORDS}"
    assert main(["compare", "--base", *base, "--new", *new]) == 2
    assert "undecided: the machine had another speed in new" in capsys.readouterr().out


def test_ratios_of_one_speed_are_decided(side):
    """The same ratios are slower where the machine's speed is known to be the same."""
    found = compare(loaded(side("a", USUAL)), loaded(side("b", USUAL, ratio=2.0)))

    assert "slower" in {row.verdict.word for row in found.rows}


@pytest.mark.parametrize(("factor", "note"), [(1.49, False), (1.51, True)])
def test_a_table_of_runs_at_two_speeds_says_so(side, factor, note):
    """Their mean is of no machine: the note of tables and figures says so. Runs of one speed need no word."""
    found = kind_of_interval(Cells([*loaded(side("a", USUAL)), *loaded(side("b", times(USUAL, factor))[:1])]))

    assert ("; the machine's speed changed: products took 1.51 times as long, memory traffic" in found) is note
    assert found.endswith("in the slowest run as in the fastest" if note else "geometric mean of 7 runs")


def test_coverage_of_runs_at_two_speeds_says_so(side, capsys):
    """``trust holds`` counts all the same, and says that the runs are not of one speed."""
    paths = [*side("a", USUAL), *side("b", SLOW)]

    assert main(["trust", "holds", *paths]) == 0
    assert f"the machine's speed changed: {IN_WORDS} in the slowest run" in capsys.readouterr().out


def test_a_merged_run_has_no_speed_of_its_own(side):
    """It was measured on several machines, each at a speed of its own; it is no earlier run of a session either."""
    paths = side("a", USUAL)
    (run, *_) = loaded(paths)
    run.data["attnlib"]["nodes"] = {"n1": {}, "n2": {}}

    assert speed.of_run(run) == {}
    assert list(speed.speeds([Path(paths[0])], run.data["machine_info"], "cpu", None)) == [USUAL]
    Path(paths[0]).write_text(json.dumps(run.data))
    assert list(speed.speeds([Path(paths[0])], run.data["machine_info"], "cpu", None)) == []


def placed(folder, runs):
    """Write runs below a folder, by name, each saved a second later than the one before."""
    for second, (name, run) in enumerate(runs.items()):
        path = folder / f"{name}.json"
        path.parent.mkdir(exist_ok=True)
        path.write_text(
            run if isinstance(run, str) else json.dumps(run | {"datetime": f"2026-01-01T00:00:{second:02}"})
        )


def test_earlier_runs_are_of_this_kind_of_machine(tmp_path):
    """Saved and reference runs count, each once, if their machine is of the same kind; the run itself does not."""
    other, own = saved(canary=SLOW), saved(canary=SLOW)
    other["machine_info"]["attnlib"]["threads"] = 7
    own["attnlib"]["run"] = "5f"
    usual = saved(canary=USUAL, node="there")
    placed(tmp_path, {"here/0001_a": usual, "here/0002_b": other, "here/0003_c": own, "here/0004_d": saved()})
    placed(tmp_path, {"reference/0001_e": saved(canary=SLOW)})
    placed(tmp_path / "reference", {"machine/one": saved(canary=USUAL), "other/two": other})

    assert speed.earlier(tmp_path, tmp_path / "reference", usual["machine_info"], "cpu", "5f") == [USUAL, SLOW, USUAL]


def test_the_newest_runs_of_the_kind_count(tmp_path, monkeypatch):
    """Whatever folder they lie in, and however many newer ones are of other kinds."""
    monkeypatch.setattr(speed, "NEWEST", 2)
    other = saved(canary=SLOW)
    other["machine_info"]["attnlib"]["threads"] = 7
    runs = {f"{'zab'[n]}/000{n}_a": saved(canary=times(USUAL, n + 1)) for n in range(3)}
    placed(tmp_path, runs | {f"z/01{n}0_b": other for n in range(4)})
    found = speed.earlier(tmp_path, tmp_path / "reference", saved()["machine_info"], "cpu")

    assert found == [times(USUAL, 3), times(USUAL, 2)]


def with_value(keys, value):
    """Return a run with a value in place of another one."""
    run = copy.deepcopy(saved(canary=USUAL))
    node = run
    for key in keys[:-1]:
        node = node[key]
    node[keys[-1]] = value
    return run


READING = ("attnlib", "canary", 0)


@pytest.mark.parametrize(
    "run",
    [
        "{",
        "[" * 10_000,
        "[]",
        *(with_value((*READING, "kinds"), value) for value in (None, [1], {"products": None}, {"products": "1"})),
        *(with_value((*READING, "kinds"), {"products": seconds}) for seconds in (0.0, -1.0)),
        *(with_value(("attnlib", name), value) for name, value in (("canary", None), ("canary", [1]), ("run", 1))),
        *(with_value(("machine_info", name), value) for name, value in (("cpu", "x"), ("attnlib", [1]))),
    ],
)
def test_a_file_that_is_no_run_is_left_out(tmp_path, run):
    """A run is not lost because another file in its folder is broken."""
    placed(tmp_path, {"here/0001_a": run, "here/0002_b": saved(canary=USUAL)})

    assert speed.earlier(tmp_path, tmp_path / "reference", saved()["machine_info"], "cpu") == [USUAL]


def test_a_pipe_is_not_waited_for(tmp_path):
    """A name in the folder of saved runs that is no regular file is left out."""
    placed(tmp_path, {"here/0002_b": saved(canary=USUAL)})
    os.mkfifo(tmp_path / "here" / "0001_a.json")

    assert speed.earlier(tmp_path, tmp_path / "reference", saved()["machine_info"], "cpu") == [USUAL]
