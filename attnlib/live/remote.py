"""A case that is built and run in a worker process, shaped like a workload of this one."""

from dataclasses import asdict
from typing import Any

from attnlib.cases.case import Case
from attnlib.live.process import Worker
from attnlib.measure.device import Device, reading
from attnlib.measure.memory import Readings

_elapsed = 0.0


def child_clock() -> float:
    """Return the seconds that child processes reported so far: a clock that leaves out the cost of the pipe."""
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
