"""The one clock: seconds once the device has finished. pytest-benchmark takes it as its timer."""

import time
from dataclasses import dataclass

from attnlib.measure.device import Device
from attnlib.measure.rounds import Clock, Step

_device = Device()


def bind(device: Device) -> None:
    """Make ``device`` the one that ``device_clock`` waits for."""
    global _device
    _device = device


def device_clock() -> float:
    """Wait for the bound device, then return a monotonic time in seconds.

    pytest-benchmark calls it right before and right after every round, so nothing that a set-up left queued is
    counted and nothing that the round queued is missed.
    """
    _device.synchronize()
    return time.perf_counter()


@dataclass(frozen=True)
class Bare:
    """Any callable as what takes turns, see ``attnlib.measure.rounds.Side``."""

    step: Step
    prepare: Step | None = None
    clock: Clock = device_clock
