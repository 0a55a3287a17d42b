"""Energy of one step: a counter read around a window of steps, in a pass of its own."""

import contextlib
import math
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from attnlib.measure import nvml
from attnlib.measure.device import Device, reading

RAPL = Path("/sys/class/powercap")
BATCH = 0.1  # seconds of steps between two readings of the power
TOLERANCE = 0.25  # between a counter and the integral of the power


class Counter(Protocol):
    """What counts joules."""

    def joules(self) -> dict[str, Any]:
        """So far, as a reading."""

    def watts(self) -> dict[str, Any]:
        """Now, as a reading."""


class Rapl:
    """The counters of a CPU's packages (Intel's RAPL, which AMD's CPUs have too), summed; others' work counts too.

    Args:
        root: where Linux shows them.
    """

    def __init__(self, root: Path = RAPL) -> None:
        names = sorted(root.glob("intel-rapl:*/name"))  # parts of a package, and of the whole platform, have others
        self.packages = [path.parent for path in names if path.read_text().startswith("package")]
        self.last = [0] * len(self.packages)
        self.turns = [0] * len(self.packages)  # microjoules by which each has overflown

    def joules(self) -> dict[str, Any]:
        """So far; each counter begins anew at its own limit, at most once between two readings."""
        method = "RAPL, energy_uj of all packages"
        if not self.packages:
            return reading(None, method, "this system shows no RAPL counters")
        try:
            for place, folder in enumerate(self.packages):
                now = int((folder / "energy_uj").read_text())
                if now < self.last[place]:
                    self.turns[place] += int((folder / "max_energy_range_uj").read_text())
                self.last[place] = now
        except OSError as error:
            return reading(None, method, f"RAPL's counters cannot be read: {error.strerror}")
        except ValueError:
            return reading(None, method, "RAPL's counters are no numbers")
        return reading((sum(self.last) + sum(self.turns)) / 1e6, method)

    def watts(self) -> dict[str, Any]:
        """Not told: RAPL counts energy alone."""
        return reading(None, "RAPL", "RAPL counts energy alone")


@contextlib.contextmanager
def counter(device: Device) -> Iterator[tuple[Counter | None, float]]:
    """What counts a device's energy, or None; and the seconds that a window must have: many of the counter's steps.

    RAPL counts every millisecond; NVML every 20 to 100, and reads 0 over short windows.
    """
    if device.kind == "cuda":
        with nvml.card(device.describe()["uuid"]) as card:
            yield card, 2.0
    else:
        yield (Rapl(), 0.5) if device.kind == "cpu" else (None, 0.0)


def energy(device: Device, step: Callable[[], None], seconds: float) -> dict[str, Any]:
    """Joules of one step, the mean over a window of steps back to back, and what they were read from.

    Args:
        device: whose energy: a whole card, or all packages of the CPU, whatever else works there.
        step: run again and again; it needs no preparation.
        seconds: that one takes.

    Returns:
        ``joules``, a reading, null with its reason where there is no counter, it stands still, or the power that was
        read meanwhile contradicts it; ``window_s``, ``steps``, and ``power_w``, the mean of the power's readings in
        the window's second half, a reading too.
    """
    with counter(device) as (source, window):
        first = source.joules() if source else reading(None, "none", f"nothing counts the energy of {device.kind}")
        if source is None or first["value"] is None:
            return {"joules": first, "window_s": None, "steps": 0, "power_w": None}
        batch, steps, powers = max(1, math.ceil(BATCH / max(seconds, 1e-6))), 0, []
        device.synchronize()
        first, start, now = source.joules(), time.perf_counter(), 0.0
        while now < window:
            for _ in range(batch):
                step()
            device.synchronize()
            steps, now = steps + batch, time.perf_counter() - start
            powers.append((now, source.watts()))
        last, now = source.joules(), time.perf_counter() - start
    return judged(first, last, steps, now, powers)


def judged(
    first: dict[str, Any], last: dict[str, Any], steps: int, window: float, powers: list[tuple[float, dict[str, Any]]]
) -> dict[str, Any]:
    """What a counter's two readings say, and whether the power's readings agree; see ``energy``."""
    later = [power for at, power in powers if at >= window / 2]
    known = [power["value"] for power in later if power["value"] is not None]
    power = later[-1] | {"value": float(np.mean(known)), "reason": None} if known else later[-1]
    found = {"window_s": window, "steps": steps, "power_w": power}
    if last["value"] is None or first["value"] is None:
        return {"joules": last if last["value"] is None else first} | found
    spent = last["value"] - first["value"]
    if spent <= 0:
        return {"joules": reading(None, last["method"], f"the counter stood still for {window:.1f} s")} | found
    if known and abs(spent / (power["value"] * window) - 1) > TOLERANCE:
        why = f"the counter says {spent:.4g} J and the power {power['value'] * window:.4g} J over {window:.1f} s"
        return {"joules": reading(None, last["method"], why)} | found
    return {"joules": reading(spent / steps, last["method"])} | found
