"""A project of others with attnlib installed: nothing happens without ``beside``, and its tests work with it."""

import re

import pytest

from attnlib.tests.beside.projects import pytest_in, python_in

LOADED = "import sys; print(sorted({name.partition('.')[0] for name in sys.modules} & {'torch', 'pytest_benchmark'}))"
PLAIN = """
import sys

def test_plain():
    assert "torch" not in sys.modules
    assert not [name for name in sys.modules if name.startswith("attnlib.") and name != "attnlib.beside"]
"""
QUICK = ("--beside-budget=0.05", "--beside-visits=2")
TESTS = """
import pytest, torch

x = torch.randn(64, 64)
w = torch.randn(64, 64, requires_grad=True)

@pytest.mark.parametrize("n", [16, 64])
def test_forward(beside, n):
    cost = beside(lambda: x[:n] @ x, reference=lambda: x[:n] @ x, threshold=1e9)  # however busy the machine
    assert cost.verdict == "same"
    assert cost.ratio.low <= cost.ratio.value <= cost.ratio.high
    assert cost.peak_bytes == cost.reference_peak_bytes == 4 * n * 64

def test_backward(beside):
    cost = beside(lambda: (x @ w).exp(), reference=lambda: x @ w, backward=True)
    assert cost.peak_bytes > cost.reference_peak_bytes
    assert w.grad is None

@pytest.mark.xfail(strict=True)
def test_wrong(beside):
    beside(lambda: 1 / 0, reference=lambda: 1)
"""


@pytest.fixture(name="project")
def _project(tmp_path):
    """A folder with tests, which is pytest's root."""
    (tmp_path / "pytest.ini").write_text("[pytest]\n")
    (tmp_path / "test_mine.py").write_text(TESTS)
    return tmp_path


def test_the_module_loads_pytest_alone(tmp_path):
    """Importing what the entry point names brings neither torch nor pytest-benchmark, nor another room of ours."""
    done = python_in(
        tmp_path, "-c", f"import attnlib.beside; {LOADED}; print([m for m in sys.modules if m.startswith('attnlib')])"
    )

    assert done.stdout.splitlines() == ["[]", "['attnlib', 'attnlib.beside']"]


def test_a_session_without_it_is_left_alone(tmp_path):
    """No import of torch and no line of output more."""
    (tmp_path / "test_plain.py").write_text(PLAIN)
    done = pytest_in(tmp_path, "-q")

    assert done.returncode == 0, done.stdout
    assert re.fullmatch(r"\.\s+\[100%\]\n1 passed in [\d.]+s", done.stdout.strip()), done.stdout


def test_a_fixture_of_that_name_of_others_is_theirs(tmp_path):
    """A project that has its own ``beside`` keeps it, and nothing is loaded for it."""
    own = "import pytest, sys\n@pytest.fixture\ndef beside():\n    return 3\n"
    (tmp_path / "test_own.py").write_text(
        f"{own}\ndef test_own(beside):\n    assert beside == 3\n    assert 'torch' not in sys.modules\n"
    )
    done = pytest_in(tmp_path, "-q")

    assert done.returncode == 0, done.stdout


def test_tests_measure(project):
    """Ratios, bytes and gradients are there; warnings are errors in such a project, and there are none."""
    done = pytest_in(project, "-q", *QUICK, "-W", "error", "-k", "not wrong")

    assert done.returncode == 0, done.stdout
    assert "3 passed" in done.stdout


@pytest.mark.faults  # with the long tests
@pytest.mark.parametrize("off", [("--benchmark-disable",), ("-n1",)])
def test_where_benchmarks_are_off_each_side_runs_once(project, off):
    """Tests are skipped and say why; one whose callable raises still fails."""
    (project / "test_counts.py").write_text(
        "calls = []\n\ndef test_counts(beside):\n    try:\n"
        "        beside(lambda: calls.append(1), reference=lambda: calls.append(2))\n"
        "    finally:\n        assert calls == [2, 1]\n"
    )
    done = pytest_in(project, "-rs", *off)

    assert done.returncode == 0, done.stdout
    assert "4 skipped, 1 xfailed" in done.stdout
    assert "pytest-benchmark is switched off" in done.stdout


@pytest.mark.parametrize(
    ("option", "message"),
    [
        ("--beside-visits=1", "takes a whole number of at least 2, not '1'"),
        ("--beside-visits=x", "takes a whole number of at least 2, not 'x'"),
        ("--beside-budget=0", "takes seconds of at least 0.001, not '0'"),
        ("--beside-threshold=nan", "takes a positive number, not 'nan'"),
        pytest.param("--beside-threads=0", "--beside-threads", marks=pytest.mark.faults),  # with the long tests
        pytest.param(
            "--beside-device=tpu", "no device 'tpu' on this machine; choose from auto, cpu", marks=pytest.mark.faults
        ),
    ],
)
def test_wrong_options(project, option, message):
    """One line names the value and the choices, exit code 4, and nothing is measured."""
    done = pytest_in(project, "-q", option)

    assert done.returncode == 4, done.stdout + done.stderr
    assert message in done.stdout + done.stderr
    assert "Traceback" not in done.stdout + done.stderr


WRONG = {  # calls, and what the failure of each says
    "beside(3, reference=f)": "beside takes a callable as call, as in lambda: f(x), not int",
    "beside(f, reference=None)": "beside takes a callable as reference, as in lambda: f(x), not NoneType",
    "beside(f, reference=f, threshold=-1)": "beside takes a positive number as threshold, as in 0.05, not -1",
    "beside(f, reference=f, threshold='x')": "beside takes a positive number as threshold, as in 0.05, not 'x'",
    "beside(f, reference=lambda: 1 / 0)": "the reference raised ZeroDivisionError: division by zero",
    "beside(f, reference=f, backward=True)": "the reference returned int; backward=True takes a tensor",
    "[beside(f, reference=f), beside(f, reference=f)]": "beside was called before in this test",
    "beside(f, reference=f, decided=True)": "1.000 [0.900, 1.200] times its reference: undecided at a threshold",
}


def test_wrong_calls(tmp_path):
    """Each test fails with a line that names what it was, and no traceback goes through our files."""
    tests = "".join(f"def test_{n}(beside):\n    {call}\n\n" for n, call in enumerate(WRONG))
    wide = "measuring.interval_of = lambda *_: Estimate(1.0, 0.9, 1.2)\n"
    imports = "from attnlib.beside import measuring\nfrom attnlib.compare.intervals import Estimate\n"
    (tmp_path / "test_it.py").write_text(f"{imports}{wide}\ndef f():\n    return 3\n\n{tests}")
    done = pytest_in(tmp_path, "-q", *QUICK)

    assert f"{len(WRONG)} failed" in done.stdout
    assert [message for message in WRONG.values() if message not in done.stdout] == []
    assert "attnlib/beside" not in done.stdout
