"""The device interface: the only place that names a backend."""

from collections.abc import Callable
from typing import Any

import torch


def reading(value: int | float | None, method: str, reason: str | None = None) -> dict[str, Any]:
    """One reading as it is saved: a value with its method, or null with a reason, never 0 for "missing"."""
    return {"value": value, "method": method, "reason": reason}


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

    def synchronize(self) -> None:
        """Wait until everything queued on the device has finished."""

    def event_seconds(self, step: Callable[[], None]) -> dict[str, Any]:
        """Seconds that the device itself counts for one ``step``, as a reading; null where it has no clock."""
        return reading(None, "device events", f"{self.kind} has no event clock")

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


class Cuda(Device):
    """An NVIDIA GPU, or whatever answers to ``torch.cuda``."""

    def synchronize(self) -> None:
        """Wait for the device."""
        torch.cuda.synchronize(self.torch_device)

    def event_seconds(self, step: Callable[[], None]) -> dict[str, Any]:
        """Seconds between two CUDA events around one ``step``; their resolution is about 0.5 us."""
        with torch.cuda.device(self.torch_device):
            start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
            start.record()
            step()
            end.record()
            end.synchronize()
        return reading(start.elapsed_time(end) / 1e3, "torch.cuda.Event around one step")

    def release(self) -> None:
        """Return the caching allocator's free blocks to the driver."""
        torch.cuda.empty_cache()

    def describe(self) -> dict[str, Any]:
        """What torch knows of the card; the driver's own words come from ``attnlib.measure.nvml``."""
        properties = torch.cuda.get_device_properties(self.torch_device)
        return super().describe() | {
            "name": properties.name,
            "uuid": f"GPU-{properties.uuid}",
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
