"""The canary: a fixed workload timed throughout a run. If its time changes, the machine's speed has changed."""

import time
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor

from attnlib.measure.clock import device_clock
from attnlib.measure.device import Device
from attnlib.measure.rounds import timed

ROUNDS = 3
# Percentiles of a run's readings that bound its usual range. Wide, since a shared machine has two speeds: on 2 cores
# whose neighbours come and go, small operators took 1.0 or 1.6 times their least in half of the readings each.
USUAL = (10, 90)
FAR = 1.25  # a reading beyond the usual range by this factor, on either side, marks a disturbed measurement
PATIENCE = 1.0  # seconds to wait for a slow spell to pass
TRAFFIC = 2**23  # bytes that are copied: more than a core's own caches hold


class Canary:
    """Times the three kinds of work that a step consists of, the same in every run: about 1 ms together on a core.

    ``products``: 3 products of ``[192, 192]``; ``traffic``: a copy of 8 MiB; ``operators``: 40 times softmax(x x) x
    with ``[8, 8]``, where calling the operators takes the time. A slow spell can change one kind more than another,
    and with it the ratio of two cases.

    Args:
        device: device to run on.
        everyones: a list that receives this canary's readings and those of other canaries.
    """

    def __init__(self, device: Device, everyones: list[dict[str, Any]] | None = None) -> None:
        self.device, self.everyones = device, [] if everyones is None else everyones
        seed = torch.Generator().manual_seed(0)
        self.large, self.small = (torch.randn(n, n, generator=seed) for n in (192, 8))
        self.block = torch.zeros(TRAFFIC, dtype=torch.uint8)
        self.started = time.perf_counter()
        self.readings: list[dict[str, Any]] = []
        for _ in range(10):
            self.listen()

    @property
    def at_s(self) -> float:
        """Seconds since the canary was made."""
        return time.perf_counter() - self.started

    @property
    def change(self) -> float:
        """The factor by which the last reading lies outside of this run's usual range; 1 within it."""
        worst = 1.0
        # readings taken while waiting are many of the same moment, and would shift the usual range
        usual = [reading["kinds"] for reading in self.readings if not reading.get("waited")]
        for kind, last in self.readings[-1]["kinds"].items():
            low, high = np.percentile([kinds[kind] for kinds in usual], USUAL)
            worst = max(worst, float(last / high), float(low / last))
        return worst

    def wait(self) -> None:
        """Wait until the canary takes its usual time, at most ``PATIENCE`` seconds."""
        deadline = time.perf_counter() + PATIENCE
        while True:
            self.listen()
            self.readings[-1]["waited"] = True
            if self.change <= FAR or time.perf_counter() > deadline:
                return
            time.sleep(0.02)

    def kinds(self) -> dict[str, Callable[[], Any]]:
        """Return the callable to time for each kind of work, with new tensors on the device."""
        large, small, block = (x.to(self.device.torch_device) for x in (self.large, self.small, self.block))
        target = torch.empty_like(block)
        return {
            "products": partial(products, large, torch.empty_like(large)),
            "traffic": partial(target.copy_, block),
            "operators": partial(operators, small),
        }

    def listen(self) -> float:
        """Take a reading, append it to ``readings``, and return its seconds, all kinds together.

        A reading has ``kinds``, the median seconds of each kind, ``seconds``, their sum, and ``at_s``, the seconds from
        the start of the canary to the reading.
        """
        at, seconds = self.at_s, {}
        with torch.no_grad():
            for kind, work in self.kinds().items():
                # one untimed step before the first round: the work before it left its own data in the caches
                times = [timed(work, None, device_clock, untimed=int(n == 0)) for n in range(ROUNDS)]
                seconds[kind] = float(np.median(times))  # one interrupted round does not move the median of three
        total = sum(seconds.values())
        self.readings.append({"at_s": at, "seconds": total, "kinds": seconds, "device": self.device.kind})
        self.everyones.append(self.readings[-1])
        return total


def products(x: Tensor, out: Tensor) -> None:
    """Multiply ``x`` ``[192, 192]`` by itself three times into ``out``: bound by a core's arithmetic."""
    for _ in range(3):
        torch.mm(x, x, out=out)


def operators(x: Tensor) -> None:
    """Run 80 products and 40 softmaxes of ``x`` ``[8, 8]``: bound by the cost of calling an operator."""
    for _ in range(40):
        torch.softmax(x @ x, -1) @ x
