"""The work of one node: plan a sweep, or measure a shard and resume it from its journal after a crash."""

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

from attnlib.errors import message
from attnlib.runs import journal
from attnlib.sweep.cut import cut
from attnlib.sweep.folder import Outline, Sweep, SweepPlan, Task, alone, read

OWN = {  # options of pytest that the sweep sets for its tasks
    *("--benchmark-autosave", "--benchmark-save", "--benchmark-json", "--benchmark-storage", "--run-name"),
    *("--order-seed", "--resume", "--resume-from", "--retry-crashed", "--plan", "--plan-out", "--shard"),
}
FAILED = 1  # pytest's exit code where a case failed; the case's row says why
TERMINATED = (128 + signal.SIGTERM, -signal.SIGTERM)  # exit codes after SIGTERM
POLL_EVERY = 0.1  # seconds between checks of the process
WAITING = 1.0  # seconds between checks for a plan that another process is making
# Slurm sends its warning to every process of a job; only ``TaskRun`` acts on it, and pytest must not die of it.
IGNORES_WARNING: Any = (
    {"preexec_fn": lambda: signal.signal(signal.SIGUSR2, signal.SIG_IGN)} if hasattr(signal, "SIGUSR2") else {}
)


def command(sweep: Sweep, *more: str) -> list[str]:
    """Return the command line of pytest with the options of a sweep and ``more``."""
    return [sys.executable, "-m", "pytest", *sweep.asked.options, "-p", "no:cacheprovider", *more]


def planned(sweep: Sweep) -> SweepPlan:
    """Return the plan of a sweep; the first process that asks for it makes it, and the others wait.

    Raises:
        ValueError: pytest refuses the options; the message has its words.
    """
    while (plan := sweep.plan) is None:
        if why := sweep.refusal:
            raise ValueError(message(f"cannot plan: {why}"))
        with alone(sweep.folder / "plan.lock", WAITING) as handle:
            # the process that had the lock before may have planned
            if handle is not None and sweep.plan is None and sweep.refusal is None:
                make_plan(sweep)
    return plan


def make_plan(sweep: Sweep) -> None:
    """Let pytest plan the tests and cut them into shards; where it refuses, save its error.

    Raises:
        ValueError: pytest was killed by a signal; nothing is saved, since another try may succeed.
    """
    file = sweep.folder / f"outline-{secrets.token_hex(4)}.json"
    words = command(sweep, f"--plan-out={file}")
    done = subprocess.run(words, cwd=sweep.asked.where, capture_output=True, text=True, check=False, **IGNORES_WARNING)
    if done.returncode < 0:
        raise ValueError(message(f"cannot plan: pytest was ended by signal {-done.returncode}"))
    if done.returncode or not file.exists():
        sweep.refuse(first_error(f"{done.stdout}\n{done.stderr}") or f"pytest ended with exit code {done.returncode}")
        return
    outline = read(file, Outline)
    sweep.cut(outline, cut(outline.blocks, outline.seconds, sweep.asked.shards))
    file.unlink()


def first_error(printed: str) -> str | None:
    """Return the first error that pytest printed, or else its last line; None if it printed nothing."""
    lines = [line.strip() for line in printed.splitlines() if line.strip()]
    errors = [line for line in lines if line.startswith(("ERROR: ", "E  "))]
    return errors[0].removeprefix("ERROR: ").removeprefix("E   ") if errors else next(reversed(lines), None)


class TaskRun:
    """One attempt to measure a task, on this machine or as a Slurm job, which is queued again if its time ends.

    Args:
        task: the task.
        attempts: the task is given up after so many crashes, or so many jobs in a row without a finished case.
        patience: seconds to wait for the lock of another process that may be ending; and after pytest got SIGTERM, for
            this job to be ended too, as the signal may have been meant for both. 0 does not wait.
        say: receives messages for the user.
        idle: number of jobs in a row before this one that ended without a finished case.
    """

    def __init__(
        self, task: Task, attempts: int, patience: float = 0.0, say: Callable[[str], None] = print, idle: int = 0
    ) -> None:
        self.task, self.attempts, self.patience, self.say, self.idle = task, attempts, patience, say, idle
        self.before = 0  # tests and visits that were finished when this attempt began
        self.process: subprocess.Popen[bytes] | None = None

    def __call__(self) -> int:
        """Measure the unfinished tests of the shard, and start pytest again where it dies.

        Returns:
            pytest's exit code, or 1 if the task is given up or measured by another process.

        Raises:
            ValueError: see ``planned``.
        """
        sweep, task = Sweep(self.task.folder), self.task
        self.before = progress(task.events())
        if hasattr(signal, "SIGUSR2"):  # blocked when the job began; from here on ``checkpoint`` can handle it
            signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGUSR2])
        plan = planned(sweep)
        if task.shard > len(plan.tests) or task.done:
            return 0
        with task.alone(self.patience) as handle:
            if handle is None:
                self.say(f"{task} is being measured by another process")
                return FAILED
            self.before, idle = progress(task.events()), 0
            while idle < self.attempts:
                if task.done:  # pytest was killed after its file was complete
                    return 0
                begun = len(task.events())
                code = self._measure(sweep, sweep.tests(plan, task.shard), handle)
                if code in TERMINATED and self.patience:
                    time.sleep(self.patience)
                elif code >= 0:
                    return code
                else:
                    self.say(f"{task}: pytest was ended by signal {-code}")
                idle = 0 if any(isinstance(e, journal.Start) for e in task.events()[begun:]) else idle + 1
            self.say(f"{task}: pytest ended {idle} times before a case began; it is not tried again")
            return FAILED

    def _measure(self, sweep: Sweep, tests: Path, handle: int) -> int:
        """Run pytest on the shard once and return its exit code; 1 if too many processes died before."""
        task = self.task
        died, resuming = deaths(task.events()), []
        if (times := sum(died.values())) >= self.attempts:
            self.say(f"{task} died {times} times and is not tried again; a higher --attempts allows more")
            return FAILED
        if path := task.book:
            # the last attempt leaves a case that crashed in all others as it is, and measures the rest
            retry = max(died.values(), default=0) < self.attempts - 1
            resuming = [f"--resume-from={path}", *(["--retry-crashed"] if retry else [])]
        seed = sweep.asked.order_seed + task.run - 1
        words = command(sweep, f"--shard={tests}", f"--benchmark-json={task.final}", f"--order-seed={seed}", *resuming)
        # pytest inherits the lock, so that the task stays locked if this process is killed
        inherited: Any = {"pass_fds": (handle,)} if os.name == "posix" else {}
        self.process = subprocess.Popen(words, cwd=sweep.asked.where, **IGNORES_WARNING, **inherited)
        try:
            while (code := self.process.poll()) is None:  # not wait(): ``checkpoint`` may interrupt and look too
                time.sleep(POLL_EVERY)
        except KeyboardInterrupt:  # pytest got Ctrl-C too, and is finishing its file
            self.process.wait()
            raise
        return code

    def checkpoint(self) -> Any:
        """Let pytest finish its file; called by submitit when the job's time is about to end.

        Returns:
            the submission that queues this task again, or None after ``attempts`` jobs without a finished case.
        """
        from submitit.helpers import DelayedSubmission

        if self.process is not None and self.process.returncode is None:
            self.process.send_signal(signal.SIGTERM)
            while is_running(self.process.pid):
                time.sleep(POLL_EVERY)
        advanced = self.process is not None and (progress(self.task.events()) > self.before or self.task.done)
        idle = 0 if advanced else self.idle + 1
        if idle >= self.attempts:
            self.say(f"{self.task}: no case was finished in {idle} jobs, and it is not queued again")
            return None
        return DelayedSubmission(TaskRun(self.task, self.attempts, self.patience, idle=idle))


def is_running(pid: int) -> bool:
    """Return True until a child process ends, and leave its exit code to ``Popen.poll``."""
    try:
        return os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is None
    except ChildProcessError:  # its exit code was read already
        return False


def deaths(events: journal.Events) -> Counter[str]:
    """Count the processes that died in each test, by the journal of a task that no process works on."""
    died = Counter(e.test for e in events if isinstance(e, journal.Finish) and e.row.get("status") == "crashed")
    # begun and not ended, by a process that is gone
    died.update(test for test, event in journal.last_events(events).items() if isinstance(event, journal.Start))
    # later visits of cases that have a time already
    for test, end in journal.ends(events).items():
        lost = (end.benchmark or {}).get("extra_info", {}).get("time", {}).get("visits_lost", ())
        died.update(test for visit in lost if visit["reason"].startswith("crashed"))
    return died


def progress(events: journal.Events) -> int:
    """Return the number of finished tests and later visits of an unfinished task."""
    return finished(events) + sum(isinstance(event, journal.Finish) and event.visit > 1 for event in events)


def finished(events: journal.Events) -> int:
    """Return the number of finished tests of an unfinished task."""
    return len(journal.finished(events, ("interrupted", "crashed")))
