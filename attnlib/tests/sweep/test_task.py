"""A node's work: it plans, measures, dies, goes on, and is left; with a pytest that is a fake."""

import contextlib
import os
import random
import shlex
import signal
import subprocess
import sys
import threading
import time

import msgspec
import psutil
import pytest

from attnlib.runs.load import load
from attnlib.sweep import slurm
from attnlib.sweep import task as module
from attnlib.sweep.folder import Sweep, Task
from attnlib.sweep.status import standings
from attnlib.sweep.task import TaskRun, deaths, planned
from attnlib.tests.plugin.sessions import measured_twice
from attnlib.tests.sweep.fake import outline, shard_of
from attnlib.tests.sweep.fake import planned as named


def attempt(task, attempts=3, says=None, patience=0.0):
    return TaskRun(task, attempts, patience, [].append if says is None else says.append)()


def samples(task):
    """Return the samples of every finished case of a task, by test."""
    path = task.book or task.final
    return {cell.test: list(cell.samples) for cell in load(path).cells if cell.samples} if path.exists() else {}


def test_planned_once(sweep, monkeypatch):
    """The shards hold every planned test once, however many ask for the plan at the same time; it is made once."""
    begun = sweep("--cells=30", shards=4)
    calls, command = [], module.command
    monkeypatch.setattr(module, "command", lambda own, *more: calls.append(more) or command(own, *more))
    threads = [threading.Thread(target=planned, args=(begun,)) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    tests = [test.test for task in begun.tasks for test in shard_of(begun, task)]

    assert len(calls) == 1
    assert sorted(tests) == sorted(test.test for test in named(30))
    assert begun.plan.tests == [len(shard_of(begun, task)) for task in begun.tasks]


def test_the_first_plan_counts(sweep):
    """Without locks two processes may plan; their shards never mix."""
    begun = sweep("--cells=30", shards=4)
    for shards in ([range(10), range(10, 30)], [range(20), range(20, 30)]):
        begun.cut(outline(30), shards)

    assert begun.plan.tests == [10, 20]
    assert [len(shard_of(begun, task)) for task in begun.tasks] == [10, 20]


def test_what_pytest_refuses_is_said_in_its_words(sweep):
    """And kept, for whoever asks where the sweep is, until it is tried again."""
    begun = sweep("--bad")
    for _ in range(2):
        with pytest.raises(ValueError, match=r"cannot plan: --bad is no option; choose from: good"):
            planned(begun)

    assert begun.refusal == "--bad is no option; choose from: good"
    assert begun.plan is None
    begun.refuse(None)
    assert begun.refusal is None


def test_a_measured_shard_is_not_measured_again(sweep):
    """A second attempt ends at once."""
    begun = sweep("--cells=9")
    planned(begun)
    assert [attempt(task) for task in begun.tasks] == [0, 0, 0]
    before = [task.final.stat().st_mtime_ns for task in begun.tasks]
    assert [attempt(task) for task in begun.tasks] == [0, 0, 0]
    assert [task.final.stat().st_mtime_ns for task in begun.tasks] == before
    assert all(task.done for task in begun.tasks)


def test_runs_have_orders_of_their_own(sweep, monkeypatch):
    """The order seed counts up from run to run."""
    begun = sweep("--cells=3", shards=1, runs=3)
    planned(begun)
    words, command = [], module.command
    monkeypatch.setattr(module, "command", lambda own, *more: words.append(more) or command(own, *more))
    for task in begun.tasks:
        attempt(task)

    assert [word for more in words for word in more if word.startswith("--order")] == [
        f"--order-seed={n}" for n in (1, 2, 3)
    ]


def test_a_case_that_kills_its_process_is_left_and_the_others_are_measured(sweep):
    """It dies in the same case twice, which is then a row ``crashed``; nobody has to do anything."""
    begun = sweep("--cells=9", f"--dies-in={4:012x}", shards=1)
    planned(begun)
    (task,) = begun.tasks
    says = []
    assert attempt(task, says=says) == 0
    statuses = {cell.case_id: cell.status for cell in load(task.final).cells}

    assert says == ["run 1, shard 1: pytest was ended by signal 9"] * 2
    assert statuses.pop(f"{4:012x}") == "crashed"
    assert set(statuses.values()) == {"ok"}


def test_a_shard_that_died_too_often_is_left_and_named(sweep):
    """After that nothing starts, until more attempts are allowed."""
    begun = sweep("--cells=9", f"--dies-in={4:012x},{6:012x}", shards=1)
    planned(begun)
    (task,) = begun.tasks
    says = []
    assert [attempt(task, says=says) for _ in range(2)] == [1, 1]
    (found,) = standings(begun, {}, 3)

    assert says[2:] == [
        "run 1, shard 1: pytest was ended by signal 9",
        *["run 1, shard 1 died 3 times and is not tried again; a higher --attempts allows more"] * 2,
    ]
    assert (found.state, found.done) == ("dead", 5)
    assert found.note == f"died in {named(9)[4].test}, {named(9)[6].test}"
    assert standings(begun, {}, 4)[0].state == "stopped"


def test_only_one_process_works_on_a_task(sweep):
    """Not even where whoever started the first one is gone."""
    begun = sweep("--cells=6", "--pace=0.3", shards=1)
    planned(begun)
    (task,) = begun.tasks
    says = []
    first = threading.Thread(target=attempt, args=(task,))
    first.start()
    while not task.events():
        time.sleep(0.01)
    assert attempt(task, says=says) == 1
    assert standings(begun, {}, 3)[0].state == "running"
    first.join()

    assert says == ["run 1, shard 1 is being measured by another process"]
    assert task.done


PROGRAM = """
import sys
from pathlib import Path
from attnlib.sweep import task
fake = [sys.executable, "-m", "attnlib.tests.sweep.fake"]
task.command = lambda sweep, *more: [*fake, *sweep.asked.options, *more]
sys.exit(task.TaskRun(task.Task(Path(sys.argv[1]), 1, 1), 99)())
"""


def written(task):
    """Bytes of a task's journal."""
    return task.book.stat().st_size if task.book and task.book.exists() else 0


@pytest.mark.faults  # with the long tests
@pytest.mark.parametrize("seed", range(3))
def test_killed_ten_times_at_random(sweep, seed):
    """Nothing is lost or measured twice, whether pytest is killed, or what started it, or both."""
    begun = sweep("--cells=60", "--pace=0.02", shards=1)
    planned(begun)
    (task,) = begun.tasks
    moments, before = random.Random(seed), []
    for number in range(10):
        size = written(task)
        process = subprocess.Popen([sys.executable, "-c", PROGRAM, str(begun.folder)], start_new_session=True)
        deadline = time.monotonic() + 20 * (number % 3 > 0)  # every third is struck at any moment, the others at work
        while written(task) == size and time.monotonic() < deadline:
            time.sleep(0.01)
        time.sleep(moments.uniform(0.0, 0.25))
        for own in psutil.Process(process.pid).children(recursive=True):
            with contextlib.suppress(psutil.NoSuchProcess):
                own.kill()
        if number % 2:
            time.sleep(moments.uniform(0.0, 0.2))
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        before.append(samples(task))
    assert attempt(task, attempts=99) == 0
    run = load(task.final)

    assert [cell.status for cell in run.cells] == ["ok"] * 60
    assert all(measured_twice(own, run.data) == [] for own in before)
    assert len(before[-1]) > 5


def test_a_job_that_is_warned_is_queued_again_where_something_came_of_it(sweep):
    """Pytest finishes its file first; without a finished case another job would end as this one did."""
    begun = sweep("--cells=60", "--pace=0.05", shards=1)
    planned(begun)
    (task,) = begun.tasks
    one = TaskRun(Task(begun.folder, 1, 1), 3, say=[].append)
    thread = threading.Thread(target=one)
    thread.start()
    while len(samples(task)) < 3:
        time.sleep(0.01)
    again = one.checkpoint()
    thread.join()

    assert again.function.task == Task(begun.folder, 1, 1)
    assert 3 <= len(samples(task)) < 60
    assert sum(deaths(task.events()).values()) == 0
    says = []
    idle = TaskRun(Task(begun.folder, 1, 1), 2, say=says.append)
    idle.before = len(samples(task))
    idle = idle.checkpoint().function
    idle.before, idle.say = len(samples(task)), says.append
    assert idle.checkpoint() is None
    assert says == ["run 1, shard 1: no case was finished in 2 jobs, and it is not queued again"]
    assert again.function() == 0
    assert task.done


def test_pytest_that_is_told_to_end_alone_goes_on(sweep):
    """Whoever told it may have meant the job; where that is still there after a while, nobody did."""
    begun = sweep("--cells=30", "--pace=0.05", shards=1)
    planned(begun)
    (task,) = begun.tasks
    codes = []
    one = TaskRun(task, 3, 0.3)
    thread = threading.Thread(target=lambda: codes.append(one()))
    thread.start()
    while len(samples(task)) < 3:
        time.sleep(0.01)
    one.process.terminate()
    thread.join()

    assert codes == [0]
    assert task.done
    assert len(load(task.final).data["attnlib"]["processes"]) == 2


def test_pytest_that_never_begins_is_left(sweep):
    """A pytest that is killed while it starts, for instance, is not tried again for ever."""
    begun = sweep("--cells=3", shards=1)
    planned(begun)
    (task,) = begun.tasks
    begun.asked.options.append("--dies-early")
    (begun.folder / "sweep.json").write_bytes(msgspec.json.encode(begun.asked))
    says = []
    assert attempt(task, says=says) == 1

    assert says == [
        *["run 1, shard 1: pytest was ended by signal 9"] * 3,
        f"{task}: pytest ended 3 times before a case began; it is not tried again",
    ]


def test_pytest_that_dies_when_all_is_saved_is_not_started_again(sweep):
    """Its cases would be measured twice."""
    begun = sweep("--cells=3", "--dies-late", shards=1)
    planned(begun)
    (task,) = begun.tasks
    assert attempt(task) == 0
    assert len(load(task.final).data["attnlib"]["processes"]) == 1


def test_a_lock_that_outlives_its_owner_is_waited_for(sweep):
    """A node that went down leaves such locks."""
    begun = sweep("--cells=3", shards=1)
    planned(begun)
    (task,) = begun.tasks
    with task.alone(0) as handle:
        orphan = os.dup(handle)
    assert attempt(task) == 1
    threading.Timer(0.6, os.close, [orphan]).start()
    assert attempt(task, patience=5) == 0


def test_planning_that_is_killed_may_be_tried_again(sweep, tmp_path):
    """A signal says nothing of the options: the sweep is not refused."""
    struck = tmp_path / "struck"
    struck.touch()
    begun = sweep("--cells=3", f"--struck={struck}")
    with pytest.raises(ValueError, match="cannot plan: pytest was ended by signal 15"):
        planned(begun)
    assert begun.refusal is None
    assert planned(begun).tests == [3]


def test_a_sweep_is_begun_once(sweep, tmp_path):
    """A folder holds one, and says so; a folder without one says what is missing."""
    begun = sweep("--cells=3")
    with pytest.raises(ValueError, match=r"holds a sweep already; resume it with --resume .*sweep, or choose another"):
        sweep("--cells=3")
    with pytest.raises(ValueError, match=r"no sweep in .*nothing: sweep.json: No such file"):
        Sweep(tmp_path / "nothing")
    (begun.folder / "sweep.json").write_text("{}")
    with pytest.raises(ValueError, match=r"sweep.json: Object missing required field `token`"):
        Sweep(begun.folder)


@pytest.mark.skipif(not hasattr(signal, "SIGUSR2"), reason="no SIGUSR2")
def test_a_warning_before_its_handler_waits(tmp_path):
    """A job that is warned while Python still starts handles it once its handler stands and it asks for it."""
    script = tmp_path / "job.py"
    script.write_text(
        "import pathlib, signal, sys, time\n"
        "pathlib.Path(sys.argv[1]).touch()\n"
        "while not pathlib.Path(sys.argv[2]).exists(): time.sleep(0.01)\n"
        "signal.signal(signal.SIGUSR2, lambda *_: sys.exit(7))\n"
        "signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGUSR2])\n"
    )
    begun, warned = tmp_path / "begun", tmp_path / "warned"
    process = subprocess.Popen([*shlex.split(slurm.python()), "-u", str(script), str(begun), str(warned)])
    while not begun.exists():
        time.sleep(0.01)
    process.send_signal(signal.SIGUSR2)
    warned.touch()

    assert process.wait(30) == 7


@pytest.mark.skipif(not hasattr(signal, "SIGUSR2"), reason="no SIGUSR2")
def test_a_task_asks_for_warnings_that_waited(sweep):
    """A signal that was blocked since the job began is delivered before anything is measured."""
    heard = []
    before = signal.signal(signal.SIGUSR2, lambda *_: heard.append(True))
    try:
        signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGUSR2])
        signal.raise_signal(signal.SIGUSR2)  # to this thread: others, as of torch, do not block it
        assert not heard
        attempt(sweep("--cells=3", shards=1).tasks[0])
    finally:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGUSR2])
        signal.signal(signal.SIGUSR2, before)

    assert heard == [True]
