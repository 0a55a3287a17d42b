"""Exact comparisons, with one run a side: bytes, FLOPs, parameters, status, and which cases there are."""

import json

import pytest

from attnlib.cases.case import Case
from attnlib.compare.saved import compare
from attnlib.tests.compare.test_compare import command, load
from attnlib.tests.runs.examples import saved


@pytest.fixture(name="write")
def _write(tmp_path):
    def write(run, name):
        path = tmp_path / name
        path.write_text(json.dumps(run))
        return str(path)

    return write


def test_bytes_compare_exactly(write, capsys):
    """One byte more is a regression with one run a side; one less is not."""
    base, more, less = (write(saved(peak=p), f"{p}.json") for p in (1000, 1001, 999))

    assert command([base], [more]) == 1
    assert "+1 B" in capsys.readouterr().out
    assert command([base], [less]) == 2
    assert "bytes 1000 -> 999" in capsys.readouterr().out


def test_flops_and_parameters_compare_exactly(write, capsys):
    """Other FLOPs or parameters of the same case are listed."""
    changed = saved()
    for row in changed["benchmarks"]:
        row["extra_info"]["cost"] = {"flops": 7, "params": 3}
    command([write(saved(), "a.json")], [write(changed, "b.json")])
    out = capsys.readouterr().out

    assert "flops None -> 7; params None -> 3" in out
    assert "changed in 8" in out


def test_a_case_that_no_longer_runs_is_a_regression(write, capsys):
    """Ok to oom is listed and exits 1; the way back does not."""
    base, new = write(saved(), "a.json"), write(saved(status="oom"), "b.json")

    assert command([base], [new]) == 1
    assert "status ok -> oom" in capsys.readouterr().out
    assert command([new], [base]) == 2


def test_unmatched_cases_are_listed(write):
    """A case of one side only is a row, not a gap, and not a regression."""
    less = saved()
    gone = less["attnlib"]["cases"].pop()["case_id"]
    less["benchmarks"] = [b for b in less["benchmarks"] if b["extra_info"]["case_id"] != gone]
    rows = {row.case_id: row for row in compare([load(write(saved(), "a.json"))], [load(write(less, "b.json"))]).rows}

    assert rows[gone].changes == ("only in base",)
    assert not rows[gone].regressed


def test_a_changed_configuration_is_named(write):
    """The same test with another width is two cases, and each says what the other has."""
    other = saved()
    row = other["attnlib"]["cases"][0]
    wide = Case(**row["case"] | {"d_model": 128})
    row |= {"case": wide.__dict__, "case_id": wide.id}
    other["benchmarks"][0]["extra_info"] |= {"case": wide.__dict__, "case_id": wide.id}
    comparison = compare([load(write(saved(), "a.json"))], [load(write(other, "b.json"))])
    changes = {change for row in comparison.rows for change in row.changes}

    assert changes == {"only in base: d_model=64 for 128", "only in new: d_model=128 for 64"}


def test_nothing_in_common_is_never_fine(write):
    """Sides that share no case exit with 2, even where undecided is allowed."""
    other = saved()
    for row, benchmark in zip(other["attnlib"]["cases"], other["benchmarks"], strict=True):
        row["case_id"] = benchmark["extra_info"]["case_id"] = "x" + row["case_id"]

    assert command([write(saved(), "a.json")], [write(other, "b.json")], "--allow-undecided") == 2


def test_an_interrupted_run_says_nothing(write):
    """A case that a run did not reach is listed, and no regression."""
    base, new = write(saved(), "a.json"), write(saved(status="interrupted"), "b.json")
    rows = compare([load(base)], [load(new)]).rows

    assert any("status ok -> interrupted" in row.changes for row in rows)
    assert not any(row.regressed for row in rows)
