"""Energy of one step: an energy counter read before and after a window of steps, in a pass of its own."""

import contextlib
import math
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from attnlib.measure import nvml
from attnlib.measure.device import Device, reading

RAPL = Path("/sys/class/powercap")
BATCH = 0.1  # seconds of steps between two readings of the power
TOLERANCE = 0.25  # largest relative difference between a counter and the integral of the power


class Rapl:
    """The energy counters of all CPU packages together (RAPL, on Intel and AMD CPUs), including other processes."""

    def __init__(self, root: Path = RAPL) -> None:
        names = sorted(root.glob("intel-rapl:*/name"))  # parts of a package, and of the whole platform, have others
        self.packages = [path.parent for path in names if path.read_text().startswith("package")]
        self.last = [0] * len(self.packages)
        self.overflow = 0  # microjoules that were counted before counters began anew

    def joules(self) -> dict[str, Any]:
        """Return the joules so far as a reading; a counter may begin anew at its limit once between two readings."""
        method = "RAPL, energy_uj of all packages"
        if not self.packages:
            return reading(None, method, "this system shows no RAPL counters")
        try:
            for place, folder in enumerate(self.packages):
                now = int((folder / "energy_uj").read_text())
                if now < self.last[place]:
                    self.overflow += int((folder / "max_energy_range_uj").read_text())
                self.last[place] = now
        except OSError as error:
            return reading(None, method, f"RAPL's counters cannot be read: {error.strerror}")
        except ValueError:
            return reading(None, method, "RAPL's counters are not numbers")
        return reading((sum(self.last) + self.overflow) / 1e6, method)

    def watts(self) -> dict[str, Any]:
        """Return a null reading: RAPL counts energy only."""
        return reading(None, "RAPL", "RAPL counts energy alone")


@contextlib.contextmanager
def counter(device: Device) -> Iterator[tuple[Rapl | nvml.Card | None, float]]:
    """Open a device's energy counter (None if it has none), with the seconds that a window must last.

    A window spans many updates of the counter: RAPL's come every millisecond, NVML's every 20 to 100.
    """
    if device.kind == "cuda":
        with nvml.card(device.describe()["uuid"]) as card:
            yield card, 2.0
    else:
        yield (Rapl(), 0.5) if device.kind == "cpu" else (None, 0.0)


def energy(device: Device, step: Callable[[], None], seconds: float) -> dict[str, Any]:
    """Return the joules of one step: the mean over a window of steps that run back to back.

    The counter covers a whole card, or all packages of the CPU, including the work of other processes.

    Args:
        device: device that the step runs on.
        step: a step that can be repeated without preparation.
        seconds: seconds of one step.

    Returns:
        ``joules``, a reading, null with its reason if there is no counter, it stands still, or the power that was
        read meanwhile contradicts it; ``window_s``, ``steps``, and ``power_w``, a reading of the mean power in the
        window's second half.
    """
    with counter(device) as (source, window):
        first = source.joules() if source else reading(None, "none", f"{device.kind} has no energy counter")
        if source is None or first["value"] is None:
            return {"joules": first, "window_s": None, "steps": 0, "power_w": None}
        batch, steps, powers = max(1, math.ceil(BATCH / max(seconds, 1e-6))), 0, []
        device.synchronize()  # work that was queued before is no part of the window
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
    """Return the joules of a step from a counter's two readings, null if the power contradicts them; see ``energy``."""
    later = [power for at, power in powers if at >= window / 2]  # a card's power lags behind its work
    known = [power["value"] for power in later if power["value"] is not None]
    power = later[-1] | {"value": float(np.mean(known)), "reason": None} if known else later[-1]
    found = {"window_s": window, "steps": steps, "power_w": power}
    if last["value"] is None or first["value"] is None:
        return {"joules": last if last["value"] is None else first} | found
    spent, reason = last["value"] - first["value"], None
    if spent <= 0:
        reason = f"the counter stood still for {window:.1f} s"
    elif known and abs(spent / (power["value"] * window) - 1) > TOLERANCE:
        reason = f"the counter says {spent:.4g} J and the power {power['value'] * window:.4g} J over {window:.1f} s"
    return {"joules": reading(None if reason else spent / steps, last["method"], reason)} | found
