"""What a node does: plan a sweep, or measure a shard, going on from its journal where an earlier process died."""

import os
import secrets
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

from attnlib.runs import journal
from attnlib.sweep.cut import cut
from attnlib.sweep.folder import Outline, Sweep, SweepPlan, Task, alone, read

OWN = {  # options of pytest that a sweep gives its tasks itself
    *("--benchmark-autosave", "--benchmark-save", "--benchmark-json", "--benchmark-storage", "--run-name"),
    *("--order-seed", "--resume", "--resume-from", "--retry-crashed", "--plan", "--plan-out", "--shard"),
}
FAILED = 1  # pytest's exit code where a case failed, which its row says
TERMINATED = (128 + signal.SIGTERM, -signal.SIGTERM)  # where it was told to end
POLL_EVERY = 0.1  # seconds between looks at the process
WAITING = 1.0  # and at the plan that another process makes
WARNED: Any = (
    {"preexec_fn": lambda: signal.signal(signal.SIGUSR2, signal.SIG_IGN)} if hasattr(signal, "SIGUSR2") else {}
)


def command(sweep: Sweep, *more: str) -> list[str]:
    """Pytest with the options of a sweep, in the folder where that was asked for."""
    return [sys.executable, "-m", "pytest", *sweep.asked.options, "-p", "no:cacheprovider", *more]


def planned(sweep: Sweep) -> SweepPlan:
    """The plan of a sweep; the first process that asks for it makes it, and the others wait.

    Raises:
        ValueError: the options are no good, in pytest's words.
    """
    while (plan := sweep.plan) is None:
        if why := sweep.refusal:
            raise ValueError(f"cannot plan: {why}")
        with alone(sweep.folder / "plan.lock") as handle:
            if handle is not None and sweep.plan is None and sweep.refusal is None:
                make_plan(sweep)
        if sweep.plan is None and sweep.refusal is None:
            time.sleep(WAITING)
    return plan


def make_plan(sweep: Sweep) -> None:
    """Have pytest plan, and cut that into shards; or note why it cannot.

    Raises:
        ValueError: it was killed, which says nothing of another try.
    """
    file = sweep.folder / f"outline-{secrets.token_hex(4)}.json"
    whole = command(sweep, f"--plan-out={file}")
    done = subprocess.run(whole, cwd=sweep.asked.where, capture_output=True, text=True, check=False, **WARNED)
    if done.returncode < 0:
        raise ValueError(f"cannot plan: ended by signal {-done.returncode}")
    if done.returncode or not file.exists():
        sweep.refuse(said_why(done.stdout, done.stderr) or f"pytest ended with {done.returncode}")
        return
    outline = read(file, Outline)
    sweep.cut(outline, cut(outline.blocks, outline.seconds, sweep.asked.shards))
    file.unlink()


def said_why(*texts: str) -> str | None:
    """What pytest says is wrong: its first error, or else its last words."""
    lines = [line.strip() for text in texts for line in text.splitlines() if line.strip()]
    errors = [
        line.removeprefix("ERROR: ").removeprefix("E   ") for line in lines if line.startswith(("ERROR: ", "E  "))
    ]
    return next(iter([*errors, *lines[::-1]]), None)


class TaskRun:
    """One attempt at a task, as a job or here; a job that is warned of its end asks to be queued again.

    Args:
        task: what is measured.
        most: deaths after which it is left, and jobs in a row that end without a finished case.
        patience: seconds to wait for another process that may be ending, and for one's own end after pytest was told
            to end: whoever told it may have meant the job. 0 does not wait.
        say: what it says goes there.
        idle: how many jobs before this one ended without a finished case.
    """

    def __init__(
        self, task: Task, most: int, patience: float = 0.0, say: Callable[[str], None] = print, idle: int = 0
    ) -> None:
        self.task, self.most, self.patience, self.say, self.idle = task, most, patience, say, idle
        self.before = 0  # tests and visits that were done when it began
        self.process: subprocess.Popen[bytes] | None = None

    def __call__(self) -> int:
        """Measure what is left of the shard, again where pytest dies; returns its exit code, or 1 where it is left.

        Raises:
            ValueError: see ``planned``.
        """
        sweep, task = Sweep(self.task.folder), self.task
        self.before = progress(task.events())
        if hasattr(signal, "SIGUSR2"):  # blocked since the job began: from here on ``checkpoint`` can answer it
            signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGUSR2])
        plan = planned(sweep)
        if task.shard > len(plan.tests) or task.done:
            return 0
        with task.alone(self.patience) as handle:
            if handle is None:
                self.say(f"{task} is being measured by another process")
                return FAILED
            self.before, idle = progress(task.events()), 0
            while idle < self.most:
                if task.done:  # it was ended after its file was whole
                    return 0
                begun = len(task.events())
                code = self._measure(sweep, sweep.tests(plan, task.shard), handle)
                if code in TERMINATED and self.patience:
                    time.sleep(self.patience)
                elif code >= 0:
                    return code
                else:
                    self.say(f"{task} was ended by signal {-code}")
                idle = 0 if any(isinstance(e, journal.Start) for e in task.events()[begun:]) else idle + 1
            self.say(f"{task} ended {idle} times before a case began, and is left")
            return FAILED

    def _measure(self, sweep: Sweep, tests: Path, handle: int) -> int:
        task = self.task
        died, again = deaths(task.events()), []
        if sum(died.values()) >= self.most:
            self.say(f"{task} died {sum(died.values())} times and is left")
            return FAILED
        if path := task.book:  # a case that has died as often as all but the last attempt is left as it is
            retry = max(died.values(), default=0) < self.most - 1
            again = [f"--resume-from={path}", *(["--retry-crashed"] if retry else [])]
        seed = sweep.asked.order_seed + task.run - 1
        own = [f"--shard={tests}", f"--benchmark-json={task.final}", f"--order-seed={seed}", *again]
        inherited: Any = {"pass_fds": (handle,)} if os.name == "posix" else {}
        self.process = subprocess.Popen(command(sweep, *own), cwd=sweep.asked.where, **WARNED, **inherited)
        try:
            while (code := self.process.poll()) is None:  # not wait: a signal's handler looks too
                time.sleep(POLL_EVERY)
        except KeyboardInterrupt:  # pytest heard Ctrl-C too, and is finishing its file
            self.process.wait()
            raise
        return code

    def checkpoint(self) -> Any:
        """Called by submitit where the job is about to end: let pytest finish its file.

        Returns:
            the same again, or None where nothing came of several jobs, so that nothing will of another.
        """
        from submitit.helpers import DelayedSubmission

        if self.process is not None and self.process.returncode is None:
            self.process.send_signal(signal.SIGTERM)
            while is_there(self.process.pid):
                time.sleep(POLL_EVERY)
        came = self.process is not None and (progress(self.task.events()) > self.before or self.task.done)
        idle = 0 if came else self.idle + 1
        if idle >= self.most:
            self.say(f"{self.task}: no case was finished in {idle} jobs, and it is not queued again")
            return None
        return DelayedSubmission(TaskRun(self.task, self.most, self.patience, idle=idle))


def is_there(pid: int) -> bool:
    """Whether a child has not ended; that it has is left for whoever waits for it to note."""
    try:
        return os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is None
    except ChildProcessError:  # noted already
        return False


def deaths(events: journal.Events) -> Counter[str]:
    """In which tests processes died, and how many in each, by the journal of a task that nobody works on."""
    died = Counter(e.test for e in events if isinstance(e, journal.Finish) and e.row.get("status") == "crashed")
    died.update(test for test, event in journal.last_events(events).items() if isinstance(event, journal.Start))
    last = {test: (end.benchmark or {}).get("extra_info", {}) for test, end in journal.ends(events).items()}
    lost = {test: info.get("time", {}).get("visits_lost", ()) for test, info in last.items()}
    died.update(test for test, own in lost.items() for visit in own if visit["reason"].startswith("crashed"))
    return died


def progress(events: journal.Events) -> int:
    """How many tests and later visits of an unfinished task are done."""
    later = sum(isinstance(event, journal.Finish) and event.visit > 1 for event in events)
    return finished(events) + later


def finished(events: journal.Events) -> int:
    """How many tests of an unfinished task are done."""
    return len(journal.finished(events, ("interrupted", "crashed")))
