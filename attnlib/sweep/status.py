"""Progress of a sweep: the state of each task, its finished cases, and the time left."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from attnlib.runs import journal
from attnlib.sweep.folder import Sweep, Task
from attnlib.sweep.task import deaths, finished, progress

STATES = ("planned", "queued", "running", "stopped", "dead", "done")
RUNNING = ("RUNNING", "COMPLETING", "STAGE_OUT")  # Slurm's states of a running job; in any other it waits
Queued = Mapping[tuple[int, int], tuple[str, str]]  # as ``attnlib.sweep.slurm.Queue``


@dataclass(frozen=True)
class Standing:
    """State and progress of a task.

    Args:
        task: the task.
        state: one of ``STATES``; ``stopped`` tasks were begun and wait for --resume.
        tests: number of its tests; None before there is a plan.
        done: number of finished tests.
        seconds: expected time of the whole task.
        note: further information, such as the tests in which it died.
        later: number of later visits made, and left as far as is known.
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
        """Share of the task's tests and visits that is done, 0 to 1."""
        made, left = self.later
        return (self.done + made) / max(1, (self.tests or 0) + made + left)


def standings(sweep: Sweep, queue: Queued, attempts: int) -> list[Standing]:
    """Return state and progress of each task; a task is ``dead`` after ``attempts`` crashes."""
    plan, result = sweep.plan, []
    for task in sweep.tasks:
        tests, seconds = (None, 0.0) if plan is None else (plan.tests[task.shard - 1], plan.seconds[task.shard - 1])
        if task.done:
            result.append(Standing(task, "done", tests, tests or 0, seconds))
            continue
        events = task.events()
        done = finished(events)
        later = progress(events) - done, sum(journal.visits_left(events).values())
        state, note = state_of(task, events, queue.get((task.run, task.shard)), attempts)
        if done == tests:
            note = ", ".join(filter(None, [note, f"{later[1]} visits left"]))
        result.append(Standing(task, state, tests, done, seconds, note, later))
    return result


def state_of(task: Task, events: journal.Events, queued: tuple[str, str] | None, attempts: int) -> tuple[str, str]:
    """Return the state of an unfinished task, and a note on it; ``queued`` is what Slurm says of it."""
    died = deaths(events)
    crashes = f"died in {', '.join(sorted(died))}" if died else ""
    if (queued is not None and queued[0] in RUNNING) or task.live:
        nodes = [node for e in events if isinstance(e, journal.Process) and (node := e.about.get("node"))]
        return "running", f"on {nodes[-1]}" if nodes else ""
    if queued is not None:
        return "queued", queued[1] if queued[1] not in ("None", "Priority", "Resources") else ""
    if sum(died.values()) >= attempts:
        return "dead", crashes
    return ("stopped", crashes) if events else ("planned", "")


def seconds_left(standings: Sequence[Standing], at_once: int) -> float | None:
    """Return the expected seconds for the unfinished tasks on ``at_once`` machines; None before there is a plan."""
    if any(one.tests is None for one in standings):
        return None
    left = [one.seconds * (1 - one.share) for one in standings if one.state not in ("done", "dead") and one.tests]
    return max([sum(left) / max(1, at_once), *left], default=0.0)  # no sooner than the longest task
