"""Tests of another repository as a worker of ``attnlib ab``, and checkouts that are made for it."""

import contextlib
import subprocess
import sys
from pathlib import Path

import pytest

from attnlib.commands.ab import names_tests
from attnlib.live.ab import Contender, suite_of
from attnlib.live.checkouts import checked_out
from attnlib.live.process import WorkerError
from attnlib.tests import ROOT

TESTS = """
import pytest, torch
import mine

@pytest.mark.parametrize("n", [4, 8])
def test_work(beside, n):
    print("words")
    x = torch.randn(n, n)
    beside(lambda: mine.work(x), reference=lambda: x @ x)
    assert False, "what follows the measurement is not reached"

def test_fails(beside):
    beside(lambda: 1 / 0, reference=lambda: 1)

def test_forgets(beside):
    pass

def test_other(tmp_path):
    raise AssertionError("it does not use beside")

def test_back(beside):
    w = torch.ones(2, requires_grad=True)
    beside(lambda: w * 2, reference=lambda: w, backward=True)
"""


@pytest.fixture(name="project")
def _project(tmp_path, monkeypatch):
    """A repository with a package in src/, tests beside it, and this attnlib."""
    (tmp_path / "src").mkdir()
    (tmp_path / "src" / "mine.py").write_text("def work(x):\n    return x @ x\n")
    (tmp_path / "bench").mkdir()
    (tmp_path / "bench" / "test_mine.py").write_text(TESTS)
    (tmp_path / "pytest.ini").write_text("[pytest]\n")
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    monkeypatch.setenv("KINETO_LOG_LEVEL", "5")
    return tmp_path


def test_a_worker_serves_tests_in_their_order(project):
    """It lists those that use beside, times their calls, says what is wrong with others, and never goes back."""
    side = Contender(project, sys.executable, tests=("bench/test_mine.py",))
    name = "bench/test_mine.py::test_{}".format
    with side.start("flush", 1) as worker:
        tests = worker.ask(list=True)["tests"]
        assert tests == [name(one) for one in ("work[4]", "work[8]", "fails", "forgets", "back")]
        assert worker.ask(build={"test": name("work[4]")})["repeatable"]
        assert len(worker.ask(step=3, iterations=2, untimed=1)["seconds"]) == 3
        for test, message in (
            ("nowhere", "there is no such test"),
            ("fails", "the call raised ZeroDivisionError: division by zero"),
            ("work[8]", "this test is over"),
            ("forgets", "its test did not call beside"),
        ):
            with pytest.raises(WorkerError, match=message):
                worker.ask(build={"test": name(test)})
        assert not worker.ask(build={"test": name("back")})["repeatable"]
        assert min(worker.ask(step=2)["seconds"]) > 0
        with pytest.raises(WorkerError, match="the tests are over"):
            worker.ask(build={"test": name("work[4]")})


@pytest.mark.faults  # with the long tests
def test_a_folder_without_such_tests_is_named(project):
    """The side is said, and why."""
    (project / "bench" / "test_mine.py").write_text("def test_plain():\n    pass\n")
    side = Contender(project, sys.executable, tests=("bench/test_mine.py",))

    with pytest.raises(ValueError, match="base: the worker failed: no test here uses beside"):
        suite_of((side, side))


def git(folder, *words):
    identity = ("-c", "user.name=a", "-c", "user.email=a@b.c")
    return subprocess.run(["git", *identity, *words], cwd=folder, check=True, capture_output=True, text=True).stdout


def test_a_ref_is_a_worktree_that_goes_again(tmp_path, monkeypatch):
    """It holds the files of that commit, at the place of the current folder; nothing stays, also after an error."""
    inside = tmp_path / "part"
    inside.mkdir()
    (inside / "x.txt").write_text("before")
    git(tmp_path, "init", "-q", "-b", "main")
    git(tmp_path, "add", "-A")
    git(tmp_path, "commit", "-qm", "one")
    (inside / "x.txt").write_text("after")
    monkeypatch.chdir(inside)
    with contextlib.suppress(KeyError), checked_out(Path("main")) as place:
        text = (place / "x.txt").read_text()
        raise KeyError

    assert text == "before"
    assert not place.exists()
    assert len(git(tmp_path, "worktree", "list").splitlines()) == 1
    with checked_out(inside) as place:
        assert place == inside
    with pytest.raises(ValueError, match="nowhere is neither a folder nor a commit"), checked_out(Path("nowhere")):
        pass


@pytest.mark.parametrize(
    ("text", "tests"),
    [("a/test_x.py", True), ("a.py::test_x[1]", True), ("pe=rotary", False), ("attention=math,pe=none", False)],
)
def test_tests_and_fields_are_told_apart(text, tests):
    """By their form, or since they are there."""
    assert names_tests(text) is tests
