"""Runs as people bring them: from other folders, consoles and systems, unlike each other, or with cases missing."""

import copy
import json
import os
import subprocess
import sys

import pytest

import plots
from attnlib.commands.__main__ import main
from attnlib.compare.cells import read_cells
from attnlib.compare.saved import compare
from attnlib.runs.find import find, load_all
from attnlib.runs.load import BadRun, load
from attnlib.tests import ROOT
from attnlib.tests.runs.examples import saved


@pytest.fixture(name="write")
def _write(tmp_path):
    def write(run, name):
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(json.dumps(run))
        return path

    return write


def with_status(status, last=True, **options):
    run = saved(**options)
    row = run["attnlib"]["cases"][-1 if last else 0]
    row |= {"status": status, "reason": "because"}
    run["benchmarks"] = [b for b in run["benchmarks"] if b["fullname"] != row["test"]]
    return run


def test_a_number_that_is_also_a_name_is_refused(write, tmp_path):
    """``0003`` of two runs is named with both files, as a bad file is, and the good ones are used."""
    for name in ("x/0003_before.json", "x/0007_0003.json", "x/0008_after.json"):
        write(saved(), name)
    with pytest.raises(BadRun, match=r"0003_before.json or .*0007_0003.json; say which"):
        find(tmp_path.__class__("0003"), tmp_path)

    assert [path.name for path in find(tmp_path.__class__("after"), tmp_path)] == ["0008_after.json"]
    assert [path.name for path in find(tmp_path.__class__("0007"), tmp_path)] == ["0007_0003.json"]


def test_an_ambiguous_name_loses_no_other(write, tmp_path, monkeypatch):
    """The others on the command line are loaded."""
    monkeypatch.setattr("attnlib.runs.find.find.__defaults__", (tmp_path,))
    for name in ("x/0003_before.json", "x/0007_0003.json", "x/0008_after.json"):
        write(saved(), name)
    runs, bad = load_all(map(tmp_path.__class__, ("0003", "after")))

    assert [run.name for run in runs] == ["0008_after"]
    assert len(bad) == 1


@pytest.mark.parametrize("allowed", [False, True])
def test_cases_that_vanish_count(write, capsys, allowed):
    """A case of the base that no new run has is in the summary and a regression, unless it is allowed."""
    base, new = saved(), saved()
    gone = new["attnlib"]["cases"].pop()
    new["benchmarks"] = [b for b in new["benchmarks"] if b["fullname"] != gone["test"]]
    files = ["--base", str(write(base, "a.json")), "--new", str(write(new, "b.json"))]
    options = ["--allow-undecided", *(["--allow-missing"] if allowed else [])]

    assert main(["compare", *files, *options]) == (0 if allowed else 1)
    assert "exact: 8 cases, changed in 1, 1 of the base are gone" in capsys.readouterr().out


def test_cases_that_were_not_chosen_do_not_vanish(write, capsys):
    """If the new side's command chose other cases, it is said and no regression."""
    base, new = saved(), saved()
    new["attnlib"]["command"] = ["pytest", "bench/", "--pe=none"]
    gone = new["attnlib"]["cases"].pop()
    new["benchmarks"] = [b for b in new["benchmarks"] if b["fullname"] != gone["test"]]
    files = ["--base", str(write(base, "a.json")), "--new", str(write(new, "b.json"))]

    assert main(["compare", *files, "--allow-undecided"]) == 0
    assert "1 of the base are gone (other cases were chosen)" in capsys.readouterr().out


@pytest.mark.parametrize(
    "statuses", [("interrupted", "oom", "oom"), ("oom", "oom", "interrupted"), ("ok", "interrupted", "crashed")]
)
def test_the_worst_status_of_a_side_decides(write, statuses):
    """In any order of the runs a case that was lost in one of them is lost."""
    base = [load(write(saved(), f"base{i}.json")) for i in range(3)]
    made = [saved() if status == "ok" else with_status(status) for status in statuses]
    new = [load(write(run, f"new{i}.json")) for i, run in enumerate(made)]

    assert compare(base, new).exit_code(allow_undecided=True) == 1


@pytest.mark.parametrize(("limit", "code"), [([], 1), (["--memory-limit=1GiB"], 0)])
def test_what_other_limits_bring_about_is_no_regression(write, limit, code, capsys):
    """Out of memory under a limit that the base had not is said, and nothing against the code."""
    base, new = saved(), with_status("oom")
    base["attnlib"]["command"], new["attnlib"]["command"] = ["pytest", "bench/"], ["pytest", "bench/", *limit]
    files = ["--base", str(write(base, "a.json")), "--new", str(write(new, "b.json"))]

    assert main(["compare", *files, "--allow-undecided"]) == code
    assert ("status ok -> oom; under other limits" in capsys.readouterr().out) == bool(limit)


def test_interrupted_in_every_run_says_nothing(write):
    """A case that no new run reached is no regression of the code."""
    base, new = load(write(saved(), "a.json")), load(write(with_status("interrupted"), "b.json"))

    assert compare([base], [new]).exit_code(allow_undecided=True) == 0


def test_another_environment_is_named(write):
    """Python, matmul precision and the quota of CPUs are part of what must agree."""
    other = saved()
    other["machine_info"]["attnlib"] |= {"python": "3.9", "float32_matmul_precision": "high", "cpu_quota": 1.5}
    lines = compare([load(write(saved(), "a.json"))], [load(write(other, "b.json"))]).machine

    assert {line.split(":")[0] for line in lines} == {"python", "float32_matmul_precision", "cpu_quota"}


@pytest.mark.parametrize("field", [{"d_model": 128}, {"batch_size": 8}, {"block": "pre_ln"}])
def test_unlike_stacks_share_no_table(write, field, capsys, tmp_path):
    """Tables and figures refuse runs whose train steps differ in width, batch or block, and name what differs."""
    other = saved()
    other["attnlib"]["axes"]["block"].append("pre_ln")
    for row in (*other["attnlib"]["cases"], *(b["extra_info"] for b in other["benchmarks"])):
        row["case"] |= field
        row["case_id"] = "x" + row["case_id"]
    paths = [write(saved(), "a.json"), write(other, "b.json")]
    cells, lines = read_cells(paths)
    (name,) = field

    assert cells is None
    assert f"unlike stacks cannot share a table or a figure: {name} " in lines[-1]
    assert main(["encodings", *map(str, paths)]) == 4
    assert plots.main([*map(str, paths), "--out", str(tmp_path / "figures")]) == 4
    assert "Traceback" not in capsys.readouterr().err


def test_unlike_stacks_at_other_lengths_share_no_line(write):
    """A smoke run beside a laptop's would be one line of two widths, though no point is there twice."""
    other = saved()
    for row in (*other["attnlib"]["cases"], *(b["extra_info"] for b in other["benchmarks"])):
        row["case"] |= {"d_model": 32, "seq_len": row["case"]["seq_len"] // 4}
        row["case_id"] = "x" + row["case_id"]
    for row, benchmark in zip(other["attnlib"]["cases"], other["benchmarks"], strict=True):
        row["test"] = benchmark["fullname"] = f"test_train_step[{row['case_id']}]"
    runs = [saved(), other]
    cells, lines = read_cells([write(run, f"{index}.json") for index, run in enumerate(runs)])

    assert cells is None
    assert "unlike stacks cannot share a table or a figure: d_model 64 | 32" in lines[-1]


def test_another_question_in_a_run_is_no_obstacle(write):
    """A test of one's own with other fields, as docs/recipes.md has it, leaves tables of the run as they are."""
    run = saved()
    row, benchmark = copy.deepcopy((run["attnlib"]["cases"][0], run["benchmarks"][0]))
    row |= {"case": row["case"] | {"ffn_mult": 4}, "case_id": "x", "test": "test_feed_forward[4]"}
    benchmark["fullname"] = row["test"]
    benchmark["extra_info"] |= {"case": row["case"], "case_id": "x"}
    run["attnlib"]["cases"].append(row)
    run["benchmarks"].append(benchmark)
    cells, lines = read_cells([write(run, "a.json"), write(saved(), "b.json")])

    assert lines == []
    assert len(cells.where(phase="train_step", seq_len=64, depth=2, pe="none")) == 1


def elsewhere(folder, *command, **environment):
    return subprocess.run(
        [sys.executable, *command],
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
        env=os.environ | environment,
    )


def test_a_console_without_umlauts_shows_the_rest(write, tmp_path):
    """Letters that cannot be shown are replaced, and the table is there."""
    path = write(saved(node="Büro"), "a.json")
    other = write(saved(node="Küche"), "b.json")
    command = ["-m", "attnlib.commands", "compare", "--base", str(path), "--new", str(other), "--allow-undecided"]
    done = elsewhere(ROOT, *command, PYTHONIOENCODING="ascii")

    assert "node: B?ro | K?che" in done.stdout
    assert "codec" not in done.stderr
    assert "exact: 8 cases" in done.stdout
