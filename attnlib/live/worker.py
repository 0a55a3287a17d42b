"""``python -m attnlib.live.worker``: one workload at a time, served over stdin and stdout, one JSON line each way.

Requests: ``{"build": {case fields}}`` builds, checks and answers ``{"first_call_s": seconds, "repeatable": whether
steps may be repeated within a round}``; ``{"step": n, "iterations": i, "untimed": u}`` runs n rounds of i steps, each
after u untimed steps (1 and 0 by default), and answers ``{"seconds": [n numbers]}``, of one step each;
``{"count": true}`` goes forward and back once more and answers how many gradients are zero, subnormal and not finite;
``{"weigh": true}`` answers the peak bytes of a step, and by how many the process grew. A request that fails is answered
``{"error": "..."}``.
"""

import argparse
import contextlib
import json
import sys
from functools import cache, partial
from typing import Any, TextIO

import torch

from attnlib.cases.case import Case, timed_case
from attnlib.cases.workload import build, fresh_start
from attnlib.gradients.fits import recorded
from attnlib.measure import clock, environment, heap
from attnlib.measure.device import open_device
from attnlib.measure.memory import process_peak
from attnlib.measure.rounds import Side, timed


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
    """Return the case of these fields, if it can be timed in this process.

    Raises:
        ValueError: see ``timed_case``; **or** it asks for other denormals or another heap than this process has.
    """
    case = timed_case({"heap": heap_here()} | given)
    if case.device.startswith("cpu") and (case.denormals == "flush") != environment.flushes_subnormals():
        raise ValueError(f"denormals={case.denormals} is not what this process was started with")
    if case.heap != heap_here():
        raise ValueError(f"heap={case.heap} is not what this process was started with")
    return case


@cache
def heap_here() -> str:
    """Return the heap of this process, kept or system, which its environment decided at the start."""
    return "kept" if heap.is_kept() else "system"


def seconds_of(workload: Side, request: dict[str, Any]) -> list[float]:
    """Run the rounds that a request asks for; return the seconds of a step in each."""
    iterations, untimed = request.get("iterations", 1), request.get("untimed", 0)
    once = partial(timed, workload.step, workload.prepare, workload.clock, iterations, untimed)
    return [once() for _ in range(request["step"])]


def main() -> None:
    """Set what must precede the first torch operation, then serve."""
    parser = argparse.ArgumentParser(prog="python -m attnlib.live.worker", description=__doc__)
    parser.add_argument("--denormals", choices=("flush", "keep"), default="flush")
    parser.add_argument("--threads", type=int, help="by default one fewer than there are cores")
    options = parser.parse_args()
    torch.set_flush_denormal(options.denormals == "flush")
    environment.use_threads(options.threads)
    with contextlib.suppress(KeyboardInterrupt):  # the one who asks hears it too
        serve(sys.stdin, sys.stdout)


if __name__ == "__main__":
    main()
