"""``attnlib sweep``: measure runs in shards, here or on a Slurm cluster, and resume what was interrupted."""

import argparse
import time
from datetime import datetime
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import Progress

from attnlib.commands.options import count, output, run_name, say
from attnlib.errors import message
from attnlib.runs.find import results, with_bench
from attnlib.show.sweep import in_words, standing
from attnlib.sweep import slurm
from attnlib.sweep.folder import Sweep, Task
from attnlib.sweep.status import Standing, seconds_left, standings
from attnlib.sweep.task import FAILED, OWN, TaskRun, planned

PLACES = ("local", "slurm")
LOOK_EVERY = 1.0  # seconds between queries of the queue, or ten times what a query takes
ATTEMPTS = 3
FIXED = ("on", "shards", "runs", "order_seed", "run_name", "folder")  # options that --resume cannot change
SLURM_ONLY = "--sbatch, --max-parallel and --detach need --on slurm"


def declare(commands: Any) -> None:
    """Add the command and its options; all other arguments go to pytest."""
    command = commands.add_parser(
        "sweep",
        allow_abbrev=False,
        epilog="example: attnlib sweep --on slurm --shards 8 --runs 5 --sbatch time=60 constraint=h100 -- --preset gpu",
        help="measure runs in shards, here or on a Slurm cluster, and resume shards that died",
        description="All other arguments go to pytest. attnlib merge FOLDER joins the shards into saved runs. "
        "Exit code: 1 if shards are unfinished, but 0 with --status and --detach.",
    )
    command.add_argument(
        "--on", choices=PLACES, help="where shards are measured: local (default, one after another) or slurm"
    )
    command.add_argument("--shards", type=count, metavar="N", help="number of parts to cut each run into")
    command.add_argument("--runs", type=count, metavar="R", help="number of runs, each with another order of cases (1)")
    text = "seed of the order of cases in the first run; each further run adds 1 (1)"
    command.add_argument("--order-seed", type=count, metavar="SEED", help=text)
    command.add_argument("--run-name", type=run_name, metavar="NAME", help="name of the merged runs")
    text = "the sweep's folder, which all nodes must see (results/sweeps/NAME)"
    command.add_argument("--folder", type=Path, help=text)
    text = "options of sbatch, such as time=60 constraint=h100 gres=gpu:1 partition=main"
    command.add_argument("--sbatch", nargs="+", default=[], action="extend", metavar="KEY=VALUE", help=text)
    command.add_argument("--max-parallel", type=count, metavar="M", help="largest number of jobs at once")
    text = "give a shard up after this number of crashes (%(default)s)"
    command.add_argument("--attempts", type=count, default=ATTEMPTS, metavar="K", help=text)
    command.add_argument("--detach", action="store_true", help="return without waiting for Slurm's jobs")
    command.add_argument("--status", type=Path, metavar="FOLDER", help="print the progress of a sweep")
    command.add_argument("--resume", type=Path, metavar="FOLDER", help="resume a sweep, or wait for its jobs again")
    command.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Begin or resume a sweep, or print its progress; return 1 if shards are unfinished."""
    if options.status is not None:
        show(Sweep(options.status), options.attempts)
        return 0
    sweep = begin(options) if options.resume is None else resume(options)
    if sweep.asked.place == "local":
        try:
            measure_here(sweep, options.attempts)
        except KeyboardInterrupt:
            say(f"resume with: attnlib sweep --resume {sweep.folder}")
            raise
    elif not submit_and_wait(sweep, options):
        return 0
    return 0 if show(sweep, options.attempts) else FAILED


def resume(options: argparse.Namespace) -> Sweep:
    """Return the sweep to resume, with new options of sbatch if any are given.

    Raises:
        ValueError: the folder holds no sweep, **or** an option cannot be changed.
    """
    fixed = [f"--{name.replace('_', '-')}" for name in FIXED if getattr(options, name) is not None]
    if others := fixed + options.rest:
        wrong = "--resume continues the sweep as it was begun"
        raise ValueError(message(wrong, do=f"leave out {' '.join(others)}"))
    sweep = Sweep(options.resume)
    if sweep.asked.place != "slurm" and (options.sbatch or options.max_parallel or options.detach):
        raise ValueError(message(f"{SLURM_ONLY}, and {options.resume} was begun with --on local"))
    asked = sweep.asked
    sweep.ask(sbatch=asked.sbatch | sbatch(options), max_parallel=options.max_parallel or asked.max_parallel)
    return sweep


def show(sweep: Sweep, attempts: int) -> bool:
    """Print the progress of a sweep and the next command; return True if all shards are done."""
    in_slurm, asked = sweep.asked.place == "slurm", sweep.asked
    progress = standings(sweep, slurm.queue(sweep) if in_slurm else {}, attempts)
    lines = [f"{asked.name}: {asked.runs} runs, {asked.place}, in {sweep.folder}"]
    if sweep.plan is None and (why := sweep.refusal):
        lines.append(f"it could not be planned: {why}")
    output(standing(progress, left(sweep, progress), lines), as_markdown=False)
    states = {one.state for one in progress}
    if states == {"done"}:
        print(f"next: attnlib merge {sweep.folder}")
    elif states & {"planned", "stopped"}:
        print(f"resume with: attnlib sweep --resume {sweep.folder}")
    elif states <= {"dead", "done"}:
        print(f"try again with: attnlib sweep --resume {sweep.folder} --attempts {attempts + ATTEMPTS}")
    if in_slurm and states & {"planned", "stopped", "dead"}:
        print(f"output of the jobs: {sweep.folder / 'logs'}")
    return states == {"done"}


def begin(options: argparse.Namespace) -> Sweep:
    """Return a new sweep.

    Raises:
        ValueError: --shards is missing, **or** an option is the sweep's own, **or** needs another that is missing.
    """
    if options.shards is None:
        wrong = "--shards N is needed, the number of parts of a run"
        raise ValueError(message(wrong, do="--resume FOLDER continues a sweep"))
    if taken := [word for word in options.rest if word.partition("=")[0] in OWN]:
        wrong = f"{taken[0]} is set by the sweep for each shard"
        raise ValueError(message(wrong, do="leave it out of the options of pytest"))
    place, jobs = options.on or "local", sbatch(options)
    if place == "slurm":
        slurm.need()
        if "time" not in jobs:
            wrong = "--sbatch time=MINUTES is needed, since a shard that runs out of time is queued again"
            raise ValueError(message(wrong))
        if not {"constraint", "nodelist"} & jobs.keys():
            say(
                "without --sbatch constraint=KIND jobs may start on nodes of another kind, where they refuse to measure"
            )
    elif jobs or options.max_parallel or options.detach:
        raise ValueError(message(SLURM_ONLY))
    name = options.run_name or datetime.now().strftime("sweep_%Y%m%d_%H%M%S")
    sweep = Sweep.create(
        options.folder or results() / "sweeps" / name,
        name=name,
        place=place,
        options=with_bench(options.rest),
        shards=options.shards,
        runs=options.runs or 1,
        order_seed=options.order_seed or 1,
        where=str(Path.cwd()),
        sbatch=jobs,
        max_parallel=options.max_parallel,
    )
    say(f"the sweep is kept in {sweep.folder}")
    return sweep


def sbatch(options: argparse.Namespace) -> dict[str, str]:
    """Return the options of sbatch by name, with underscores.

    Raises:
        ValueError: one is not KEY=VALUE, **or** has a short name, **or** is set by the sweep itself.
    """
    chosen = {}
    for text in options.sbatch:
        key, _, value = text.lstrip("-").partition("=")
        if not (key and value):
            raise ValueError(message("--sbatch takes KEY=VALUE such as time=60", text))
        if len(key) == 1:
            raise ValueError(message("--sbatch takes sbatch's long names, such as time=60", text))
        chosen[key.replace("-", "_")] = value
    if taken := sorted(chosen.keys() & slurm.OWN):
        raise ValueError(message(f"--sbatch {taken[0]} is set by the sweep for its jobs", do="leave it out"))
    return chosen


def measure_here(sweep: Sweep, attempts: int) -> None:
    """Measure every task on this machine, one after another.

    Raises:
        ValueError: another process measures this sweep, **or** see ``planned``.
    """
    if busy := [task for task in sweep.tasks if task.live]:
        wrong = f"{busy[0]} is still being measured by another process"
        raise ValueError(message(wrong, do="wait for it, or end it"))
    sweep.refuse(None)
    plan = planned(sweep)
    for task in sweep.tasks:
        if not task.done:
            say(f"{task} of {sweep.asked.runs} x {len(plan.tests)}")
            if (code := TaskRun(task, attempts, say=say)()) > FAILED:  # not a failed case, but a full disk, say
                say(f"pytest ended with exit code {code}; the other shards are not begun")
                return


def submit_and_wait(sweep: Sweep, options: argparse.Namespace) -> bool:
    """Submit unfinished tasks and wait for the jobs; return False if the user does not wait for their end."""
    progress = standings(sweep, slurm.queue(sweep), options.attempts)
    if tasks := [one.task for one in progress if one.state in ("planned", "stopped")]:
        slurm.submit(sweep, tasks, options.attempts)
        say(f"{len(tasks)} tasks are queued")
    if options.detach:
        say(f"see its progress with: attnlib sweep --status {sweep.folder}")
        return False
    try:
        wait(sweep, options.attempts)
        while again := ended_early(sweep, progress, options.attempts):
            say(f"{len(again)} jobs ended before their shards were done, and are queued again")
            progress = standings(sweep, {}, options.attempts)
            slurm.submit(sweep, again, options.attempts)
            wait(sweep, options.attempts)
    except KeyboardInterrupt:
        folder = sweep.folder
        say(f"the jobs keep running: attnlib sweep --status {folder} shows them, and --resume {folder} waits again")
        return False
    if (why := sweep.refusal) and sweep.plan is None:
        raise ValueError(message(f"cannot plan: {why}"))
    return True


def ended_early(sweep: Sweep, before: list[Standing], attempts: int) -> list[Task]:
    """Return the tasks whose jobs ended before they were done, though they advanced and nobody cancelled them.

    Args:
        sweep: the sweep, none of whose jobs is queued.
        before: progress of its tasks when they were submitted.
        attempts: crashes after which a task is dead.
    """
    return [
        now.task
        for now, then in zip(standings(sweep, {}, attempts), before, strict=True)
        if now.state == "stopped" and now.share > then.share and not slurm.cancelled(sweep, now.task)
    ]


def wait(sweep: Sweep, attempts: int) -> None:
    """Wait until no task of the sweep is in Slurm's queue, with a progress bar."""
    with Progress(*Progress.get_default_columns()[:3], console=Console(stderr=True), transient=True) as bar:
        line = bar.add_task("queued", total=None)
        while True:
            begun = time.monotonic()
            try:
                queue = slurm.queue(sweep)
                progress = standings(sweep, queue, attempts)
            except ValueError as error:  # a busy controller, or a line of a journal that NFS does not show yet
                bar.update(line, description=str(error))
            else:
                if not queue:
                    return
                total = sum(one.tests for one in progress if one.tests) if sweep.plan else None
                states = [one.state for one in progress]
                text = f"{states.count('running')} tasks run, {states.count('queued')} wait; "
                text += in_words(progress, left(sweep, progress))
                bar.update(line, description=text, total=total, completed=sum(one.done for one in progress))
            time.sleep(max(LOOK_EVERY, 10 * (time.monotonic() - begun)))


def left(sweep: Sweep, progress: list[Standing]) -> float | None:
    """Return the expected seconds until all tasks are done, on as many machines as work on them now."""
    running = sum(one.state == "running" for one in progress)
    return seconds_left(progress, 1 if sweep.asked.place == "local" else max(1, running))
