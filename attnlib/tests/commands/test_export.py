"""Saved runs as data frames: one tidy row a case."""

import json
import sys

import pandas
import pytest

from attnlib.commands.__main__ import main
from attnlib.tests.runs.examples import saved


@pytest.fixture(name="path")
def _path(tmp_path):
    path = tmp_path / "run.json"
    path.write_text(json.dumps(saved(ratio=1.5, status="oom")))
    return path


def test_csv_loads_in_one_line(path, tmp_path, capsys):
    """A row a planned case with its fields, seconds and bytes; what was not measured is empty, never 0."""
    out = tmp_path / "cases.csv"
    assert main(["export", str(path), "--csv", "--out", str(out)]) == 0
    frame = pandas.read_csv(out)

    assert len(frame) == 8
    assert frame.status.tolist() == 7 * ["ok"] + ["oom"]
    assert frame.reason.dropna().tolist() == ["too large"]
    assert frame[frame.status == "oom"][["time_s", "over_reference", "peak_bytes"]].isna().all(axis=None)
    learned = frame[(frame.pe == "sinusoidal") & (frame.status == "ok")]
    assert learned.over_reference.unique().tolist() == [1.5]
    assert learned.time_s.tolist() == pytest.approx((1.5 * learned.seq_len * learned.depth).tolist())
    assert frame.peak_bytes.dropna().unique().tolist() == [1000]

    assert main(["export", str(path), "--csv"]) == 0
    assert capsys.readouterr().out == out.read_text()


def test_parquet_keeps_types(path, tmp_path):
    """The same numbers, with integers as integers and null as null."""
    text, binary = tmp_path / "cases.csv", tmp_path / "cases.parquet"
    assert main(["export", str(path), "--csv", "--out", str(text)]) == 0
    assert main(["export", str(path), "--parquet", "--out", str(binary)]) == 0
    frame = pandas.read_parquet(binary)

    assert frame.shape == pandas.read_csv(text).shape
    assert frame.seq_len.dtype == "int64"
    assert frame.time_s.isna().sum() == 1
    assert frame.time_s.dropna().tolist() == pytest.approx(pandas.read_csv(text).time_s.dropna().tolist(), rel=1e-15)


def test_a_column_of_several_types_is_text(path, tmp_path):
    """Values that Parquet cannot hold as numbers are there as text."""
    run = json.loads(path.read_text())
    for number, row in enumerate(run["attnlib"]["cases"]):
        row["case"]["own"] = ["word", 3, 2**70, None, True, 0.5, "x", 1][number]
    for benchmark, row in zip(run["benchmarks"], run["attnlib"]["cases"], strict=False):
        benchmark["extra_info"]["case"]["own"] = row["case"]["own"]
    path.write_text(json.dumps(run))
    out = tmp_path / "cases.parquet"
    assert main(["export", str(path), "--parquet", "--out", str(out)]) == 0

    assert pandas.read_parquet(out).own.tolist()[:3] == ["word", "3", str(2**70)]


def test_two_runs_are_twice_the_rows(path, tmp_path, capsys):
    """Each row names its run; columns are those of all runs, and Markdown has a line a row."""
    other = tmp_path / "other.json"
    other.write_text(json.dumps(saved()))
    assert main(["export", str(path), str(other), "--markdown"]) == 0
    lines = capsys.readouterr().out.splitlines()

    assert len(lines) == 2 + 16
    assert sum(line.startswith("| other |") for line in lines) == 8


def test_refusals_are_a_line(path, tmp_path, capsys, monkeypatch):
    """No form, no file for Parquet, no folder, no pyarrow, no run: nothing is written."""
    with pytest.raises(SystemExit, match="4"):
        main(["export", str(path)])
    assert "one of the arguments --csv --markdown --parquet is required" in capsys.readouterr().err
    out, empty = tmp_path / "none" / "cases", tmp_path / "empty.json"
    nothing = saved()
    nothing["attnlib"]["cases"] = nothing["benchmarks"] = []
    empty.write_text(json.dumps(nothing))
    refused = [
        ([str(path), "--parquet"], "--parquet writes no text; name a file with --out"),
        ([str(path), "--csv", "--out", str(out)], f"cannot write {out}: No such file or directory"),
        ([str(tmp_path / "gone.json"), "--csv"], "No such file or directory"),
        ([str(path), "--csv", "--out", str(path)], f"--out {path} is one of the runs"),
        ([str(empty), "--csv"], "no cases in these runs"),
    ]
    for words, said in refused:
        assert main(["export", *words]) == (74 if "cannot write" in said else 4)
        assert said in capsys.readouterr().err
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    assert main(["export", str(path), "--parquet", "--out", str(tmp_path / "cases")]) == 4
    assert "--parquet needs pyarrow; pip install pyarrow" in capsys.readouterr().err
    assert not (tmp_path / "cases").exists()
