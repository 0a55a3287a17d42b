"""Worker processes: how they die, what they refuse, what they do."""

import io
import json
import os
import sys
import weakref

import psutil
import pytest
import torch

from attnlib.live import worker as worker_module
from attnlib.live.process import Worker, WorkerDied, WorkerError
from attnlib.live.worker import seconds_of, serve
from attnlib.measure.limits import TimeIsUp, time_limit
from attnlib.tests import ROOT


def test_a_worker_serves_reports_errors_and_is_gone_once_it_is_killed():
    """It builds, times rounds and answers a bad case with its reason; where it died its exit code is said."""
    with Worker(ROOT) as worker:
        assert worker.ask(build={"seq_len": 8, "depth": 1})["first_call_s"] > 0
        assert len(worker.ask(step=3)["seconds"]) == 3
        with pytest.raises(WorkerError, match="the worker failed: unknown pe 'x'"):
            worker.ask(build={"pe": "x"})
        worker.process.kill()
        with pytest.raises(WorkerDied, match="the worker died with exit code -9"):
            worker.ask(build={"seq_len": 8, "depth": 1})


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="this platform has no affinity")
def test_a_worker_is_put_on_cpus():
    """All of its threads are, and one that has ended is left alone."""
    cpu = min(os.sched_getaffinity(0))
    with Worker(ROOT) as worker:
        worker.ask(build={"seq_len": 8, "depth": 1})
        worker.pin({cpu})
        threads = psutil.Process(worker.process.pid).threads()
        assert [os.sched_getaffinity(thread.id) for thread in threads] == [{cpu}] * len(threads)
        worker.process.kill()
        worker.process.wait()
        worker.pin({cpu})


def test_a_worker_that_is_killed_before_it_answers_is_reported():
    """With its exit code too."""
    with Worker(ROOT) as worker:
        worker.process.kill()
        with pytest.raises(WorkerDied, match="the worker died with exit code -9"):
            worker.ask(build={"seq_len": 8, "depth": 1})


def test_a_silent_worker_is_killed(monkeypatch, tmp_path):
    """One that does not answer in time counts as dead."""
    (tmp_path / "bench").mkdir()
    (tmp_path / "bench" / "__init__.py").write_text("")
    (tmp_path / "bench" / "worker.py").write_text("import time\ntime.sleep(60)\n")
    monkeypatch.setattr("attnlib.live.process.PATIENCE", 0.5)
    with Worker(tmp_path, python=sys.executable) as worker, pytest.raises(WorkerDied):
        worker.ask(step=1)


def test_a_worker_that_was_not_waited_for_is_killed(tmp_path):
    """Its answer would be taken for the next one's, and its step would run beside the next case."""
    (tmp_path / "bench").mkdir()
    (tmp_path / "bench" / "__init__.py").write_text("")
    (tmp_path / "bench" / "worker.py").write_text("import time\ntime.sleep(60)\n")
    with Worker(tmp_path) as worker:
        with pytest.raises(TimeIsUp), time_limit(0.3):
            worker.ask(step=1)
        assert worker.process.wait(10) == -9


def test_a_worker_that_talks_is_killed(tmp_path):
    """A line that is no answer ends it, and is quoted."""
    (tmp_path / "bench").mkdir()
    (tmp_path / "bench" / "__init__.py").write_text("")
    (tmp_path / "bench" / "worker.py").write_text("print('hello')\nimport time\ntime.sleep(60)\n")
    with Worker(tmp_path) as worker, pytest.raises(WorkerDied, match="the worker answered 'hello' and was killed"):
        worker.ask(step=1)


def test_a_worker_runs_the_code_of_its_checkout_where_python_leaves_the_current_folder_out(monkeypatch, tmp_path):
    """PYTHONSAFEPATH would hide it, or put an installed copy in its place."""
    (tmp_path / "bench").mkdir()
    (tmp_path / "bench" / "worker.py").write_text("import json\nprint(json.dumps({'file': __file__}))\n")
    monkeypatch.setenv("PYTHONSAFEPATH", "1")
    with Worker(tmp_path) as worker:
        assert worker.ask(step=1) == {"file": str(tmp_path / "bench" / "worker.py")}


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"phase": "train"}, "unknown phase 'train'; choose from forward"),
        ({"phase": "rate"}, "unknown phase 'rate'; choose from forward"),
        ({"dtype": "float3"}, "unknown dtype 'float3'; choose from float32"),
        ({"pe": "rotary", "d_model": 60}, "the head width must be even"),
        ({"causal": "False"}, "causal must be true or false, not 'False'"),
        ({"denormals": "keep"}, "denormals=keep is not what this process was started with"),
    ],
)
def test_a_worker_refuses_what_it_cannot_time(fields, message):
    """A wrong field is an answer that names it and the choices; the worker lives on."""
    torch.set_flush_denormal(True)
    try:
        answers = io.StringIO()
        serve(io.StringIO(json.dumps({"build": fields}) + "\n"), answers)
        assert message in json.loads(answers.getvalue())["error"]
    finally:
        torch.set_flush_denormal(False)


def test_rounds_are_what_was_asked_for():
    """Two rounds of seven steps, each after three untimed ones."""

    class Counting:
        prepare, steps = None, 0
        clock = staticmethod(lambda: float(Counting.steps))

        def step(self):
            Counting.steps += 1

    assert seconds_of(Counting(), {"step": 2, "iterations": 7, "untimed": 3}) == [1.0, 1.0]
    assert Counting.steps == 2 * (7 + 3)


def test_a_failed_build_leaves_nothing_to_time(monkeypatch):
    """The case before is released before the next is built, and not timed in its place where that fails."""
    alive = []
    real = worker_module.build

    def build(case):
        alive.append([freed() is not None for freed in built])
        if case.seq_len == 9:
            raise RuntimeError("no room")
        work = real(case)
        built.append(weakref.ref(work))
        return work

    built = []
    monkeypatch.setattr(worker_module, "build", build)
    requests = [{"build": {"seq_len": 8, "phase": "forward", "denormals": "keep"}}, {"step": 1}]
    requests += [{"build": {"seq_len": 9, "phase": "forward", "denormals": "keep"}}, {"step": 1}]
    answers = io.StringIO()
    serve(io.StringIO("".join(json.dumps(request) + "\n" for request in requests)), answers)
    first, seconds, failed, after = map(json.loads, answers.getvalue().splitlines())

    assert alive == [[], [False]]
    assert first["repeatable"]
    assert seconds["seconds"][0] > 0
    assert failed == {"error": "no room"}
    assert after == {"error": "step before build"}
