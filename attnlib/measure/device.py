"""The device interface: the only place that names a backend."""

import math
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import torch

CACHES = Path("/sys/devices/system/cpu/cpu0/cache")  # Linux
UNITS = {"K": 2**10, "M": 2**20}
HELD = (0.002, 0.02, 0.2)  # seconds that a queue is held up, until a step's launches take less
Step = Callable[[], None]


def reading(value: int | float | None, method: str, reason: str | None = None) -> dict[str, Any]:
    """One reading as it is saved: a value with its method, or null with a reason, never 0 for "missing"."""
    return {"value": value, "method": method, "reason": reason}


class CaptureFailed(RuntimeError):
    """A step cannot be captured as a graph here; the message says why."""


class Device:
    """A CPU, and the interface of every device. On a CPU each call returns when its work is done.

    Args:
        name: as torch writes it, ``cpu`` or ``cuda:1``.
    """

    def __init__(self, name: str = "cpu") -> None:
        self.torch_device = torch.device(name)

    @property
    def kind(self) -> str:
        """``cpu``, ``cuda``, ``mps``, ...: what a case is compared by."""
        return self.torch_device.type

    def use(self) -> None:
        """Make it the one that new work goes to."""

    def synchronize(self) -> None:
        """Wait until everything queued on the device has finished."""

    def mark(self) -> Any:
        """A moment in the device's queue, behind what is queued so far; None where it has no clock of its own."""
        return None

    def between(self, start: Any, end: Any) -> float | None:
        """Seconds that the device counts between two marks that it has passed; None where it has no clock."""
        return None

    def busy_seconds(self, step: Step, prepare: Step | None = None) -> dict[str, Any]:
        """Seconds that the device works on one ``step`` while no launch keeps it waiting, as a reading.

        ``prepare`` is called before it, and is not counted.
        """
        return reading(None, "device events", f"{self.kind} has no queue that could be held up")

    def capture(self, step: Step) -> Step:
        """What replays the work of ``step`` with a single launch.

        Raises:
            CaptureFailed: it cannot be captured, or there are no graphs here.
        """
        raise CaptureFailed(f"{self.kind} has no graphs to capture a step in")

    def cache_bytes(self) -> int | None:
        """Bytes of the largest cache that a step may find warm; None where the system does not tell."""
        sizes = [path.read_text().strip() for path in CACHES.glob("index*/size")]
        return max((int(size[:-1]) * UNITS[size[-1]] for size in sizes if size[-1:] in UNITS), default=None)

    def flush(self) -> int:
        """Rewrite as many bytes as the largest cache has, so that what comes finds nothing of its own; how many."""
        size = self.cache_bytes() or 0
        torch.empty(size, dtype=torch.uint8, device=self.torch_device).fill_(1)
        return size

    def release(self) -> None:
        """Give cached memory back, so that one case does not weigh on the next."""

    def describe(self) -> dict[str, Any]:
        """Name, UUID, driver and total bytes, each null where the device does not tell."""
        return {"kind": self.kind, "name": None, "uuid": None, "driver": None, "total_bytes": None}


class Accelerator(Device):
    """Any device behind ``torch.accelerator`` (MPS, XPU, ...)."""

    def synchronize(self) -> None:
        """Wait for the device."""
        torch.accelerator.synchronize(self.torch_device)

    def cache_bytes(self) -> None:
        """Not told."""


class Cuda(Device):
    """An NVIDIA GPU, or whatever answers to ``torch.cuda``. Its work is queued: a call returns before it is done."""

    def use(self) -> None:
        """Make it the current card: events and streams are made on that one."""
        if self.torch_device.index is not None:  # torch refuses a card without a number, which is the current one
            torch.cuda.set_device(self.torch_device)

    def synchronize(self) -> None:
        """Wait for the device."""
        torch.cuda.synchronize(self.torch_device)

    def mark(self) -> torch.cuda.Event:
        """An event in the current stream; its clock resolves about 0.5 us."""
        event = torch.cuda.Event(enable_timing=True)
        event.record(torch.cuda.current_stream(self.torch_device))
        return event

    def between(self, start: torch.cuda.Event, end: torch.cuda.Event) -> float:
        """Seconds between two events; what the device waited for launches is counted."""
        return float(start.elapsed_time(end)) / 1e3

    def busy_seconds(self, step: Step, prepare: Step | None = None) -> dict[str, Any]:
        """Seconds between events around a step that is queued behind products which keep the card busy meanwhile.

        The event before it must still lie ahead of the card when the last launch is queued, else the products are
        made longer; where a card's queue holds fewer launches than the step has, that never comes true.
        """
        method = "CUDA events around a step that is queued behind other work"
        for seconds in HELD:
            if prepare is not None:
                prepare()
            try:
                self.hold(seconds)
            except torch.OutOfMemoryError as error:
                return reading(None, method, str(error).partition("\n")[0])
            start = self.mark()
            step()
            waited = start.query()
            end = self.mark()
            end.synchronize()
            if not waited:
                return reading(self.between(start, end), method)
        return reading(None, method, f"its launches took longer than {HELD[-1]} s, or than the queue is long")

    def hold(self, seconds: float) -> None:
        """Queue products that keep the card busy for about so long."""
        product = self.product()
        product()
        start = self.mark()
        product()
        end = self.mark()
        end.synchronize()
        for _ in range(math.ceil(seconds / max(self.between(start, end), 1e-5))):
            product()

    def product(self) -> Callable[[], Any]:
        """A matrix product of ``[512, 512]`` on the card: small, so as to leave most of its cache alone."""
        a = torch.ones(512, 512, device=self.torch_device)
        return partial(torch.mm, a, a, out=torch.empty_like(a))

    def capture(self, step: Step) -> Step:
        """A CUDA graph of the step, which has run thrice on a side stream before, as torch's documentation asks.

        Raises:
            CaptureFailed: torch refused; the message is its first line.
            torch.OutOfMemoryError: there is no room for it.
        """
        before = torch.cuda.current_stream(self.torch_device)
        side, graph = torch.cuda.Stream(self.torch_device), torch.cuda.CUDAGraph()
        try:
            side.wait_stream(before)
            with torch.cuda.stream(side):
                for _ in range(3):
                    step()
            before.wait_stream(side)
            with torch.cuda.graph(graph):
                step()
        except torch.OutOfMemoryError:
            torch.cuda.set_stream(before)
            raise
        except RuntimeError as error:
            torch.cuda.set_stream(before)  # a capture that was refused leaves its own one
            raise CaptureFailed(f"not captured as a CUDA graph: {str(error).partition(chr(10))[0]}") from None
        return graph.replay

    def cache_bytes(self) -> int:
        """Of its L2 cache."""
        return int(torch.cuda.get_device_properties(self.torch_device).L2_cache_size)

    def release(self) -> None:
        """Return the caching allocator's free blocks to the driver."""
        torch.cuda.empty_cache()

    def describe(self) -> dict[str, Any]:
        """What torch knows of the card; the driver's own words come from ``attnlib.measure.nvml``."""
        properties = torch.cuda.get_device_properties(self.torch_device)
        return super().describe() | {
            "name": properties.name,
            "uuid": str(properties.uuid),
            "total_bytes": properties.total_memory,
            "compute_capability": f"{properties.major}.{properties.minor}",
            "cuda": torch.version.cuda,
            "cudnn": torch.backends.cudnn.version(),
        }


def open_device(name: str) -> Device:
    """Open ``auto`` (an accelerator if there is one), ``cpu``, ``cuda``, ``cuda:1``, ``mps``, ...

    Raises:
        ValueError: no such device here; the message names those that there are.
    """
    accelerator = torch.accelerator.current_accelerator() if torch.accelerator.is_available() else None
    choices = ["auto", "cpu"]
    if accelerator is not None:
        choices += [accelerator.type, *(f"{accelerator.type}:{i}" for i in range(torch.accelerator.device_count()))]
    if name not in choices:
        raise ValueError(f"no device {name!r} on this machine; choose from {', '.join(choices)}")
    if name == "cpu" or accelerator is None:
        return Device()
    if name == "auto":
        name = accelerator.type
    return Cuda(name) if accelerator.type == "cuda" else Accelerator(name)
