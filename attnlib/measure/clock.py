"""The only clock: it waits for the device, then reads a monotonic time. pytest-benchmark uses it as its timer."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from attnlib.measure.device import Device
from attnlib.measure.rounds import Clock, Step

MOMENT = 2e-5  # seconds, longer than a mark takes
_device = Device()
_marks: list[Any] | None = None  # the device's marks at each reading of the clock, while they are collected


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
    if _marks is None:
        _device.synchronize()
        return time.perf_counter()
    # A mark costs the host some microseconds, which must lie outside of the round: an opening mark is made before the
    # clock is read, a closing one while the device still works, and where it is about to end, after the clock was read.
    if len(_marks) % 2 == 0:
        _device.synchronize()
        _marks.append(_device.mark())
        return time.perf_counter()
    ended = _end_within(MOMENT)
    _marks.append(_device.mark())
    _device.synchronize()
    return time.perf_counter() if ended is None else ended


def _end_within(seconds: float) -> float | None:
    """Return the time at which the device has no more work, if that comes within some seconds; else None."""
    latest = None
    while _device.is_busy():
        now = time.perf_counter()
        latest = now + seconds if latest is None else latest
        if now > latest:
            return None
    return time.perf_counter()


@dataclass
class DeviceTimes:
    """Seconds of each round by the device's own clock; empty where the device has none."""

    rounds: list[float] = field(default_factory=list)


@contextmanager
def device_times() -> Iterator[DeviceTimes]:
    """Collect the seconds, by the device's own clock, of every round that is timed in the block."""
    global _marks
    found, _marks = DeviceTimes(), []
    try:
        yield found
    finally:
        marks, _marks = _marks, None
    spans = [_device.between(start, end) for start, end in zip(marks[::2], marks[1::2], strict=True)]
    found.rounds = [span for span in spans if span is not None]


@dataclass(frozen=True)
class Bare:
    """Any callable as a side that can be timed, see ``attnlib.measure.rounds.Side``."""

    step: Step
    prepare: Step | None = None
    clock: Clock = device_clock
