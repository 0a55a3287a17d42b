"""The worker process, ``python -m attnlib.live.worker``, which builds and times one workload at a time.

It reads a request per line of stdin and writes an answer per line of stdout, both JSON:

* ``{"build": {case fields}}`` builds and checks a case; answer ``{"first_call_s": seconds, "repeatable": true if a
  round may have several steps}``.
* ``{"step": n, "iterations": i, "untimed": u}`` runs n rounds of i steps (1 by default), each after u untimed steps (0
  by default); answer ``{"seconds": [n times of one step]}``.
* ``{"count": true}`` runs a forward and a backward pass; answer: how many gradients are zero, subnormal, not finite.
* ``{"weigh": true}`` measures memory; answer: the peak bytes of a step, and the bytes by which the process grew.

A request that fails has the answer ``{"error": "..."}``.
"""

import argparse
import contextlib
import json
import sys
from functools import cache, partial
from typing import Any, TextIO

import torch

from attnlib.cases.case import Case, timed_case
from attnlib.cases.conformance import problem_of
from attnlib.cases.workload import build, fresh_start
from attnlib.errors import message
from attnlib.gradients.fits import recorded
from attnlib.measure import clock, environment, heap
from attnlib.measure.device import open_device
from attnlib.measure.memory import process_peak
from attnlib.measure.rounds import Side, timed


def serve(requests: TextIO, answers: TextIO) -> None:
    """Answer requests until ``requests`` ends."""
    workload, peak_before = None, process_peak()
    for line in requests:
        try:
            request = json.loads(line)
            if "build" in request:
                workload = None  # free its memory first; after a failed build there is none
                case = accepted(request["build"])
                clock.bind(open_device(case.device))
                fresh_start(case)
                workload = build(case)
                answer: dict[str, Any] = {"first_call_s": workload.check(), "repeatable": workload.prepare is None}
            elif workload is None:
                answer = {"error": "step before build"}
            elif "weigh" in request:
                grown = process_peak() - peak_before
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
    """Return the case with these fields.

    Raises:
        ValueError: see ``timed_case`` and ``refuse_changed``; **or** this process was started with other denormals or
            another heap.
    """
    environment.refuse_changed(torch.get_num_threads())
    case = timed_case({"heap": heap_here()} | given)
    if case.device.startswith("cpu") and (case.denormals == "flush") != environment.flushes_subnormals():
        raise ValueError(message(f"denormals={case.denormals} is not what this process was started with"))
    if problem := problem_of(case):
        raise ValueError(problem)
    if case.heap != heap_here():
        raise ValueError(message(f"heap={case.heap} is not what this process was started with"))
    return case


@cache
def heap_here() -> str:
    """Return ``kept`` or ``system``, the heap of this process, which its environment chose at the start."""
    return "kept" if heap.is_kept() else "system"


def seconds_of(workload: Side, request: dict[str, Any]) -> list[float]:
    """Run the rounds of a request and return the seconds of one step in each."""
    iterations, untimed = request.get("iterations", 1), request.get("untimed", 0)
    once = partial(timed, workload.step, workload.prepare, workload.clock, iterations, untimed)
    return [once() for _ in range(request["step"])]


def main() -> None:
    """Apply the options, which must precede the first torch operation, and serve requests."""
    parser = argparse.ArgumentParser(prog="python -m attnlib.live.worker", description=__doc__)
    parser.add_argument("--denormals", choices=("flush", "keep"), default="flush")
    parser.add_argument("--threads", type=int, help="by default one fewer than cores")
    options = parser.parse_args()
    torch.set_flush_denormal(options.denormals == "flush")
    environment.set_threads(options.threads)
    with contextlib.suppress(KeyboardInterrupt):  # the client gets Ctrl-C too
        serve(sys.stdin, sys.stdout)


if __name__ == "__main__":
    main()
