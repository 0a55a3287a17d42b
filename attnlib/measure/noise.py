"""Disturbances of a measurement by other work on the machine, from counters that cost microseconds to read."""

import os
import time
from pathlib import Path
from typing import Any

import psutil

from attnlib.measure import nvml
from attnlib.measure.canary import FAR, Canary
from attnlib.measure.device import Device

# Measured on 2 cores over windows of 0.1 s: at most 0.08 on an idle machine, at least 0.49 beside one busy loop.
PRESSURE = 0.25
CPU_SHARE = 0.8  # least CPU seconds per second, as a share of those in the same case's warm-up
STEAL = 0.1  # most of a CPU that the hypervisor may take
SWITCHES = 100.0  # most involuntary context switches per second, used where the kernel does not count pressure
SHORT = 0.05  # seconds of a window too short for these shares: steal is counted in ticks of 0.01 s
CARD_WORKS = 0.02  # seconds for which a card works while its clocks are read
SM_CLOCK = 0.75  # least SM clock, as a share of that in the same case's warm-up
SLOWDOWNS = ("HwSlowdown", "HwThermalSlowdown", "HwPowerBrakeSlowdown", "SwThermalSlowdown")


class Disturbance:
    """Counters of the machine and of this process, from the creation of the object to ``read``.

    Args:
        device: device that is measured; a CUDA card's state is read before and after, while it works.
        canary: the canary to read before and after; None reads none.
    """

    def __init__(self, device: Device, canary: Canary | None = None) -> None:
        self.device, self.canary, self.process = device, canary, psutil.Process()
        self.before = None if canary is None else (canary.listen(), canary.change)
        self.card = self._card()
        self.start = self._counters()

    def _card(self) -> dict[str, Any] | None:
        if self.device.kind != "cuda":
            return None
        with nvml.card(self.device.describe()["uuid"]) as card:
            self.device.hold(CARD_WORKS)  # an idle card lowers its clock within milliseconds
            state = card.state()
            self.device.synchronize()  # else the rest would count as work of what comes next
            return state

    def _counters(self) -> dict[str, Any]:
        with self.process.oneshot():
            switches = self.process.num_ctx_switches().involuntary
            faults = getattr(self.process.memory_info(), "num_page_faults", None) or _page_faults()
        return {
            "wall": time.perf_counter(),
            "cpu": time.process_time(),  # nanoseconds; psutil counts in ticks of 10 ms
            "pressure": _cpu_pressure(),
            "steal": getattr(psutil.cpu_times(), "steal", None),
            "involuntary_switches": switches,
            "page_faults": faults,
        }

    def read(self) -> dict[str, Any]:
        """Return what was counted since the start; null where the system does not count it.

        Returns:
            ``wall_s``, seconds; ``cpu_s_per_wall_s`` of this process; ``cpu_pressure``, the share of the wall time in
            which a task waited for a CPU; ``steal``, the share of a CPU that the hypervisor gave to others;
            ``involuntary_switches`` and ``page_faults`` of this process; ``load_average`` over the last minute;
            ``card``, the readings ``before`` and ``after`` of a CUDA device, see ``attnlib.measure.nvml.Card.state``;
            with a canary ``canary_s``, its seconds before and after, and ``canary_change``, the larger factor by which
            either reading lies outside of the usual range.
        """
        end = self._counters()
        since: dict[str, Any] = {
            name: None if value is None or self.start[name] is None else value - self.start[name]
            for name, value in end.items()
        }
        card = None if self.card is None else {"before": self.card, "after": self._card()}
        wall = since["wall"]
        share = {  # at most 1: the kernel's clock may be slightly ahead of ours
            name: None if since[name] is None else min(1.0, since[name] / wall) for name in ("pressure", "steal")
        }
        heard: dict[str, Any] = {}
        if self.canary is not None and self.before is not None:
            seconds, change = self.before
            heard["canary_s"] = [seconds, self.canary.listen()]
            heard["canary_change"] = max(change, self.canary.change)
        return heard | {
            "wall_s": wall,
            "cpu_s_per_wall_s": since["cpu"] / wall,
            "cpu_pressure": share["pressure"],
            "steal": share["steal"],
            "involuntary_switches": since["involuntary_switches"],
            "page_faults": since["page_faults"],
            "load_average": psutil.getloadavg()[0],
            "card": card,
        }


def disturbed(seen: dict[str, Any], quiet: dict[str, Any] | None = None) -> list[str]:
    """Return the reasons why a reading of ``Disturbance`` marks a disturbed measurement; an empty list if none.

    Args:
        seen: the reading of the measurement.
        quiet: the reading of the same case's warm-up; ignored if that was disturbed itself.
    """
    found = []
    if seen["cpu_pressure"] is not None:
        if seen["cpu_pressure"] > PRESSURE:
            found.append(f"some process waited for a CPU {seen['cpu_pressure']:.0%} of the time")
    elif seen["involuntary_switches"] is not None and seen["involuntary_switches"] > SWITCHES * max(1, seen["wall_s"]):
        found.append(f"the system took the CPU from this process {seen['involuntary_switches']} times")
    if seen["steal"] is not None and seen["steal"] > STEAL and seen["wall_s"] > SHORT:
        found.append(f"the hypervisor took {seen['steal']:.0%} of a CPU")
    if quiet is not None and seen["wall_s"] > SHORT and not disturbed(quiet):
        before, now = quiet["cpu_s_per_wall_s"], seen["cpu_s_per_wall_s"]
        if now < CPU_SHARE * before:
            found.append(f"this process had {now:.1f} CPU seconds per second, {before:.1f} in its warm-up")
    if seen.get("canary_change", 1.0) > FAR:
        found.append(f"the canary was outside of its usual range by a factor of {seen['canary_change']:.1f}")
    return found + _throttled(seen["card"], None if quiet is None else quiet["card"])


def _throttled(card: dict[str, Any] | None, quiet: dict[str, Any] | None) -> list[str]:
    if card is None:
        return []
    reasons = [name for state in card.values() for name in state["event_reasons"]["value"] or ()]
    slow = [name for name in dict.fromkeys(reasons) if name in SLOWDOWNS]
    found = [f"the card slowed down: {', '.join(slow)}"] if slow else []
    now = card["after"]["sm_mhz"]["value"]
    before = None if quiet is None else quiet["after"]["sm_mhz"]["value"]
    if now is not None and before is not None and now < SM_CLOCK * before:
        found.append(f"the SM clock fell from {before} to {now} MHz")
    return found


class CpuWait:
    """Counts the seconds in which this thread could run and waited for a CPU that others had. Linux only."""

    def __init__(self) -> None:
        try:
            self.handle: int | None = os.open("/proc/thread-self/schedstat", os.O_RDONLY)
        except OSError:
            self.handle = None

    def __call__(self) -> float | None:
        """Return the seconds so far; None where the kernel does not count them. Takes about 1 us."""
        if self.handle is None:
            return None
        return int(os.pread(self.handle, 64, 0).split()[1]) / 1e9

    def close(self) -> None:
        """Close the kernel's file."""
        if self.handle is not None:
            os.close(self.handle)
            self.handle = None


def _cpu_pressure() -> float | None:
    """Return the seconds so far in which some task waited for a CPU; None if the kernel does not count them."""
    try:
        text = Path("/proc/pressure/cpu").read_text()
    except OSError:
        return None
    return int(text.split("total=", 1)[1].split()[0]) / 1e6


def _page_faults() -> int | None:
    try:
        import resource
    except ImportError:  # Windows counts them in memory_info
        return None
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_minflt + usage.ru_majflt
