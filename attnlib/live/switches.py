"""The effect of each switch of a stack: its time against a base, in pairs of fresh processes, and its memory."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from attnlib.compare.intervals import Estimate, t_interval
from attnlib.live.ab import Contender, Match
from attnlib.live.process import WorkerDied, WorkerError
from attnlib.measure.cores import usable_cores

PAIRS = 3  # of workers for each switch, few and enough for a t interval of their mean
STEPS = 3  # before memory is measured: the second step creates the optimiser's state


@dataclass(frozen=True)
class Switch:
    """One change to the base: other fields of the case, or another number of threads."""

    name: str
    fields: Mapping[str, Any] = field(default_factory=dict)
    threads: int | None = None


def offered(d_model: int) -> tuple[Switch, ...]:
    """Return the switches for a base of width ``d_model``."""
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
    """The effect of a switch.

    Args:
        name: of the switch.
        time: ratio to the base's time, with a 95 % t interval over pairs of processes; None if not measured.
        peak: peak bytes of a step in torch's allocator.
        process: largest growth of the whole process in bytes, which the machine must have free.
        status: ``ok``, or the reason why there is no time.
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
    """Yield the base's memory, then the effect of each switch.

    Args:
        checkout: the folder whose attnlib the workers run.
        python: their interpreter.
        case: fields of the base.
        threads: torch's intra-op threads of the base's workers.
        say: receives messages on the progress.
    """
    base = Contender(checkout, python, threads=threads)
    yield weighed(Worth("base"), base, case)
    for switch in offered(case.get("d_model", 64)):
        say(switch.name)
        side = Contender(checkout, python, switch.fields, threads=switch.threads or threads)
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
    """Measure the memory of a fresh worker of a side; ``worth.status`` says why if it cannot build the case."""
    try:
        with side.start("flush", None) as worker:
            built = worker.ask(build={**case, **side.fields})
            last = worker.ask(step=STEPS)["seconds"][-1]
            memory = worker.ask(weigh=True)
    except (WorkerError, WorkerDied) as error:
        worth.status = str(error).removeprefix("the worker failed: ")
        return worth
    worth.peak, worth.process = memory["value"], memory["process"]
    if compiled := memory.get("compiled"):
        worth.compiled = {"seconds": built["first_call_s"] - last, **compiled}
    return worth
