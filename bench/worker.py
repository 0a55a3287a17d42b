"""``python -m bench.worker``: one workload at a time, served over stdin and stdout, one JSON line each way.

Requests: ``{"build": {case fields}}`` builds, checks and answers ``{"first_call_s": seconds}``; ``{"step": n}`` runs n
rounds and answers ``{"seconds": [n numbers]}``; ``{"count": true}`` goes forward and back once more and answers how
many gradients are zero, subnormal and not finite. A request that fails is answered ``{"error": "..."}``.
"""

import argparse
import json
import subprocess
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any, TextIO

from attnlib.measure.device import Device, reading
from attnlib.measure.memory import Readings
from bench.cases import Case

ROOT = Path(__file__).parent.parent
_elapsed = 0.0


def child_clock() -> float:
    """Seconds that child processes reported so far: a clock for pytest-benchmark that leaves the pipe's cost out."""
    return _elapsed


class Worker:
    """A worker process; it ends when it is closed.

    Args:
        denormals: ``flush`` or ``keep``, set before its first torch operation.
        threads: torch's intra-op threads; None leaves torch's choice.
    """

    def __init__(self, denormals: str, threads: int | None = None) -> None:
        command = [sys.executable, "-m", "bench.worker", "--denormals", denormals]
        command += [] if threads is None else ["--threads", str(threads)]
        self.process = subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def ask(self, **request: Any) -> dict[str, Any]:
        """Send one request and wait for its answer.

        Raises:
            RuntimeError: the worker answered with an error, **or** died.
        """
        pipes = self.process.stdin, self.process.stdout
        if pipes[0] is None or pipes[1] is None:
            raise RuntimeError("the worker has no pipes")
        pipes[0].write(json.dumps(request) + "\n")
        pipes[0].flush()
        answer = pipes[1].readline()
        if not answer:
            raise RuntimeError(f"the worker died with exit code {self.process.wait()}")
        reply: dict[str, Any] = json.loads(answer)
        if "error" in reply:
            raise RuntimeError(f"the worker failed: {reply['error']}")
        return reply

    def close(self) -> None:
        """Let the process end by itself."""
        self.process.communicate()


class Remote:
    """A case in a worker process, shaped like a ``bench.workload.Workload``.

    Args:
        case: what to build.
        worker: where.
    """

    clock = staticmethod(child_clock)
    prepare = None

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

    def attention(self) -> dict[str, Any]:
        """Not looked at: the same case in this process runs the same kernel."""
        return {"kernel": None, "fused": None, "reason": "not looked at in a child process", "method": "none"}

    def weigh(self, device: Device) -> Readings:
        """Not weighed: the same case in this process has the same bytes."""
        return {"allocated_peak": reading(None, "allocator", "not weighed in a child process")}


def serve(requests: TextIO, answers: TextIO) -> None:
    """Answer requests until there are no more."""
    from attnlib.measure import clock, sampling
    from attnlib.measure.device import open_device
    from bench.readings import recorded
    from bench.workload import build

    workload = None
    for line in requests:
        try:
            request = json.loads(line)
            if "build" in request:
                case = Case(**request["build"])
                clock.bind(open_device(case.device))
                workload = build(case)
                answer: dict[str, Any] = {"first_call_s": workload.check()}
            elif workload is None:
                answer = {"error": "step before build"}
            elif "count" in request:
                answer = recorded(workload)["counts"]
            else:
                rounds = range(request["step"])
                answer = {"seconds": [sampling.timed(workload.step, workload.prepare, workload.clock) for _ in rounds]}
        except (ValueError, TypeError, KeyError, RuntimeError, MemoryError, AssertionError) as error:
            answer = {"error": str(error) or type(error).__name__}
        answers.write(json.dumps(answer) + "\n")
        answers.flush()


def main() -> None:
    """Set what must precede the first torch operation, then serve."""
    parser = argparse.ArgumentParser(prog="python -m bench.worker", description=__doc__)
    parser.add_argument("--denormals", choices=("flush", "keep"), default="flush")
    parser.add_argument("--threads", type=int)
    options = parser.parse_args()
    import torch

    torch.set_flush_denormal(options.denormals == "flush")
    if options.threads is not None:
        torch.set_num_threads(options.threads)
    serve(sys.stdin, sys.stdout)


if __name__ == "__main__":
    main()
