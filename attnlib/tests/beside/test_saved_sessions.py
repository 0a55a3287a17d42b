"""Sessions of another project that save: one file in its results/, nothing lost, and other plugins beside it."""

import json
import signal

import pytest

from attnlib.runs.load import load
from attnlib.runs.schema import problems
from attnlib.tests.beside.projects import pytest_in, python_in
from attnlib.tests.beside.test_foreign import QUICK

TESTS = """
import os, pytest, torch

x = torch.randn(32, 32)

@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("n", [8, 32])
def test_product(beside, n, dtype):
    y = x[:n].to(dtype)
    beside(lambda: y @ y.T, reference=lambda: y @ y.T)

def test_too_slow(beside):
    cost = beside(x.exp, reference=x.exp)
    assert cost.peak_bytes < 0, "never so few"

def test_raises(beside):
    beside(lambda: {}["weight"], reference=lambda: x)

def test_forgets(beside):
    pass

def test_of_another_kind(benchmark):
    benchmark(lambda: None)

def test_end(beside):
    if "END" in os.environ:
        os.kill(os.getpid(), int(os.environ["END"]))
    beside(lambda: x + 1, reference=lambda: x + 1)
"""


@pytest.fixture(name="project")
def _project(tmp_path):
    (tmp_path / "pytest.ini").write_text("[pytest]\n")
    (tmp_path / "bench").mkdir()
    (tmp_path / "bench" / "test_mine.py").write_text(TESTS)
    return tmp_path


def rows_of(project):
    """Rows of the one file in results/, which keeps the contract, by test's name."""
    (path,) = (path for path in (project / "results").rglob("*") if path.is_file())
    run = load(path)
    if path.suffix == ".json":
        assert problems(json.loads(path.read_text())) == []
    return {row.test.rpartition("::")[2]: row for row in run.beside}, path


def test_a_session_becomes_a_file(project):
    """Every test has its row, also where it failed behind its measurement; others' benchmarks are saved as ever."""
    done = pytest_in(project, "-q", *QUICK, "--benchmark-autosave")
    rows, path = rows_of(project)

    assert done.returncode == 1
    assert "2 failed, 7 passed" in done.stdout
    assert rows["test_product[8-dtype0]"].params == {"n": 8, "dtype": "torch.float32"}
    assert rows["test_product[8-dtype0]"].found.peak.value == 4 * 8 * 8
    assert (rows["test_too_slow"].status, rows["test_too_slow"].found.peak.value) == ("error", 4 * 32 * 32)
    assert "never so few" in rows["test_too_slow"].reason
    assert rows["test_raises"].reason == "AssertionError: the call raised KeyError: 'weight'"
    assert (rows["test_forgets"].status, rows["test_forgets"].reason) == ("unsupported", "its test did not call beside")
    assert "x its reference" in done.stdout
    (theirs,) = (project / ".benchmarks").rglob("*.json")
    assert "test_of_another_kind" in {row["name"] for row in json.loads(theirs.read_text())["benchmarks"]}
    table = python_in(project / "bench", "-m", "attnlib.commands", "costs")
    assert table.returncode == 0, table.stderr
    assert "bench/test_mine.py::test_product" in table.stdout
    assert str(path) not in table.stdout


@pytest.mark.faults  # with the long tests
def test_a_session_that_saves_nothing_leaves_nothing(project):
    """Without --benchmark-autosave or --benchmark-json no folder appears."""
    pytest_in(project, "-q", *QUICK, "-k", "product and 8")

    assert sorted(path.name for path in project.iterdir()) == [".benchmarks", "bench", "pytest.ini"]


@pytest.mark.faults  # with the long tests
@pytest.mark.parametrize(("end", "suffix"), [(signal.SIGTERM, ".json"), (signal.SIGKILL, ".journal")])
def test_what_was_measured_before_the_end_is_kept(project, end, suffix):
    """A signal leaves a whole file, a kill the journal; both are read, and say of the rest that it has no number."""
    options = ("-q", *QUICK, "--benchmark-autosave", "-k", "product or end")
    done = pytest_in(project, *options, environment={"END": str(int(end))})
    rows, path = rows_of(project)

    assert path.suffix == suffix
    assert abs(done.returncode) in (128 + end, end)
    assert [row.status for row in rows.values()][:4] == ["ok"] * 4
    assert rows["test_end"].status == {".json": "interrupted", ".journal": "crashed"}[suffix]


@pytest.mark.faults  # with the long tests
def test_a_named_file_is_written_too(project):
    """--benchmark-json alone names the file, which pytest-benchmark's own readers take."""
    done = pytest_in(project, "-q", *QUICK, "--benchmark-json=out.json", "-k", "product and 8")
    run = json.loads((project / "out.json").read_text())

    assert done.returncode == 0, done.stdout
    assert problems(run) == []
    assert {row["name"] for row in run["benchmarks"]} == {"test_product[8-dtype0]", "test_product[8-dtype1]"}
    assert not (project / "results").exists()


@pytest.mark.faults  # with the long tests
def test_with_the_suites_plugin_there_is_one_book(project):
    """Both plugins in one session: cases and such rows stand in one file, and the options are declared once."""
    (project / "conftest.py").write_text('pytest_plugins = ["attnlib.plugin"]\n')
    (project / "bench" / "test_cases.py").write_text(
        "from attnlib.plugin import lengths, over\n\n@over(lengths, phase='forward', depth=1)\n"
        "def test_forward(measure_case):\n    measure_case()\n"
    )
    small = ("--preset=smoke", "--seq-lens=8", "--pe=none", "--budget=0.02", "--visits=1")
    storage = f"--benchmark-storage=file://{project / 'results'}"
    options = (*QUICK, *small, storage, "--benchmark-autosave", "-k", "forward or product")
    done = pytest_in(project, "-q", *options)
    rows, path = rows_of(project)

    assert done.returncode == 0, done.stdout + done.stderr
    assert [cell.status for cell in load(path).cells] == ["ok"]
    assert [row.status for row in rows.values()] == ["ok"] * 4
