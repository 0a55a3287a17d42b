"""What each switch of a stack is worth: time beside a base, taking turns in fresh processes, and memory of both."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from attnlib.compare.intervals import Estimate, t_interval
from attnlib.live.ab import Contender, Match
from attnlib.live.process import WorkerDied, WorkerError
from attnlib.measure.cores import usable_cores

PAIRS = 3  # of workers a switch: the t interval of their mean has a finite width
STEPS = 3  # before a process is weighed: the second has the optimiser's state


@dataclass(frozen=True)
class Switch:
    """One thing that is different: fields of the case, or threads."""

    name: str
    fields: Mapping[str, Any] = field(default_factory=dict)
    threads: int | None = None


def offered(d_model: int) -> tuple[Switch, ...]:
    """The switches of a base that is D wide."""
    return (
        Switch("attention=math", {"attention": "math"}),
        Switch("checkpoint=true", {"checkpoint": True}),
        Switch("dtype=bfloat16", {"dtype": "bfloat16"}),
        Switch("heads as wide as the model", {"head_dim": d_model}),
        *([Switch("all threads", threads=cores)] if (cores := usable_cores()) > 1 else []),
        Switch("torch.compile", {"compile": True}),
        Switch("heap=system", {"heap": "system"}),
    )


@dataclass
class Worth:
    """What a switch is worth.

    Args:
        name: of the switch.
        time: over the base, with a 95 % t interval over pairs of processes; None where it could not be measured.
        peak: exact bytes by torch's allocator.
        process: bytes by which the process grew at most, which is what a machine must have.
        status: ``ok``, or why there is no time.
        compiled: of a compiled step: ``seconds`` of compiling, ``graphs``, ``graph_breaks``, ``recompiles``.
    """

    name: str
    time: Estimate | None = None
    peak: int | None = None
    process: int | None = None
    status: str = "ok"
    compiled: Mapping[str, Any] | None = None


def switches(
    checkout: Path, python: str, case: Mapping[str, Any], threads: int | None, say: Callable[[str], None]
) -> Iterator[Worth]:
    """The base's memory, then each switch over it.

    Args:
        checkout: where workers run.
        python: their interpreter.
        case: fields of the base.
        threads: of the base's workers.
        say: what progress is told to.
    """
    base = Contender(checkout, python, threads=threads)
    yield weighed(Worth("base"), base, case)
    for switch in offered(case.get("d_model", 64)):
        say(switch.name)
        own = switch.threads or threads
        side = Contender(checkout, python, switch.fields, threads=own)
        worth = weighed(Worth(switch.name), side, case)
        if worth.status == "ok":
            match = Match((base, side), [case], 0.05, say=say)
            try:
                for _ in range(PAIRS):
                    match.pair()
            except WorkerDied as error:
                worth.status = str(error)
            contest = match.contests[0]
            if contest.failed:
                worth.status = contest.verdict.reason or "it failed"
            elif contest.logs:
                worth.time = t_interval(contest.logs).exp()
        yield worth


def weighed(worth: Worth, side: Contender, case: Mapping[str, Any]) -> Worth:
    """``worth`` with the memory of its side, in a process of its own; where it cannot be built its status says why."""
    try:
        with side.start("flush", None) as worker:
            built = worker.ask(build={**case, **side.fields})
            last = worker.ask(step=STEPS)["seconds"][-1]
            found = worker.ask(weigh=True)
    except (WorkerError, WorkerDied) as error:
        worth.status = str(error).removeprefix("the worker failed: ")
        return worth
    worth.peak, worth.process = found["value"], found["process"]
    if compiled := found.get("compiled"):
        worth.compiled = {"seconds": built["first_call_s"] - last, **compiled}
    return worth
