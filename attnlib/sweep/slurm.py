"""Slurm, through submitit: tasks become an array of jobs that have a node each; squeue tells how they stand.

Accounting need not be there. What a job returns is not used: the journals say what came of it.
"""

import shlex
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import msgspec
from msgspec import Struct

from attnlib.sweep.folder import Sweep, Task
from attnlib.sweep.status import Queued
from attnlib.sweep.task import TaskRun

WARNING = 30  # seconds before a job's end in which it is told
REQUEUES = 1000  # at most, of a job that finishes a case each time
PATIENCE = 150.0  # seconds; locks of a node that went down outlive it by 90 on NFS
# A job may be warned in its first second, before submitit handles that signal: it waits until ``TaskRun`` asks for it.
BLOCKED = (
    "import os, signal, sys; signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGUSR2]); "
    "os.execv(sys.executable, [sys.executable, *sys.argv[1:]])"
)
# options of sbatch that are the sweep's own: which job does what, alone on its node, and how it is told of its end
OWN = {
    *("job_name", "array", "nodes", "ntasks", "ntasks_per_node", "exclusive"),
    *("requeue", "signal", "output", "error", "wrap"),
}


class Jobs(Struct):
    """A line of ``jobs.jsonl``: a job array, and the task of each of its jobs as run and shard."""

    job: str
    tasks: list[tuple[int, int]]


def need(program: str) -> None:
    """Raises ``ValueError`` where Slurm or submitit is not here."""
    if shutil.which(program) is None:
        raise ValueError(f"no Slurm here: {program} is not on the PATH")
    try:
        import submitit  # noqa: F401
    except ImportError:
        raise ValueError("--on slurm needs submitit: pip install -e '.[cluster]'") from None


def name(sweep: Sweep) -> str:
    """Of all jobs of a sweep."""
    return f"attnlib-{sweep.asked.token}"


def submit(sweep: Sweep, tasks: Sequence[Task], most: int) -> None:
    """Queue tasks; the first that starts makes the plan where there is none.

    Args:
        sweep: whose.
        tasks: of it.
        most: deaths after which one is left.

    Raises:
        ValueError: Slurm refuses; the message has its words.
    """
    need("sbatch")
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
        with array.batch():
            jobs = [array.submit(TaskRun(task, most, PATIENCE)) for task in tasks]
    except submitit.core.utils.FailedJobError as error:
        raise ValueError(f"Slurm refuses the jobs: {last_line(str(error))}") from None
    note(sweep, jobs[0].job_id.partition("_")[0], tasks)


def python() -> str:
    """Return the command that starts Python in a job, with the signal that warns of its end blocked."""
    return shlex.join([sys.executable, "-S", "-c", BLOCKED])


def last_line(text: str) -> str:
    """Of what sbatch printed."""
    return next((line.strip() for line in reversed(text.splitlines()) if line.strip()), "it does not say why")


def note(sweep: Sweep, job: str, tasks: Sequence[Task]) -> None:
    """Write down which job does what."""
    with (sweep.folder / "jobs.jsonl").open("ab") as file:
        file.write(msgspec.json.encode(Jobs(job, [(task.run, task.shard) for task in tasks])) + b"\n")


def queue(sweep: Sweep) -> Queued:
    """State and reason, as Slurm has them, of each task (run and shard) that it knows of.

    Raises:
        ValueError: Slurm does not answer; the message has its words.
    """
    form = "%F|%K|%T|%r"
    try:
        done = subprocess.run(
            ["squeue", "--noheader", "--array", f"--name={name(sweep)}", f"--format={form}"],
            capture_output=True,
            text=True,
            check=False,
        )
    except OSError as error:
        raise ValueError(f"cannot ask Slurm: squeue: {error.strerror}") from None
    if done.returncode:
        raise ValueError(f"cannot ask Slurm: {last_line(done.stderr)}")
    known, found = {jobs.job: jobs.tasks for jobs in jobs_of(sweep.folder)}, {}
    for line in done.stdout.splitlines():
        job, index, state, reason = (part.strip() for part in line.split("|", 3))
        tasks = known.get(job, [])
        if (number := int(index) if index.isdigit() else 0) < len(tasks):
            found[tasks[number]] = state, reason
    return found


def jobs_of(folder: Path) -> list[Jobs]:
    """The jobs that were submitted for a sweep."""
    path = folder / "jobs.jsonl"
    return [msgspec.json.decode(line, type=Jobs) for line in path.read_bytes().splitlines()] if path.exists() else []
