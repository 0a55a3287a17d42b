"""``python -m bench.worker``: one workload at a time, served over stdin and stdout, one JSON line each way.

Requests: ``{"build": {case fields}}`` builds, checks and answers ``{"first_call_s": seconds, "repeatable": whether
steps may be repeated within a round}``; ``{"step": n, "iterations": i, "untimed": u}`` runs n rounds of i steps, each
after u untimed steps (1 and 0 by default), and answers ``{"seconds": [n numbers]}``, of one step each;
``{"count": true}`` goes forward and back once more and answers how many gradients are zero, subnormal and not finite;
``{"weigh": true}`` answers the peak bytes of a step, and by how many the process grew. ``predict``, ``frontier`` and
``verify`` with case fields answer what steps should cost and how far they go, see ``predict.frontier``; nothing stays.
A request that fails is answered ``{"error": "..."}``.
"""

import argparse
import contextlib
import json
import sys
from dataclasses import asdict, fields
from functools import cache, partial
from pathlib import Path
from typing import Any, TextIO

import torch

from attnlib.cases.case import NAMES, PHASES, PROBES, Case, unsupported
from attnlib.cases.workload import Workload, build, fresh_start
from attnlib.compare.worker import Worker
from attnlib.gradients.fits import recorded
from attnlib.measure import clock, environment, heap
from attnlib.measure.cores import default_threads
from attnlib.measure.device import Device, open_device, reading
from attnlib.measure.memory import Readings, process_peak
from attnlib.measure.rounds import timed
from attnlib.model.config import choose
from attnlib.predict.frontier import forecast, frontier, verify
from bench.listing import listing

ROOT = Path(__file__).parent.parent
_elapsed = 0.0


def child_clock() -> float:
    """Seconds that child processes reported so far: a clock for pytest-benchmark that leaves the pipe's cost out."""
    return _elapsed


class Remote:
    """A case in a worker process, shaped like a ``attnlib.cases.workload.Workload``.

    Args:
        case: what to build.
        worker: where.
    """

    clock = staticmethod(child_clock)
    prepare = None
    flushes = 0

    def __init__(self, case: Case, worker: Worker) -> None:
        self.case, self.worker = case, worker

    def check(self) -> float:
        """Build in the worker, behind its correctness gate; seconds of the first call."""
        return float(self.worker.ask(build=asdict(self.case))["first_call_s"])

    def step(self) -> None:
        """One round in the worker; its seconds move ``child_clock``."""
        global _elapsed
        _elapsed += self.worker.ask(step=1)["seconds"][0]

    def counts(self) -> dict[str, Any]:
        """How many gradients of one more backward pass are zero, subnormal and not finite."""
        return self.worker.ask(count=True)

    def compiled(self) -> None:
        """Nothing is compiled there."""

    def attention(self) -> dict[str, Any]:
        """Not looked at: the same case in this process runs the same kernel."""
        return {"kernel": None, "fused": None, "reason": "not looked at in a child process", "method": "none"}

    def weigh(self, device: Device) -> Readings:
        """Not weighed: the same case in this process has the same bytes."""
        return {"allocated_peak": reading(None, "allocator", "not weighed in a child process")}


def serve(requests: TextIO, answers: TextIO) -> None:
    """Answer requests until there are no more."""
    workload, began = None, process_peak()
    for line in requests:
        try:
            request = json.loads(line)
            if "build" in request:
                workload = None  # released before the next one is made, and gone where that fails
                case = accepted(request["build"])
                clock.bind(open_device(case.device))
                fresh_start(case)
                workload = build(case)
                answer: dict[str, Any] = {"first_call_s": workload.check(), "repeatable": workload.prepare is None}
            elif "list" in request:
                answer = dict(listing())
            elif "predict" in request:
                answer = forecast(accepted(request["predict"]))
            elif "frontier" in request:
                answer = frontier(accepted(request.pop("frontier")), **request)
            elif "verify" in request:
                answer = verify(accepted(request.pop("verify")), **request)
            elif workload is None:
                answer = {"error": "step before build"}
            elif "weigh" in request:
                grown = process_peak() - began
                answer = workload.weigh(open_device(workload.case.device))["allocated_peak"]
                answer |= {"process": grown, "compiled": workload.compiled()}
            elif "count" in request:
                answer = recorded(workload)["counts"]
            else:
                answer = {"seconds": seconds_of(workload, request)}
        except (ValueError, TypeError, LookupError, AttributeError, RuntimeError, MemoryError, AssertionError) as error:
            answer = {"error": str(error) or type(error).__name__}
        answers.write(json.dumps(answer) + "\n")
        answers.flush()


def accepted(given: dict[str, Any]) -> Case:
    """The case of these fields, if it can be timed in this process.

    Raises:
        ValueError: an unknown field or name, a case that cannot be measured, **or** another policy of denormals.
    """
    for name in given:
        choose("field", name, dict.fromkeys(field.name for field in fields(Case)))
    case = Case(**{"heap": heap_here()} | given)
    choose("phase", case.phase, dict.fromkeys(phase for phase in PHASES if phase not in PROBES))
    for name, registry in NAMES.items():
        choose(name, getattr(case, name), registry)
    if reason := unsupported(case):
        raise ValueError(reason)
    if case.device.startswith("cpu") and (case.denormals == "flush") != environment.flushes_subnormals():
        raise ValueError(f"denormals={case.denormals} is not what this process was started with")
    if case.heap != heap_here():
        raise ValueError(f"heap={case.heap} is not what this process was started with")
    return case


@cache
def heap_here() -> str:
    """The heap that this process has, by the environment that it was started with: kept or system."""
    return "kept" if heap.is_kept() else "system"


def seconds_of(workload: Workload, request: dict[str, Any]) -> list[float]:
    """Seconds of a step in each of the rounds that a request asks for."""
    iterations, untimed = request.get("iterations", 1), request.get("untimed", 0)
    once = partial(timed, workload.step, workload.prepare, workload.clock, iterations, untimed)
    return [once() for _ in range(request["step"])]


def main() -> None:
    """Set what must precede the first torch operation, then serve."""
    parser = argparse.ArgumentParser(prog="python -m bench.worker", description=__doc__)
    parser.add_argument("--denormals", choices=("flush", "keep"), default="flush")
    parser.add_argument("--threads", type=int, help="by default one fewer than there are cores")
    options = parser.parse_args()
    torch.set_flush_denormal(options.denormals == "flush")
    torch.set_num_threads(options.threads or default_threads(torch.get_num_threads()))
    with contextlib.suppress(KeyboardInterrupt):  # the one who asks hears it too
        serve(sys.stdin, sys.stdout)


if __name__ == "__main__":
    main()
