"""The script for a first card: its steps against a fake, refuted assumptions, hangs, failures, and what it prints."""

import ast
import json
import sys
import time
import warnings
from pathlib import Path

import psutil
import pytest
import torch

from attnlib.measure import clock
from attnlib.measure.device import Device
from attnlib.predict.choice import Choice
from attnlib.tests import ROOT
from attnlib.tests.first_contact import __main__ as script
from attnlib.tests.first_contact import kernels, process, sessions
from attnlib.tests.first_contact.fake import FakeCard, FakeWorkload
from attnlib.tests.first_contact.findings import HOLDS, NOT_RUN, REFUTED
from attnlib.tests.first_contact.steps import STEPS, Step
from attnlib.tests.gpu_preset import estimates, session_s, settings_of
from attnlib.tests.measure import fake_cuda

NEEDS = {"attnlib", "torch", "numpy", "pytest", "psutil"}  # which attnlib needs too
FAILING = """
import pytest

def test_passes():
    pass

def test_fails():
    assert 1 == 2

@pytest.mark.skip
def test_skipped():
    pass
"""
SKIPPED = "<testsuites><testsuite><testcase name='a'><skipped/></testcase></testsuite></testsuites>"


@pytest.fixture(name="claims_of")
def _claims_of(monkeypatch, tmp_path):
    """Runs a step on a fake card, which may differ from what we assume; returns its claims as they were written."""

    def run(name, card=FakeCard, **differs):
        assert script.run_step(name, card(monkeypatch, **differs), tmp_path) == 0
        return json.loads(script.path_of(name, tmp_path).read_text())["claims"]

    yield run
    monkeypatch.undo()
    clock.bind(Device())


@pytest.mark.parametrize(  # those that start sessions of pytest with the long tests
    "name", [pytest.param(name, marks=[pytest.mark.faults] * (name in ("session", "tests"))) for name in STEPS]
)
def test_every_step_runs_and_holds_on_the_fake(claims_of, name):
    """Each of its assumptions is judged, and the fake is as we assume."""
    found = claims_of(name)

    assert found.keys() == STEPS[name].claims.keys()
    assert {claim: entry["verdict"] for claim, entry in found.items()} == dict.fromkeys(found, HOLDS)
    assert all(entry["seen"] and entry["expected"] == STEPS[name].claims[claim] for claim, entry in found.items())


@pytest.mark.parametrize(
    ("name", "differs", "claim", "seen"),
    [
        ("machine", {"seen_by_nvml": False}, "listed", "the driver does not list this process"),
        pytest.param("launches", {"queue": 100}, "queue", "99 launches", marks=pytest.mark.faults),  # takes 4 s
        ("launches", {"queue": 10**6}, "queue", "more than 4096 launches"),
        ("memory", {"workspace": 2**26}, "workspaces", "64 MiB after forward, 128 MiB after backward"),
        ("ceilings", {"ceiling": 0.5}, "copies", "2000 GB/s, between events 4000"),
        ("ceilings", {"ceiling": 0.5}, "products", "350 TFLOP/s, between events 700"),
        pytest.param(
            "tests", {"tests": FAILING}, "cold", "1 passed; test_fails: assert 1 == 2", marks=pytest.mark.faults
        ),
        ("flex", {"uncompiled": 1}, "compiled", "'eager': 1"),
    ],
)
def test_a_card_that_differs_refutes(claims_of, name, differs, claim, seen):
    """The verdict says so, with the number that was seen."""
    found = claims_of(name, **differs)

    assert found[claim]["verdict"] == REFUTED
    assert seen in found[claim]["seen"]


def test_another_kernel_refutes(claims_of, monkeypatch):
    """Each case is named whose kernel is not the one that attnlib names."""
    monkeypatch.setattr(kernels, "ONCE", ("none", "rotary"))
    monkeypatch.setattr(kernels, "kernel_of", lambda case: Choice("efficient_attention"))
    found = claims_of("kernels")

    assert found["kernels"]["verdict"] == REFUTED
    assert "none forward: flash_attention_for_cpu, not efficient_attention" in found["kernels"]["seen"]
    assert found["warnings"]["verdict"] == HOLDS


def test_a_warning_and_a_failing_case_refute(claims_of, monkeypatch):
    """A step that warns says what; one that fails is named, and the others go on."""
    run = FakeWorkload.run

    def other_run(self):
        if self.case.pe == "rotary":
            raise RuntimeError("no such kernel\nmore lines")
        warnings.warn("TensorFloat32 is off", UserWarning, stacklevel=2)
        run(self)

    monkeypatch.setattr(kernels, "ONCE", ("none", "rotary"))
    monkeypatch.setattr(FakeWorkload, "run", other_run)
    found = claims_of("kernels")

    assert "rotary forward failed: no such kernel" in found["kernels"]["seen"]
    assert "none forward: UserWarning: TensorFloat32 is off" in found["warnings"]["seen"]
    assert {found["kernels"]["verdict"], found["warnings"]["verdict"]} == {REFUTED}


def test_a_peak_that_is_not_predicted_refutes(claims_of, monkeypatch):
    """Twice the predicted bytes, and more than the 2 MiB that may be between them."""
    weigh = FakeWorkload.weigh

    def twice(self, device):
        found = weigh(self, device)
        peak = found["allocated_peak"]
        return found | {"allocated_peak": peak | {"value": 2 * peak["value"] + 2**22}}

    monkeypatch.setattr(FakeWorkload, "weigh", twice)

    assert claims_of("memory")["peaks"]["verdict"] == REFUTED


def test_a_generator_that_stays_broken_refutes(claims_of, monkeypatch):
    """A new state does not help it after a refused capture."""
    monkeypatch.setattr(fake_cuda.Generator, "graphsafe_set_state", lambda self, state: None)
    found = claims_of("graphs")

    assert found["spoiled"]["verdict"] == REFUTED
    assert "Offset increment outside graph capture" in found["spoiled"]["seen"]


def test_a_session_that_saves_nothing_refutes(claims_of):
    """Its exit code is said, and what its rows would have said was not run."""

    class Refusing(FakeCard):
        def pytest(self, *words):
            return 3

    found = claims_of("session", Refusing)

    assert found["ends"] == found["ends"] | {"verdict": REFUTED, "seen": "exit code 3 and no saved run, see the log"}
    assert found["readings"]["verdict"] == NOT_RUN


def test_a_row_without_joules_refutes(claims_of):
    """The reading that is missing is named with its reason, and so is a row that is no number."""

    class Saving(FakeCard):
        def pytest(self, *words):
            (saved,) = [word.partition("=")[2] for word in words if word.startswith("--benchmark-json=")]
            info = {"time": {"disturbed": []}, "energy": {}, "memory": {}, "flags": []}
            for part, key in sessions.NEEDED.values():
                info[part][key] = {"value": 1.0, "reason": None}
            info["energy"]["joules"] = {"value": None, "reason": "the counter stood still"}
            cases = [{"test": "a", "status": "error", "reason": "no such kernel"}]
            run = {"benchmarks": [{"extra_info": info}] * 5, "attnlib": {"cases": cases}}
            Path(saved).write_text(json.dumps(run))
            return 1

    found = claims_of("session", Saving)

    assert found["readings"]["seen"] == "no joules: the counter stood still"
    assert found["ends"]["seen"] == "a: error, no such kernel"
    assert {found["readings"]["verdict"], found["ends"]["verdict"]} == {REFUTED}


def test_tests_that_are_skipped_say_nothing(claims_of):
    """Neither verdict: they were not run."""

    class Skipping(FakeCard):
        def pytest(self, *words):
            Path(words[-1].partition("=")[2]).write_text(SKIPPED)
            return 0

    found = claims_of("tests", Skipping)

    assert found["cold"] == found["cold"] | {"verdict": NOT_RUN, "seen": "1 tests skipped"}


def program(text):
    return [sys.executable, "-c", text]


def is_gone(number, patience=30.0):
    """Return True once a process ends: one that was killed takes a moment, and nobody need collect it."""
    until = time.monotonic() + patience
    while time.monotonic() < until:
        try:
            if psutil.Process(number).status() == psutil.STATUS_ZOMBIE:
                return True
        except psutil.NoSuchProcess:
            return True
        time.sleep(0.01)
    return False


def test_a_hang_is_killed_with_all_that_it_started(tmp_path):
    """The process of a process is gone too, and the log has what was printed."""
    sleep = "[sys.executable, '-c', 'import time; time.sleep(600)']"
    hang = f"import subprocess, sys, time; print(subprocess.Popen({sleep}).pid, flush=True); time.sleep(600)"
    log = tmp_path / "log"

    assert process.run_limited(program(hang), 1.0, log) == "killed after 1 s"
    assert is_gone(int(log.read_text()))


def test_a_failure_is_said_with_its_last_line(tmp_path):
    """A program that ended well says nothing; a signal is an exit code too."""
    log = tmp_path / "log"

    assert process.run_limited(program("print('fine')"), 60, log) is None
    assert process.run_limited(program("raise ValueError('no such card')"), 60, log) == (
        "exit code 1: ValueError: no such card"
    )
    assert process.run_limited(program("import os; os.kill(os.getpid(), 11)"), 60, log).startswith("exit code -11")


FOUND = """
import pathlib, sys
from attnlib.tests.first_contact.findings import Findings
found = Findings({"first": "1", "second": "2"}, pathlib.Path(sys.argv[1]))
found.note(device={"name": "NVIDIA A 100/40"})
found.judge("first", True, "one")
"""


@pytest.fixture(name="all_steps")
def _all_steps(monkeypatch, tmp_path):
    """Runs other steps than the usual ones, each a program; returns the exit code and the summary's lines."""

    def run(programs, seconds=60.0):
        steps = {name: Step(limit, {"first": "1", "second": "2"}, None) for name, (limit, _) in programs.items()}
        monkeypatch.setattr(script, "STEPS", steps)
        monkeypatch.setattr(script, "STARTED", time.monotonic())

        def command(name, out, *, fake):
            return [*program(programs[name][1]), str(script.path_of(name, out))]

        code = script.run_all(tmp_path, seconds, fake=False, command=command)
        return code, (tmp_path / "summary.md").read_text().splitlines()

    return run


def test_later_steps_run_after_failures(all_steps, tmp_path, capsys):
    """Findings of a failed step stay, one that hangs is killed, and the page has every assumption."""
    code, lines = all_steps(
        {
            "fails": (60, FOUND + "raise RuntimeError('illegal memory access')"),
            "hangs": (1, "import time; time.sleep(600)"),
            "ends": (60, FOUND + "found.judge('second', False, 'three')"),
        }
    )

    assert lines[0].startswith(f"# First contact: NVIDIA A 100/40, torch {torch.__version__}")
    assert lines[2].startswith("6 assumptions: 2 hold, 1 refuted, 3 not run; ")
    assert lines[6:] == [
        "| fails | 1 | one | holds |",
        "| fails | 2 | exit code 1: RuntimeError: illegal memory access | not run |",
        "| hangs | 1 | killed after 1 s | not run |",
        "| hangs | 2 | killed after 1 s | not run |",
        "| ends | 1 | one | holds |",
        "| ends | 2 | three | refuted |",
    ]
    assert code == 1
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        *(
            f"{n:02}-{name}.{ending}"
            for n, name in enumerate(["fails", "hangs", "ends"], 1)
            for ending in ("json", "log")
        ),
        "summary.md",
    ]
    assert "--run-name nvidia-a-100-40-1" in capsys.readouterr().out


def test_what_no_longer_fits_is_said(all_steps):
    """Without time left no step begins, and nothing of an earlier pass is taken for this one's."""
    all_steps({"ends": (60, FOUND)})
    code, lines = all_steps({"ends": (60, FOUND)}, seconds=0.0)

    assert lines[6:] == [f"| ends | {n} | no time left: 0 of 0 s | not run |" for n in (1, 2)]
    assert code == 0


@pytest.mark.faults
def test_the_command_runs_all_steps(tmp_path):
    """On the fake, from the first step to the page, each in its own process: most of a minute."""
    log = tmp_path / "log"
    words = ["-m", "attnlib.tests.first_contact", "--fake", "--out", str(tmp_path)]
    failed = process.run_limited([sys.executable, *words], 300, log)

    claims = sum(len(step.claims) for step in STEPS.values())
    assert failed is None, log.read_text()
    assert f"{claims} assumptions: {claims} hold, 0 refuted, 0 not run" in (tmp_path / "summary.md").read_text()


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a card")
def test_without_a_card_it_says_so(capsys, tmp_path):
    """One line and exit code 4; nothing is written."""
    code = script.main(["--out", str(tmp_path / "out")])
    (line,) = capsys.readouterr().out.splitlines()

    assert code == 4
    assert line == f"first_contact: torch {torch.__version__} finds no CUDA device; --fake tries the steps without one"
    assert not any(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--minutes", "soon"], "takes a positive number of minutes, not 'soon'"),
        (["--minutes", "-1"], "takes a positive number of minutes, not '-1'"),
        (["--step", "all"], "invalid choice: 'all' (choose from"),
    ],
)
def test_wrong_options_are_one_line(capsys, words, said):
    """It names the value; exit code 4."""
    with pytest.raises(SystemExit, match="4"):
        script.main(words)
    (line,) = capsys.readouterr().err.splitlines()

    assert said in line


def test_a_folder_that_cannot_be_is_one_line(capsys, tmp_path):
    """A file of its name may stand there, for instance."""
    (tmp_path / "taken").write_text("")
    code = script.main(["--fake", "--out", str(tmp_path / "taken")])
    (line,) = capsys.readouterr().out.splitlines()

    assert code == 4
    assert line.endswith("taken: File exists; name a folder that can be written to")


def test_the_first_saved_run_takes_less_than_three_minutes():
    """By nominal rates of an H200; it has cells that are bound by launches and others that are not."""
    options = {name: value for name, value in script.GRID.items() if name != "preset"}
    suite = [path.removeprefix("bench/").removesuffix(".py") for path in script.GRID_TESTS]
    found = estimates(settings_of(**options), suite)

    assert len(found) == 21
    assert session_s(found) < 180
    assert {one.launch_bound for one in found} == {True, False}
    assert {one.case.batch_size for one in found} == {int(options["batch_size"])}


def test_it_imports_only_what_attnlib_needs():
    """No package of the unit tests: neither the script, nor the tests that it runs."""
    folder = ROOT / "attnlib" / "tests"
    files = [*(folder / "first_contact").glob("*.py"), folder / "conftest.py", folder / "__init__.py"]
    files += [folder / "measure" / name for name in ("fake_cuda.py", "test_gpu.py", "__init__.py")]
    files += [folder / "plugin" / name for name in ("sessions.py", "__init__.py")]
    imported = set()
    for file in files:
        for node in ast.parse(file.read_text()).body:
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            names += [node.module] if isinstance(node, ast.ImportFrom) else []
            imported |= {name.partition(".")[0] for name in names}

    assert imported - sys.stdlib_module_names <= NEEDS
    assert "torch" in imported


def test_the_checkout_comes_first(tmp_path):
    """Another attnlib that is installed is not the one that a step runs."""
    show = "import attnlib, os; print(os.getcwd(), attnlib.__file__)"
    process.run_limited(program(show), 60, tmp_path / "log")

    assert (tmp_path / "log").read_text().split() == [str(ROOT), str(ROOT / "attnlib" / "__init__.py")]
