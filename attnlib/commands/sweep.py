"""``attnlib sweep``: a job in shards, here or on a cluster; it may die at any moment and is gone on with."""

import argparse
import time
from datetime import datetime
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import Progress

from attnlib.commands.options import count, output, run_name, say
from attnlib.runs.find import RESULTS, with_bench
from attnlib.show.sweep import in_words, standing
from attnlib.sweep import slurm
from attnlib.sweep.folder import Sweep
from attnlib.sweep.status import Queued, Standing, seconds_left, standings
from attnlib.sweep.task import FAILED, OWN, TaskRun, planned

NAME = "sweep"
PLACES = ("local", "slurm")
LOOK_EVERY = 1.0  # seconds between looks at the queue, and ten times what a look takes
DEATHS = 3
FIXED = ("on", "shards", "runs", "order_seed", "run_name", "folder")  # options that a sweep cannot change


def declare(commands: Any) -> None:
    """Its options; any other goes to pytest."""
    command = commands.add_parser(
        NAME,
        allow_abbrev=False,
        epilog="example: attnlib sweep --on slurm --shards 8 --runs 5 --sbatch time=60 constraint=h100 -- --preset gpu",
        help="measure a job in shards, here or on a Slurm cluster, whose parts may die and are gone on with",
        description="Other arguments go to pytest. attnlib merge FOLDER makes a saved run of what came of it.",
    )
    command.add_argument("--on", choices=PLACES, help="local: one after another here (the default)")
    command.add_argument("--shards", type=count, metavar="N", help="into how many parts a run is cut")
    command.add_argument("--runs", type=count, metavar="R", help="each with another order of cases (1)")
    command.add_argument("--order-seed", type=count, metavar="SEED", help="of the first run; it counts up (1)")
    command.add_argument("--run-name", type=run_name, metavar="NAME", help="that the merged runs are saved under")
    command.add_argument("--folder", type=Path, help="for its files, shared by all nodes; results/sweeps/NAME")
    text = "options of sbatch, such as time=60 constraint=h100 gres=gpu:1 partition=main"
    command.add_argument("--sbatch", nargs="+", default=[], action="extend", metavar="KEY=VALUE", help=text)
    command.add_argument("--max-parallel", type=count, metavar="M", help="jobs that run at once, at most")
    command.add_argument(
        "--attempts", type=count, default=DEATHS, metavar="K", help="deaths after which a shard is left (%(default)s)"
    )
    command.add_argument("--detach", action="store_true", help="do not wait for Slurm's jobs")
    command.add_argument("--status", type=Path, metavar="FOLDER", help="how far a sweep is")
    command.add_argument("--resume", type=Path, metavar="FOLDER", help="go on with a sweep, or wait for it again")
    command.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Show, go on with, or begin a sweep; 1 where a part of it is left."""
    if options.status is not None:
        show(Sweep(options.status), options.attempts)
        return 0
    sweep = begun(options) if options.resume is None else resumed(options)
    if sweep.asked.place == "local":
        try:
            here(sweep, options.attempts)
        except KeyboardInterrupt:
            say(f"go on with: attnlib sweep --resume {sweep.folder}")
            raise
    elif not on_slurm(sweep, options):
        return 0
    return 0 if show(sweep, options.attempts) else FAILED


def resumed(options: argparse.Namespace) -> Sweep:
    """A sweep that is gone on with, in other jobs if these are described anew.

    Raises:
        ValueError: there is none, **or** an option would make it another sweep.
    """
    fixed = [f"--{name.replace('_', '-')}" for name in FIXED if getattr(options, name) is not None]
    if others := fixed + options.rest:
        raise ValueError(f"--resume goes on with the sweep as it is: {' '.join(others)} cannot be added")
    sweep = Sweep(options.resume)
    if sweep.asked.place != "slurm" and (options.sbatch or options.max_parallel or options.detach):
        raise ValueError(f"--sbatch, --max-parallel and --detach go with --on slurm; {options.resume} is measured here")
    sweep.ask(
        sbatch=sweep.asked.sbatch | sbatch(options), max_parallel=options.max_parallel or sweep.asked.max_parallel
    )
    return sweep


def show(sweep: Sweep, most: int) -> bool:
    """Show where a sweep stands and what comes next; returns whether all of it is done."""
    queue = queue_of(sweep)
    found = standings(sweep, queue, most)
    output(standing(found, left(sweep, found), remarks(sweep)), as_markdown=False)
    states = {one.state for one in found}
    if states == {"done"}:
        print(f"next: attnlib merge {sweep.folder}")
    elif states & {"planned", "stopped"}:
        print(f"go on with: attnlib sweep --resume {sweep.folder}")
    elif states <= {"dead", "done"}:
        print(f"try again with: attnlib sweep --resume {sweep.folder} --attempts {most + DEATHS}")
    if sweep.asked.place == "slurm" and states & {"planned", "stopped", "dead"}:
        print(f"what the jobs printed: {sweep.folder / 'logs'}")
    return states == {"done"}


def begun(options: argparse.Namespace) -> Sweep:
    """A new sweep.

    Raises:
        ValueError: an option that a sweep gives itself or that says nothing, **or** no number of shards.
    """
    if options.shards is None:
        raise ValueError("--shards N says into how many parts the job is cut; --resume FOLDER goes on with a sweep")
    if own := [word for word in options.rest if word.partition("=")[0] in OWN]:
        raise ValueError(f"{own[0]} is given by the sweep to its tasks: use its own --run-name and --order-seed")
    place, jobs = options.on or "local", sbatch(options)
    if place == "slurm":
        slurm.need("sbatch")
        if "time" not in jobs:
            raise ValueError("--sbatch time=MINUTES is needed: how long a job may take; longer shards are gone on with")
        if not {"constraint", "nodelist"} & jobs.keys():
            say("without --sbatch constraint=KIND jobs may get nodes of other kinds, which refuse to measure")
    elif jobs or options.max_parallel or options.detach:
        raise ValueError("--sbatch, --max-parallel and --detach go with --on slurm")
    name = options.run_name or datetime.now().strftime("sweep_%Y%m%d_%H%M%S")
    sweep = Sweep.create(
        options.folder or RESULTS / "sweeps" / name,
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
    """The options of sbatch.

    Raises:
        ValueError: one is no pair, **or** is the sweep's own.
    """
    found = {}
    for text in options.sbatch:
        key, _, value = text.lstrip("-").partition("=")
        if not (key and value):
            raise ValueError(f"--sbatch takes KEY=VALUE such as time=60, not {text!r}")
        if len(key) == 1:
            raise ValueError(f"--sbatch takes sbatch's long names, such as time=60, not {text!r}")
        found[key.replace("-", "_")] = value
    if own := sorted(found.keys() & slurm.OWN):
        raise ValueError(f"--sbatch {own[0]}: is given by the sweep to its jobs")
    return found


def here(sweep: Sweep, most: int) -> None:
    """Measure every task on this machine, one after another.

    Raises:
        ValueError: a process of this sweep measures here, **or** see ``planned``.
    """
    if busy := [task for task in sweep.tasks if task.live]:
        raise ValueError(f"{busy[0]} is still being measured by an earlier process: wait for it, or end it")
    sweep.refuse(None)
    plan = planned(sweep)
    for task in sweep.tasks:
        if not task.done:
            say(f"{task} of {sweep.asked.runs} x {len(plan.tests)}")
            if (code := TaskRun(task, most, say=say)()) > FAILED:  # of no case: the disk is full, say
                say(f"pytest ended with {code}")
                return


def on_slurm(sweep: Sweep, options: argparse.Namespace) -> bool:
    """Queue what is neither done nor queued, then wait; False where that is left to others."""
    found = standings(sweep, slurm.queue(sweep), options.attempts)
    tasks = [one.task for one in found if one.state in ("planned", "stopped")]
    if tasks:
        slurm.submit(sweep, tasks, options.attempts)
        say(f"{len(tasks)} tasks are queued")
    if options.detach:
        say(f"look at it with: attnlib sweep --status {sweep.folder}")
        return False
    try:
        wait(sweep, options.attempts)
    except KeyboardInterrupt:
        say(f"the jobs go on; come back with: attnlib sweep --status {sweep.folder}, or --resume to wait again")
        return False
    if (why := sweep.refusal) and sweep.plan is None:
        raise ValueError(f"cannot plan: {why}")
    return True


def wait(sweep: Sweep, most: int) -> None:
    """Wait until Slurm has none of the tasks any more, with a bar that says how far they are."""
    with Progress(*Progress.get_default_columns()[:3], console=Console(stderr=True), transient=True) as bar:
        line = bar.add_task("queued", total=None)
        while True:
            begun = time.monotonic()
            try:
                queue = slurm.queue(sweep)
                found = standings(sweep, queue, most)
            except ValueError as error:  # a controller that is busy, a line that has not come through the network yet
                bar.update(line, description=str(error))
            else:
                if not queue:
                    return
                total = sum(one.tests for one in found if one.tests) if sweep.plan else None
                states = [one.state for one in found]
                now = f"{states.count('running')} tasks run, {states.count('queued')} wait"
                text = f"{now}; {in_words(found, left(sweep, found))}"
                bar.update(line, description=text, total=total, completed=sum(one.done for one in found))
            time.sleep(max(LOOK_EVERY, 10 * (time.monotonic() - begun)))


def queue_of(sweep: Sweep) -> Queued:
    """What Slurm knows of a sweep's tasks; nothing of one that runs here."""
    return {} if sweep.asked.place == "local" else slurm.queue(sweep)


def left(sweep: Sweep, found: list[Standing]) -> float | None:
    """Seconds until all is done, on as many machines as work on it now."""
    running = sum(one.state == "running" for one in found)
    return seconds_left(found, 1 if sweep.asked.place == "local" else max(1, running))


def remarks(sweep: Sweep) -> list[str]:
    """What is to be known of the sweep itself."""
    says = [f"{sweep.asked.name}: {sweep.asked.runs} runs, {sweep.asked.place}, in {sweep.folder}"]
    if sweep.plan is None and (why := sweep.refusal):
        says.append(f"it could not be planned: {why}")
    return says
