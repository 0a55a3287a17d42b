"""Saved runs: contract, loader, comparison, command line, figures."""

import copy
import json
import subprocess
import sys
from dataclasses import asdict
from pathlib import Path

import pytest

import plots
from attnlib.cli import main
from attnlib.runs.cells import centre
from attnlib.runs.compare import compare
from attnlib.runs.load import BadRun, load, newest
from attnlib.runs.schema import problems
from attnlib.runs.text import duration, seconds, size
from bench.cases import Case

ROOT = Path(__file__).parents[2]


def reading(value):
    return {"value": value, "method": "fake", "reason": None if value is not None else "not read"}


def saved(times=(1.0,), peak=1000, node="here", status="ok"):
    """A run of 2 lengths x 2 depths x 2 encodings; the last case of status ``status``."""
    cases = [Case(seq_len=T, depth=L, pe=pe) for T in (64, 128) for L in (2, 8) for pe in ("none", "sinusoidal")]
    rows = [{"case": asdict(c), "case_id": c.id, "test": c.id, "status": "ok", "reason": None} for c in cases]
    if status != "ok":
        rows[-1] |= {"status": status, "reason": "too large"}
    benchmarks = [
        {
            "fullname": row["test"],
            "extra_info": {
                "case": row["case"],
                "case_id": row["case_id"],
                "time": {"interval": [0.9, 1.1]},
                "memory": {"allocated_peak": reading(peak)},
                "cost": {},
            },
            "stats": {"data": [t * row["case"]["seq_len"] * row["case"]["depth"] for t in times]},
        }
        for row in rows
        if row["status"] == "ok"
    ]
    machine = {"node": node, "attnlib": {"device": {}, "versions": {}, "threads": 2}}
    axes = {"pe": ["none", "sinusoidal", "learned"], "block": ["plain"]}
    return {
        "machine_info": machine,
        "commit_info": {},
        "benchmarks": benchmarks,
        "datetime": "2026-01-01",
        "version": "5",
        "attnlib": {"schema": 1, "cases": rows, "axes": axes},
    }


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


@pytest.mark.parametrize("path", sorted((ROOT / "results" / "reference").glob("*.json")), ids=lambda p: p.name)
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
    "schema 2, this version reads 1": broken(lambda r: r["attnlib"].update(schema=2)),
    "no raw samples": broken(lambda r: r["benchmarks"][0]["stats"].pop("data")),
    "is not finite": broken(lambda r: r["benchmarks"][0]["stats"].update(data=[float("nan")])),
    "unknown status 'fine'": broken(lambda r: r["attnlib"]["cases"][0].update(status="fine")),
    "status oom without a reason": broken(lambda r: r["attnlib"]["cases"][0].update(status="oom")),
    "memory.allocated_peak is no reading": broken(
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


def test_a_run_with_itself_is_the_same(write, capsys):
    """Every ratio is exactly 1, nothing changed, exit code 0."""
    path = str(write(saved()))
    comparison = compare([load(Path(path))], [load(Path(path))])

    assert {row.ratio for row in comparison.rows} == {1.0}
    assert {row.verdict for row in comparison.rows} == {"same"}
    assert main(["compare", "--base", path, "--new", path]) == 0


def test_one_run_a_side_is_undecided(write, capsys):
    """Twice the time in one run a side is a ratio of 2 and no verdict; exit code 2."""
    base, new = write(saved(), "a.json"), write(saved((2.0,)), "b.json")
    comparison = compare([load(base)], [load(new)])

    assert {row.ratio for row in comparison.rows} == {2.0}
    assert {row.verdict for row in comparison.rows} == {"undecided: 1 run a side"}
    assert main(["compare", "--base", str(base), "--new", str(new)]) == 2


def test_bytes_compare_exactly(write, capsys):
    """One byte more is a regression with one run a side; one less is not."""
    base, more, less = (write(saved(peak=p), f"{p}.json") for p in (1000, 1001, 999))

    assert main(["compare", "--base", str(base), "--new", str(more)]) == 1
    assert "+1 B" in capsys.readouterr().out
    assert main(["compare", "--base", str(base), "--new", str(less)]) == 2


def test_a_case_that_no_longer_runs_is_a_regression(write, capsys):
    """Ok to oom is listed and exits 1; the way back does not."""
    base, new = write(saved(), "a.json"), write(saved(status="oom"), "b.json")

    assert main(["compare", "--base", str(base), "--new", str(new)]) == 1
    assert "no time: ok | oom" in " ".join(capsys.readouterr().out.split())
    assert main(["compare", "--base", str(new), "--new", str(base)]) == 2


def test_unmatched_cases_are_listed(write):
    """A case of one side only is a row, not a gap."""
    less = saved()
    gone = less["attnlib"]["cases"].pop()["case_id"]
    less["benchmarks"] = [b for b in less["benchmarks"] if b["extra_info"]["case_id"] != gone]
    base, new = write(saved(), "a.json"), write(less, "b.json")
    verdicts = {row.case_id: row.verdict for row in compare([load(base)], [load(new)]).rows}

    assert verdicts[gone] == "only in base"


def test_another_machine_is_named(write, capsys):
    """A different node stands above the table."""
    base, new = write(saved(), "a.json"), write(saved(node="there"), "b.json")
    main(["compare", "--base", str(base), "--new", str(new)])

    assert "different machine or settings: node: here | there" in capsys.readouterr().out


def test_bad_files_beside_good_ones_are_named(write, capsys):
    """A bad file is named, the good ones are compared, exit code 2."""
    good, bad = write(saved(), "a.json"), write("{", "b.json")

    assert main(["compare", "--base", str(good), str(bad), "--new", str(good)]) == 2
    captured = capsys.readouterr()
    assert "b.json: not JSON" in captured.err
    assert "8 cases" in captured.out


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
    """Nothing to draw is one line and exit code 2."""
    assert plots.main([str(write("", "empty.json")), "--out", str(tmp_path / "f")]) == 2
    assert "empty.json: not JSON" in capsys.readouterr().err
    assert not (tmp_path / "f").exists()


def test_several_runs_have_run_to_run_intervals(write):
    """Three runs' medians 1, 2, 3 have mean 2 and the t interval with 2 degrees of freedom."""
    runs = [load(write(saved((t,)), f"{t}.json")) for t in (1.0, 2.0, 3.0)]
    mean, low, high = centre([run.cells[0] for run in runs])

    assert mean == pytest.approx(2 * 128)
    assert (high - low) / 2 / 128 == pytest.approx(4.302653 / 3**0.5)


def test_newest_leaves_reference_runs_out(tmp_path):
    """The committed reference runs are nobody's default."""
    for name in ("reference/0009_x.json", "Linux/0001_y.json", "Linux/notes.json"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("{}")

    assert newest(tmp_path) == tmp_path / "Linux" / "0001_y.json"


@pytest.mark.parametrize("module", ["attnlib.cli", "plots", "attnlib"])
def test_readers_import_no_torch(module):
    """Comparing and plotting start without torch and pytest."""
    code = f"import sys, {module}; sys.exit(any(name in sys.modules for name in ('torch', 'pytest')))"

    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=False).returncode == 0


def test_units():
    """Seconds and bytes are scaled for people, MiB being 2**20."""
    assert [seconds(x) for x in (2.0, 1.234e-3, 5e-6, 7e-9)] == ["2 s", "1.23 ms", "5 us", "7 ns"]
    assert [size(2**20), size(3 * 2**30)] == ["1 MiB", "3 GiB"]
    assert [duration(x) for x in (5, 185)] == ["5 s", "3 min 05 s"]
