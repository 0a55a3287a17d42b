"""Saved runs: contract, loader, comparison, command line, figures."""

import copy
import json
import math
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from matplotlib.collections import PathCollection

import plots
from attnlib.cases.text import size
from attnlib.compare.cells import Cells
from attnlib.runs.find import find, load_all, newest, results, with_bench
from attnlib.runs.load import BadRun, load
from attnlib.runs.save import check_name
from attnlib.runs.schema import problems
from attnlib.show.figures import find_figure
from attnlib.show.units import duration, seconds
from attnlib.tests import ROOT
from attnlib.tests.runs.examples import saved


@pytest.fixture(name="write")
def _write(tmp_path):
    def write(run, name="run.json"):
        path = tmp_path / name
        path.write_text(run if isinstance(run, str) else json.dumps(run))
        return path

    return write


def test_a_good_run_has_no_problems():
    """The fake run used here keeps the contract."""
    assert problems(saved()) == []


@pytest.mark.parametrize("path", sorted((ROOT / "results" / "reference").rglob("*.json")), ids=lambda p: p.name)
def test_committed_runs_keep_the_contract(path):
    """Every committed run is a good run."""
    assert problems(json.loads(path.read_text())) == []


def broken(change):
    run = copy.deepcopy(saved())
    change(run)
    return run


BROKEN = {
    "not JSON": "{",
    "not JSON: ": "",
    "not a JSON object": "[]",
    "no 'attnlib' section": '{"benchmarks": []}',
    "schema 3, this version reads 1 and 2": broken(lambda r: r["attnlib"].update(schema=3)),
    "stats: Object missing required field `data`": broken(lambda r: r["benchmarks"][0]["stats"].pop("data")),
    "stats.data[0]: Expected `float` >= 1e-12": broken(lambda r: r["benchmarks"][0]["stats"].update(data=[0.0])),
    "not JSON: JSON is malformed": broken(lambda r: r["benchmarks"][0]["stats"].update(data=[float("nan")])),
    "status: Invalid enum value 'fine'": broken(lambda r: r["attnlib"]["cases"][0].update(status="fine")),
    "status oom without a reason": broken(lambda r: r["attnlib"]["cases"][0].update(status="oom")),
    "attnlib.canary[0].seconds: Expected `float` >= 1e-12": broken(
        lambda r: r["attnlib"].update(canary=[{"seconds": 0}])
    ),
    "time.disturbed: Expected `array`, got `str`": broken(
        lambda r: r["benchmarks"][0]["extra_info"]["time"].update(disturbed="yes")
    ),
    "time.canary_s[0]: Expected `float`, got `null`": broken(
        lambda r: r["benchmarks"][0]["extra_info"]["time"].update(canary_s=[None])
    ),
    "memory[...]: Expected `object`, got `int`": broken(
        lambda r: r["benchmarks"][0]["extra_info"]["memory"].update(allocated_peak=7)
    ),
}


@pytest.mark.parametrize("message", BROKEN)
def test_bad_files_are_one_line(write, message):
    """A file that breaks the contract is refused with one line naming it and what is wrong."""
    path = write(BROKEN[message])
    with pytest.raises(BadRun) as caught:
        load(path)

    assert str(caught.value).startswith(str(path))
    assert message.strip() in str(caught.value)
    assert "\n" not in str(caught.value)


def test_figures_are_drawn_from_saved_runs(write, tmp_path, capsys):
    """Two runs give every figure that they have data for, as PNG and SVG; an oom case is named as absent."""
    paths = [write(saved((t,), status="oom"), f"{t}.json") for t in (1.0, 1.2)]
    out = tmp_path / "figures"

    assert plots.main([*map(str, paths), "--out", str(out)]) == 0
    names = {"time_against_seq_len", "time_against_depth", "heat_map", "memory", "encoding_cost"}
    assert {p.name for p in out.iterdir()} == {f"{n}.{e}" for n in names for e in ("png", "svg")}
    assert "absent: sinusoidal" in (out / "time_against_seq_len.svg").read_text()
    assert "no data for gradients" in capsys.readouterr().out


def test_figures_of_bad_files(write, tmp_path, capsys):
    """Nothing to draw is one line and exit code 4."""
    assert plots.main([str(write("", "empty.json")), "--out", str(tmp_path / "f")]) == 4
    assert "empty.json: not JSON" in capsys.readouterr().err
    assert not (tmp_path / "f").exists()


def test_several_runs_have_run_to_run_intervals(write):
    """Three runs' medians 1, 2, 4 have the geometric mean 2 and the t interval of their logarithms."""
    runs = [load(write(saved((t,)), f"{t}.json")) for t in (1.0, 2.0, 4.0)]
    mean, low, high = Cells(runs).time([run.cells[0] for run in runs])

    assert mean == pytest.approx(2 * 128)
    assert math.log(high / low) / 2 == pytest.approx(4.302653 * math.log(2) / 3**0.5)


def test_an_encoding_that_only_a_later_run_knows(write):
    """Names come in the order of the runs' registries, merged."""
    older, newer = saved(), saved()
    newer["attnlib"]["axes"]["pe"] = ["none", "sinusoidal", "fresh"]
    newer["attnlib"]["cases"][-1]["case"]["pe"] = "fresh"
    newer["benchmarks"][-1]["extra_info"]["case"]["pe"] = "fresh"
    newer["benchmarks"][-1]["extra_info"]["case_id"] = newer["attnlib"]["cases"][-1]["case_id"] = "f"
    cells = Cells([load(write(older, "a.json")), load(write(newer, "b.json"))])

    assert cells.names("pe") == ["none", "sinusoidal", "learned", "fresh"]
    assert cells.axis("pe") == ["none", "sinusoidal", "fresh"]
    assert find_figure("time_against_seq_len")(cells) is not None


def test_runs_are_found_by_name_and_number(tmp_path):
    """A number, a run name or a stem stands for saved runs, a file for itself, anything else for nothing saved."""
    for name in ("0001_before", "0002_before", "0003_after", "0004_abc_20260101_000000"):
        (tmp_path / "Linux").mkdir(exist_ok=True)
        (tmp_path / "Linux" / f"{name}.json").write_text("{}")
    found = {
        name: [p.stem for p in find(Path(name), tmp_path)] for name in ("before", "0003", "0004_abc_20260101_000000")
    }

    assert found["before"] == ["0001_before", "0002_before"]
    assert found["0003"] == ["0003_after"]
    assert found["0004_abc_20260101_000000"] == ["0004_abc_20260101_000000"]
    assert find(Path("nothing"), tmp_path) == [Path("nothing")]
    assert find(tmp_path / "Linux" / "0003_after.json", tmp_path) == [tmp_path / "Linux" / "0003_after.json"]


@pytest.mark.parametrize("figure", ["time_against_seq_len", "time_against_depth"])
@pytest.mark.parametrize("disturbed", [True, False])
def test_disturbed_points_are_hollow(write, figure, disturbed):
    """A point of a run that something held up is drawn hollow, and the note says what that means."""
    run = load(write(saved(disturbed=["busy"] if disturbed else [])))
    drawn = find_figure(figure)(Cells([run]))
    hollow = [c for axes in drawn.axes for c in axes.collections if isinstance(c, PathCollection)]

    assert bool(hollow) == disturbed
    assert all((c.get_facecolor() == 1).all() for c in hollow)
    (legend,) = drawn.legends
    assert ("hollow: 8 points with a disturbed run" in legend.get_title().get_text()) == disturbed


def said_at(time):
    """The least that a file of pytest-benchmark says, with a time of saving."""
    return {"machine_info": {}, "benchmarks": [], "datetime": time}


def test_the_newest_run_is_the_one_saved_last(tmp_path):
    """By the time in its file, whatever its number or its file's date; reference runs are nobody's default."""
    times = {
        "reference/0009_x": "05",
        "Linux/0001_x": "03",
        "Linux/9999_x": "01",
        "Linux/10000_x": "04",
        "x/0002_x": "02",
    }
    for age, (name, month) in enumerate(times.items()):
        path = tmp_path / f"{name}.json"
        path.parent.mkdir(exist_ok=True)
        path.write_text(json.dumps(said_at(f"2026-{month}-01T00:00:00+00:00")))
        os.utime(path, (age, age))
    (tmp_path / "Linux" / "notes.json").write_text("{}")

    assert newest(tmp_path) == tmp_path / "Linux" / "10000_x.json"
    (tmp_path / "Linux" / "10000_x.json").unlink()
    assert newest(tmp_path) == tmp_path / "Linux" / "0001_x.json"


@pytest.mark.parametrize(
    ("older", "newer"),
    [
        (said_at("2026-11-29T09:30:00+02:00"), said_at("2026-11-29T08:00:00+00:00")),
        (said_at("2026-11-29T09:30:00+02:00"), said_at("2026-11-29T08:00:00")),
        (said_at("9"), said_at("2026-11-29T08:00:00+00:00")),
        (said_at(9e9), said_at("2026-11-29T08:00:00Z")),
        ({"datetime": "2027-01-01T00:00:00+00:00"}, said_at("2026-11-29T08:00:00+00:00")),
        (
            {"datetime": "2027-01-01T00:00:00+00:00", "benchmarks": {}, "machine_info": {}},
            said_at("2026-11-29 08:00:00"),
        ),
    ],
    ids=["another zone", "no zone", "no time", "a number", "no run", "another program's"],
)
def test_times_of_saving_are_compared_as_times(tmp_path, older, newer):
    """Each in its zone, UTC where it has none; what is no time, or no file of pytest-benchmark, is the oldest."""
    for name, run in (("0001_new", newer), ("0002_old", older)):
        (tmp_path / "Linux").mkdir(exist_ok=True)
        (tmp_path / "Linux" / f"{name}.json").write_text(json.dumps(run))

    assert newest(tmp_path).stem == "0001_new"
    (tmp_path / "Linux" / "0002_old.json").rename(tmp_path / "Linux" / "0000_old.json")
    assert newest(tmp_path).stem == "0001_new"


def test_a_run_is_found_whatever_its_number(tmp_path):
    """By its name or its file's, beyond 9999 too; a number within a name is none; what may be two runs is refused."""
    for name in ("9999_b", "10000_b", "0001_2026_b", "0002_10000_b"):
        (tmp_path / "Linux").mkdir(exist_ok=True)
        (tmp_path / "Linux" / f"{name}.json").write_text("{}")

    assert [path.stem for path in find(Path("b"), tmp_path)] == ["10000_b", "9999_b"]
    assert [path.stem for path in find(Path("9999_b"), tmp_path)] == ["9999_b"]
    assert [path.stem for path in find(Path("2026_b"), tmp_path)] == ["0001_2026_b"]
    with pytest.raises(BadRun, match=r"10000_b may be .* or .*; say which file"):
        find(Path("10000_b"), tmp_path)


@pytest.fixture(name="home")
def _home(tmp_path, monkeypatch):
    """A checkout, as ``results`` knows one, with attnlib installed elsewhere."""
    for name in ("bench", "attnlib", "docs"):
        (tmp_path / "home" / name).mkdir(parents=True)
    monkeypatch.setattr("attnlib.runs.find.INSTALLED", tmp_path / "site-packages")
    return tmp_path / "home"


@pytest.mark.parametrize("place", [".", "bench", "docs"])
def test_sessions_save_where_commands_look(home, monkeypatch, place):
    """In the results/ of the checkout around them, though attnlib is installed elsewhere and nothing was saved yet."""
    monkeypatch.chdir(home / place)

    assert results() == results(home / place) == home / "results"


def test_a_session_elsewhere_saves_in_its_own_root(home, tmp_path, monkeypatch):
    """And commands look there once it has; before in the checkout that attnlib is installed from, if any."""
    (tmp_path / "mine" / "src").mkdir(parents=True)
    monkeypatch.chdir(tmp_path / "mine" / "src")
    assert results(tmp_path / "mine") == tmp_path / "mine" / "results"
    assert results() == tmp_path / "mine" / "src" / "results"
    monkeypatch.setattr("attnlib.runs.find.INSTALLED", home / ".venv" / "site-packages")
    assert results() == home / "results"
    (tmp_path / "mine" / "results" / "Linux").mkdir(parents=True)
    (tmp_path / "mine" / "results" / "Linux" / "10000_x.json").touch()

    assert results() == tmp_path / "mine" / "results"


def test_the_suite_is_found_beside_an_installed_package(home, monkeypatch):
    """Commands that measure start the tests of the checkout around them."""
    monkeypatch.chdir(home / "docs")

    assert with_bench(["-x"]) == [str(home / "bench"), "-x"]


@pytest.mark.parametrize(
    "module",
    ["attnlib.commands.__main__", "plots", "attnlib", "attnlib.runs.find", "attnlib.live.ab", "attnlib.show.registry"],
)
def test_readers_import_no_torch(module):
    """Comparing and plotting start without torch and pytest."""
    code = f"import sys, {module}; sys.exit(any(name in sys.modules for name in ('torch', 'pytest')))"

    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=False).returncode == 0


def test_units():
    """Seconds and bytes are scaled for people, MiB being 2**20."""
    assert [seconds(x) for x in (2.0, 1.234e-3, 5e-6, 7e-9)] == ["2 s", "1.23 ms", "5 us", "7 ns"]
    assert [size(2**20), size(3 * 2**30)] == ["1 MiB", "3 GiB"]
    assert [duration(x) for x in (5, 185)] == ["5 s", "3 min 05 s"]


def test_files_of_one_run_are_one_run(write):
    """Shards are joined, a case that came further counts, and what an interrupted run left beside it adds nothing."""
    whole = saved()
    whole["attnlib"]["run"] = "abc"
    shards = [copy.deepcopy(whole) for _ in range(2)]
    for shard, rows in zip(shards, (slice(0, 3), slice(2, None)), strict=True):
        shard["attnlib"]["cases"] = shard["attnlib"]["cases"][rows]
        kept = {row["test"] for row in shard["attnlib"]["cases"]}
        shard["benchmarks"] = [b for b in shard["benchmarks"] if b["fullname"] in kept]
    shards[0]["attnlib"]["cases"][2] |= {"status": "interrupted", "reason": "the run ended before it"}
    shards[0]["benchmarks"].pop()
    paths = [write(run, f"{index}.json") for index, run in enumerate((*shards, whole))]
    (joined,), bad = load_all(paths[:2])
    (again,), _ = load_all(paths)

    assert not bad
    assert {cell.case_id: cell.median for cell in joined.cells} == {c.case_id: c.median for c in load(paths[2]).cells}
    assert {cell.case_id: cell.median for cell in again.cells} == {c.case_id: c.median for c in load(paths[2]).cells}


def test_a_run_has_the_machines_of_its_processes(write):
    """If each process says its node, the run was measured there."""
    run = saved()
    run["attnlib"]["processes"] = [{"node": "n1"}, {"node": "n2"}, {"node": "n1"}]

    assert [machine["node"] for machine in load(write(run)).machines] == ["n1", "n2"]


@pytest.mark.parametrize(
    "name",
    ["", ".", "..", ".x", "-x", "+x", "a/b", "a\\b", " x", "x ", "x\n", "a b", "0003", "x" * 201, "\u00e9" * 101],
)
def test_what_cannot_name_a_run(name):
    """Neither a part of a path nor an option, nor another run's number; the message has it."""
    with pytest.raises(ValueError, match=re.escape(repr(name)[:40])):
        check_name(name)


@pytest.mark.parametrize(
    "name", ["before", "_x", "1.5", "2026-03-01", "0003_x", "a..b", "v1.0+cuda", "\u00e9t\u00e9", "x" * 200]
)
def test_what_can_name_a_run(name):
    """Letters of any script, digits and some marks."""
    assert check_name(name) == name
