"""Slurm, through submitit: tasks become an array of jobs with a node each, and squeue reports their states.

Slurm's accounting is not needed, and the return value of a job is not used: the journals hold its results.
"""

import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import msgspec
from msgspec import Struct

from attnlib.errors import message
from attnlib.sweep.folder import Sweep, Task
from attnlib.sweep.status import Queued
from attnlib.sweep.task import TaskRun

WARNING = 30  # seconds before a job's time ends at which it is warned by a signal
REQUEUES = 1000  # at most, of a job that finishes a case each time
PATIENCE = 150.0  # seconds; on NFS the locks of a node that went down last 90 s longer than the node
# A job may get the warning while Python starts, before submitit handles it: blocked, it waits until ``TaskRun`` begins.
BLOCKED = (
    "import os, signal, sys; signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGUSR2]); "
    "os.execv(sys.executable, [sys.executable, *sys.argv[1:]])"
)
# options of sbatch that the sweep sets itself: the jobs and their tasks, one job a node, and the warning
OWN = {
    *("job_name", "array", "nodes", "ntasks", "ntasks_per_node", "exclusive"),
    *("requeue", "signal", "output", "error", "wrap"),
}
# variables by which a site or a user chooses cluster, account and nodes, for new jobs too
CHOSEN = (
    *("SLURM_CONF", "SLURM_CLUSTERS", "SLURM_JWT", "SBATCH_CLUSTERS"),
    *("SBATCH_ACCOUNT", "SBATCH_PARTITION", "SBATCH_QOS", "SBATCH_RESERVATION", "SBATCH_CONSTRAINT"),
)


class Jobs(Struct):
    """A line of ``jobs.jsonl``: a job array, and the run and shard of each of its jobs."""

    job: str
    tasks: list[tuple[int, int]]


def need() -> None:
    """Raise ``ValueError`` if Slurm or submitit is not installed."""
    if shutil.which("sbatch") is None:
        raise ValueError(message("no Slurm here: sbatch is not on the PATH", do="--on local needs none"))
    try:
        import submitit  # noqa: F401
    except ImportError:
        raise ValueError(message("--on slurm needs submitit", do="pip install 'attnlib[cluster]'")) from None


def name(sweep: Sweep) -> str:
    """Return the name of all jobs of a sweep."""
    return f"attnlib-{sweep.asked.token}"


def submit(sweep: Sweep, tasks: Sequence[Task], attempts: int) -> None:
    """Submit tasks of a sweep to Slurm; if there is no plan yet, the first job that starts makes it.

    Raises:
        ValueError: Slurm refuses the jobs; the message has its words.
    """
    need()
    import submitit

    array = submitit.SlurmExecutor(folder=sweep.folder / "logs", max_num_timeout=REQUEUES, python=python())
    array.update_parameters(
        job_name=name(sweep),
        nodes=1,
        ntasks_per_node=1,
        exclusive=True,
        signal_delay_s=WARNING,
        stderr_to_stdout=True,
        array_parallelism=sweep.asked.max_parallel or len(tasks),
        additional_parameters={"requeue": True, "wckey": ""} | sweep.asked.sbatch,
    )
    sweep.refuse(None)
    try:
        with outside_allocation(sweep.asked.sbatch), array.batch():
            jobs = [array.submit(TaskRun(task, attempts, PATIENCE)) for task in tasks]
    except submitit.core.utils.FailedJobError as error:
        raise ValueError(message(f"Slurm refuses the jobs: {last_line(str(error))}")) from None
    note(sweep, jobs[0].job_id.partition("_")[0], tasks)


@contextmanager
def outside_allocation(options: Collection[str]) -> Iterator[None]:
    """Hide the variables of the allocation that this process runs in, since sbatch hands them on to the new jobs.

    Args:
        options: names of the options of sbatch that are given; a variable would take precedence over them.
    """
    from submitit.core.utils import environment_variables
    from submitit.helpers import clean_env

    kept = {
        name: os.environ[name]
        for name in CHOSEN
        if name in os.environ and name.partition("_")[2].lower() not in options
    }
    with clean_env([name for name in os.environ if name.startswith("PMI")]), environment_variables(**kept):
        yield


def python() -> str:
    """Return the shell command that starts Python in a job with Slurm's warning signal blocked."""
    return shlex.join([sys.executable, "-S", "-c", BLOCKED])


def last_line(text: str) -> str:
    """Return the last line that one of Slurm's programs printed."""
    return next((line.strip() for line in reversed(text.splitlines()) if line.strip()), "no reason given")


def note(sweep: Sweep, job: str, tasks: Sequence[Task]) -> None:
    """Append a job array and its tasks to ``jobs.jsonl``."""
    with (sweep.folder / "jobs.jsonl").open("ab") as file:
        file.write(msgspec.json.encode(Jobs(job, [(task.run, task.shard) for task in tasks])) + b"\n")


def queue(sweep: Sweep) -> Queued:
    """Return Slurm's state and reason of each queued or running task, by run and shard.

    Raises:
        ValueError: squeue fails; the message has its words.
    """
    words = ["squeue", "--noheader", "--array", f"--name={name(sweep)}", "--format=%F|%K|%T|%r"]
    try:
        done = subprocess.run(words, capture_output=True, text=True, check=False)
    except OSError as error:
        raise ValueError(message(f"cannot ask Slurm: squeue: {error.strerror}")) from None
    if done.returncode:
        raise ValueError(message(f"cannot ask Slurm: {last_line(done.stderr)}"))
    arrays, states = {jobs.job: jobs.tasks for jobs in jobs_of(sweep.folder)}, {}
    for line in done.stdout.splitlines():
        job, index, state, reason = (part.strip() for part in line.split("|", 3))
        tasks = arrays.get(job, [])
        if (number := int(index) if index.isdigit() else 0) < len(tasks):
            states[tasks[number]] = state, reason
    return states


def cancelled(sweep: Sweep, task: Task) -> bool:
    """Return True if the last job of a task was cancelled, or if Slurm does not know it any more."""
    own = [
        (jobs.job, jobs.tasks.index((task.run, task.shard)))
        for jobs in jobs_of(sweep.folder)
        if (task.run, task.shard) in jobs.tasks
    ]
    for name in (f"{own[-1][0]}_{own[-1][1]}", own[-1][0]) if own else ():  # an array of one job may have no index
        words = ["scontrol", "--oneliner", "show", "job", name]
        done = subprocess.run(words, capture_output=True, text=True, check=False)
        if found := re.search(r"JobState=(\w+)", done.stdout):
            return found[1] == "CANCELLED"
    return True


def jobs_of(folder: Path) -> list[Jobs]:
    """Return the job arrays that were submitted for the sweep in a folder."""
    path = folder / "jobs.jsonl"
    return [msgspec.json.decode(line, type=Jobs) for line in path.read_bytes().splitlines()] if path.exists() else []
