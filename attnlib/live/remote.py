"""A case that is built and run in a worker process, with the interface of a workload."""

from dataclasses import asdict
from typing import Any, ClassVar

from attnlib.cases.case import Case
from attnlib.live.process import Worker
from attnlib.measure.device import Device, reading
from attnlib.measure.memory import Readings

_elapsed = 0.0


def child_clock() -> float:
    """Return the seconds that child processes reported so far: a clock that leaves out the cost of the pipe."""
    return _elapsed


class Remote:
    """A case in a worker process, with the interface of a ``cases.workload.Workload``.

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
        """Build the case in the worker and check its result; return the seconds of the first call."""
        return float(self.worker.ask(build=asdict(self.case))["first_call_s"])

    def step(self) -> None:
        """Run one round in the worker, and advance ``child_clock`` by its seconds."""
        global _elapsed
        _elapsed += self.worker.ask(step=1)["seconds"][0]

    def counts(self) -> dict[str, Any]:
        """Count the gradients of one more backward pass that are zero, subnormal or not finite."""
        return self.worker.ask(count=True)

    gradient_ends: ClassVar[dict[str, dict[str, Any]]] = {}  # not read in a worker

    def compiled(self) -> None:
        """Return None: nothing is compiled in a worker."""

    def attention(self) -> dict[str, Any]:
        """Return no kernel: it is not looked up in a worker."""
        return {"kernel": None, "fused": None, "reason": "not looked at in a child process", "method": "none"}

    def weigh(self, device: Device) -> Readings:
        """Return no bytes, with the reason: memory is not measured in a worker."""
        return {"allocated_peak": reading(None, "allocator", "not weighed in a child process")}
