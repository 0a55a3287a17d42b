"""Programs that read pytest-benchmark's files: its own command line, github-action-benchmark, Bencher."""

import csv
import importlib.util
import json
import math
import subprocess
import sys

import pytest

from attnlib.tests import ROOT

REFERENCE = sorted((ROOT / "results" / "reference").glob("*.json"))
# What github-action-benchmark (src/extract.ts) and Bencher (its python_pytest adapter) take of each benchmark.
TAKEN = ("ops", "stddev", "mean", "rounds", "median", "iqr")


@pytest.fixture(name="storage", scope="module")
def _storage(tmp_path_factory):
    """A storage of two runs as pytest-benchmark lays it out."""
    folder = tmp_path_factory.mktemp("storage")
    machine = folder / "Linux-CPython-3.11-64bit"
    machine.mkdir()
    for number, path in enumerate(REFERENCE[:2], 1):
        (machine / f"{number:04}_{path.stem}.json").write_bytes(path.read_bytes())
    return folder


def cli(storage, *words):
    command = [sys.executable, "-m", "pytest_benchmark", f"--storage=file://{storage}", *words]
    done = subprocess.run(command, capture_output=True, text=True, cwd=storage)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_compared_by_pytest_benchmark(storage):
    """Its table has every case of both runs, in groups of an axis if asked."""
    shown = cli(storage, "compare", "--columns=median,rounds", "--group-by=param:pe")

    assert "pe=rotary" in shown
    assert "test_train_step" in shown


def test_csv_of_pytest_benchmark(storage, tmp_path):
    """A row a timed case and run, with its axes as columns."""
    cli(storage, "compare", f"--csv={tmp_path / 'out.csv'}", "0001")
    with (tmp_path / "out.csv").open() as file:
        rows = list(csv.DictReader(file))

    assert len(rows) == len(json.loads(REFERENCE[0].read_text())["benchmarks"])
    assert {"param:seq_len", "param:depth", "param:pe"} <= rows[0].keys()


@pytest.mark.browser
def test_histogram_of_pytest_benchmark(storage, tmp_path):
    """A drawing for a group, which pygal draws; where pygal is, its import hook would warn in all other tests."""
    if importlib.util.find_spec("pygal") is None:
        pytest.skip("no pygal: tox -e browser brings it")
    cli(storage, "compare", "--histogram", str(tmp_path / "hist"), "--group-by=func")

    assert list(tmp_path.glob("hist*.svg"))


@pytest.mark.parametrize("path", REFERENCE, ids=lambda path: path.stem)
def test_numbers_are_finite_and_keys_are_there(path):
    """JSON without NaN or Infinity, a name each once, and every number that other readers take."""
    run = json.loads(path.read_text(), parse_constant=lambda name: pytest.fail(f"{name} is no JSON"))

    assert isinstance(run["machine_info"], dict)
    assert isinstance(run["commit_info"], dict)
    names = [benchmark["fullname"] for benchmark in run["benchmarks"]]
    assert len(names) == len(set(names))
    for benchmark in run["benchmarks"]:
        assert all(math.isfinite(benchmark["stats"][name]) for name in TAKEN)
        assert benchmark["stats"]["median"] > 0
