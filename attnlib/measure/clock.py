"""The only clock: it waits for the device, then reads a monotonic time. pytest-benchmark uses it as its timer."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from attnlib.measure.device import Device
from attnlib.measure.rounds import Clock, Step

_device = Device()
_laps: list[tuple[Any, Any]] | None = None  # marks before and after each wait, while they are collected


def bind(device: Device) -> None:
    """Make ``device`` the one that ``device_clock`` waits for and that new work goes to."""
    global _device
    _device = device
    device.use()


def device_clock() -> float:
    """Wait for the bound device, then return a monotonic time in seconds.

    pytest-benchmark calls it right before and right after every round, so work that a set-up left queued is not counted
    and all work that the round queued is: two waits a round, no more.
    """
    if _laps is None:
        _device.synchronize()
        return time.perf_counter()
    end = _device.mark()  # ends what was queued so far
    _device.synchronize()
    _laps.append((end, _device.mark()))  # the second mark starts what comes next
    return time.perf_counter()


@dataclass
class DeviceTimes:
    """Seconds of each round by the device's own clock; empty where the device has none."""

    rounds: list[float] = field(default_factory=list)


@contextmanager
def device_times() -> Iterator[DeviceTimes]:
    """Collect the seconds, by the device's own clock, of every round that is timed in the block."""
    global _laps
    found, _laps = DeviceTimes(), []
    try:
        yield found
    finally:
        laps, _laps = _laps, None
    spans = [_device.between(start, end) for (_, start), (end, _) in zip(laps[::2], laps[1::2], strict=True)]
    found.rounds = [span for span in spans if span is not None]


@dataclass(frozen=True)
class Bare:
    """Any callable as a side that can be timed, see ``attnlib.measure.rounds.Side``."""

    step: Step
    prepare: Step | None = None
    clock: Clock = device_clock
