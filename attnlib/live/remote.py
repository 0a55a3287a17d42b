"""Workloads in a worker process."""

from dataclasses import asdict
from typing import Any, ClassVar

from attnlib.cases.case import Case
from attnlib.live.process import Worker
from attnlib.measure.device import Device, reading
from attnlib.measure.memory import Readings

_elapsed = 0.0


def child_clock() -> float:
    """Return the sum of all seconds that workers have reported: a clock without the cost of the pipes."""
    return _elapsed


class Remote:
    """A case that a worker process builds and runs, with the interface of ``cases.workload.Workload``."""

    clock = staticmethod(child_clock)
    prepare = None
    flushes = 0

    def __init__(self, case: Case, worker: Worker) -> None:
        self.case, self.worker = case, worker

    def check(self) -> float:
        """Build and check the case, and return the seconds of the first call."""
        return float(self.worker.ask(build=asdict(self.case))["first_call_s"])

    def step(self) -> None:
        """Run one step, and advance ``child_clock`` by its seconds."""
        global _elapsed
        _elapsed += self.worker.ask(step=1)["seconds"][0]

    def counts(self) -> dict[str, Any]:
        """Return how many gradients of one more backward pass are zero, subnormal and not finite."""
        return self.worker.ask(count=True)

    gradient_ends: ClassVar[dict[str, dict[str, Any]]] = {}  # not read in a worker

    def compiled(self) -> None:
        """Return None, as a compiler is not supported here."""

    def attention(self) -> dict[str, Any]:
        """Return an entry without the attention kernel, which is not recorded in a worker."""
        return {"kernel": None, "fused": None, "reason": "not recorded in a worker process", "method": "none"}

    def weigh(self, device: Device) -> Readings:
        """Return a reading without bytes and the reason, as memory is not measured in a worker."""
        return {"allocated_peak": reading(None, "allocator", "not measured in a worker process")}
