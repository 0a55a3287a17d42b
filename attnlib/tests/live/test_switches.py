"""Switches with workers that are made up: what is asked of whom, and what becomes of one that fails."""

import math
from typing import ClassVar

import pytest

from attnlib.commands.__main__ import main
from attnlib.live import ab
from attnlib.live import switches as switching
from attnlib.live.process import WorkerError
from attnlib.live.switches import PAIRS, offered, switches
from attnlib.measure import heap


class Made:
    """A worker whose steps take 2 s where attention is written out and 1 s otherwise, and which cannot compile."""

    started: ClassVar = []

    def __init__(self, checkout, *options, python, environment):
        self.started.append((options, dict(environment)))

    def __enter__(self):
        return self

    def __exit__(self, *_):
        pass

    def pin(self, cpus):
        pass

    def ask(self, build=None, step=None, weigh=False, **_):
        if build is not None:
            if build.get("compile"):
                raise WorkerError("the worker failed: no compiler")
            self.case = build
            return {"first_call_s": 5.0, "repeatable": True}
        if weigh:
            return {"value": 100, "process": 200, "compiled": None}
        if step is None:
            raise WorkerError("the worker failed: step before build")
        return {"seconds": [2.0 if self.case.get("attention") == "math" else 1.0] * step}


@pytest.fixture
def found(monkeypatch, tmp_path):
    Made.started = []
    monkeypatch.setattr(ab, "Worker", Made)
    monkeypatch.setattr(ab, "BLOCKS", 2)
    monkeypatch.setattr(heap, "chosen_outside", lambda *_: None)
    for module in (ab, switching):
        monkeypatch.setattr(module, "usable_cores", lambda: 8)
    return {worth.name: worth for worth in switches(tmp_path, "python", {"d_model": 48}, None, lambda _: None)}


def test_a_switch_takes_turns_with_the_base(found):
    """Its ratio is that of its steps; the base has memory and no ratio."""
    assert found["attention=math"].time.value == pytest.approx(2.0)
    assert found["checkpoint=true"].time.value == pytest.approx(1.0)
    assert found["base"].time is None
    assert (found["base"].peak, found["base"].process) == (100, 200)
    assert list(found) == ["base", *(switch.name for switch in offered(48))]


def test_what_cannot_be_run_is_a_status(found):
    """No number stands in for it, and the others are measured all the same."""
    assert found["torch.compile"].status == "no compiler"
    assert found["torch.compile"].time is None
    assert sum(worth.status == "ok" for worth in found.values()) == len(offered(48))


def test_threads_and_environment_are_the_sides_own(found):
    """All threads, and the system's heap, each in the processes of that switch only: one to weigh, and pairs."""
    assert sum(options[-2:] == ("--threads", "8") for options, _ in Made.started) == 1 + PAIRS
    assert sum("MALLOC_MMAP_MAX_" not in environment for _, environment in Made.started) == 1 + PAIRS
    assert math.isfinite(found["all threads"].time.high)


@pytest.mark.parametrize(
    ("words", "message"), [(["seq_len=8,bogus=1"], "bogus"), (["--threads", "4096"], "4096 threads, but")]
)
def test_a_wrong_base_is_one_line(words, message, capsys):
    """Exit code 4, before any worker starts."""
    assert main(["switches", *words]) == 4
    err = capsys.readouterr().err
    assert message in err
    assert err.count("\n") == 1
