"""A fixed workload, timed throughout a run: if it changes its time, the machine did and not what is measured."""

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
# Percentiles of a run's readings between which a reading is usual. Wide, since a shared machine has two speeds: on 2
# cores whose neighbours come and go, small operators took 1.0 or 1.6 times their least in half of the readings each.
USUAL = (10, 90)
FAR = 1.25  # times beyond them, on either side: another machine than the one that the rest of the run saw
PATIENCE = 1.0  # seconds that a spell is waited out
TRAFFIC = 2**23  # bytes that are copied: more than a core's own caches hold


class Canary:
    """The kinds of work that a step consists of, the same in every run: about 1 ms together on a core.

    ``products``: 3 products of ``[192, 192]``; ``traffic``: a copy of 8 MiB; ``operators``: 40 times softmax(x x) x
    with ``[8, 8]``, whose time is that of calling operators. A slow spell need not change all of them alike, which is
    why it can change the ratio of two cases.

    Args:
        device: where it runs.
        everyones: gets its readings too, beside those of other canaries.
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
        """Seconds since it was made."""
        return time.perf_counter() - self.started

    @property
    def change(self) -> float:
        """How far the last reading lies outside of what is usual in this run, as a factor; 1 within it."""
        found = 1.0
        # those of a spell that was waited out are many of one moment
        usual = [reading["kinds"] for reading in self.readings if not reading.get("waited")]
        for kind, last in self.readings[-1]["kinds"].items():
            low, high = np.percentile([kinds[kind] for kinds in usual], USUAL)
            found = max(found, float(last / high), float(low / last))
        return found

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
        """Return what is timed, by kind of work, on the device; its tensors are freed after each reading."""
        large, small, block = (x.to(self.device.torch_device) for x in (self.large, self.small, self.block))
        target = torch.empty_like(block)
        return {
            "products": partial(products, large, torch.empty_like(large)),
            "traffic": partial(target.copy_, block),
            "operators": partial(operators, small),
        }

    def listen(self) -> float:
        """Seconds of all kinds together, each the median of a few rounds; noted in ``readings``.

        A reading has ``seconds``, ``kinds``, the seconds of each, and ``at_s``, seconds since the start.
        """
        at, seconds = self.at_s, {}
        with torch.no_grad():
            for kind, work in self.kinds().items():
                # one untimed round: what ran before it left the caches full of its own
                seconds[kind] = float(np.median([timed(work, None, device_clock, 1, n == 0) for n in range(ROUNDS)]))
        self.readings.append(
            {"at_s": at, "seconds": sum(seconds.values()), "kinds": seconds, "device": self.device.kind}
        )
        self.everyones.append(self.readings[-1])
        return float(self.readings[-1]["seconds"])


def products(x: Tensor, out: Tensor) -> None:
    """Matrix products, which a core's arithmetic bounds."""
    for _ in range(3):
        torch.mm(x, x, out=out)


def operators(x: Tensor) -> None:
    """Operators on next to nothing, which the calls bound."""
    for _ in range(40):
        torch.softmax(x @ x, -1) @ x
