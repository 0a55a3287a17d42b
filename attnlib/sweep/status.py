"""How far a sweep is: each task's state, its cases, and the time left."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from attnlib.runs import journal
from attnlib.sweep.folder import Sweep, Task
from attnlib.sweep.task import deaths, finished, progress

STATES = ("planned", "queued", "running", "stopped", "dead", "done")
RUNNING = ("RUNNING", "COMPLETING", "STAGE_OUT")  # states of Slurm; with any other that it tells, a job waits
Queued = Mapping[tuple[int, int], tuple[str, str]]  # as ``attnlib.sweep.slurm.Queue``


@dataclass(frozen=True)
class Standing:
    """Where a task stands.

    Args:
        task: it.
        state: one of ``STATES``; ``stopped`` are those that began, and wait for --resume.
        tests: how many it has; None before there is a plan.
        done: how many of them have come to an end.
        seconds: that it should take in all.
        note: what else there is to say, such as where it died.
        later: further visits of its cases that were made, and that are left as far as is known.
    """

    task: Task
    state: str
    tests: int | None
    done: int
    seconds: float
    note: str = ""
    later: tuple[int, int] = (0, 0)

    @property
    def share(self) -> float:
        """How much of its tests and visits is done."""
        made, left = self.later
        return (self.done + made) / max(1, (self.tests or 0) + made + left)


def standings(sweep: Sweep, queue: Queued, most: int) -> list[Standing]:
    """Where each task stands.

    Args:
        sweep: whose.
        queue: state and reason of those that Slurm knows of.
        most: deaths after which a task is left.
    """
    plan = sweep.plan
    found = []
    for task in sweep.tasks:
        tests, seconds = (None, 0.0) if plan is None else (plan.tests[task.shard - 1], plan.seconds[task.shard - 1])
        if task.done:
            found.append(Standing(task, "done", tests, tests or 0, seconds))
            continue
        events = task.events()
        done = finished(events)
        slurm, reason = queue.get((task.run, task.shard), (None, ""))
        node = next((event.about.get("node") for event in reversed(events) if isinstance(event, journal.Process)), None)
        died = deaths(events)
        if slurm in RUNNING or task.live:
            state, note = "running", f"on {node}" if node else ""
        elif slurm is not None:
            state, note = "queued", reason if reason not in ("None", "Priority", "Resources") else ""
        elif sum(died.values()) >= most:
            state, note = "dead", f"died in {', '.join(sorted(died))}"
        elif events:
            state, note = "stopped", f"died in {', '.join(sorted(died))}" if died else ""
        else:
            state, note = "planned", ""
        later = progress(events) - done, sum(journal.visits_left(events).values())
        if done == tests:
            note = ", ".join(filter(None, [note, f"{later[1]} visits left"]))
        found.append(Standing(task, state, tests, done, seconds, note, later))
    return found


def seconds_left(found: Sequence[Standing], at_once: int) -> float | None:
    """How long ``at_once`` machines should take for what is left; None before there is a plan."""
    if any(own.tests is None for own in found):
        return None
    left = [own.seconds * (1 - own.share) for own in found if own.state not in ("done", "dead") and own.tests]
    return max([sum(left) / max(1, at_once), *left], default=0.0)
