"""A fixed workload, timed throughout a run: if it changes its time, the machine did and not what is measured."""

import time
from functools import partial
from typing import Any

import numpy as np
import torch

from attnlib.measure.clock import device_clock
from attnlib.measure.device import Device
from attnlib.measure.rounds import timed

ROUNDS = 3
QUIET = 25  # percentile of the readings so far that counts as undisturbed
SLOW = 1.25  # times that: a slow spell. Measured on 2 cores: 1.3 to 1.5 in spells, where steps took twice their time
PATIENCE = 1.0  # seconds that a spell is waited out


class Canary:
    """Softmax attention of two sizes in float32, the same in every run: about 1.5 ms a round on 2 cores.

    30 times softmax(x x) x with ``[64, 64]``, where threads wait for each other, then 60 times with ``[8, 8]``, where
    one thread calls small operators: slow spells of a shared machine hit both, and large products hardly.

    Args:
        device: where it sings.
        everyones: gets its readings too, beside those of other canaries.
    """

    def __init__(self, device: Device, everyones: list[dict[str, Any]] | None = None) -> None:
        self.device, self.everyones = device, [] if everyones is None else everyones
        seed = torch.Generator().manual_seed(0)
        self.large, self.small = (torch.randn(n, n, generator=seed) for n in (64, 8))
        self.started = time.perf_counter()
        self.readings: list[dict[str, Any]] = []
        for _ in range(10):
            self.listen()

    @property
    def slowness(self) -> float:
        """The last reading over what is usual in this run."""
        readings = [reading["seconds"] for reading in self.readings]
        return float(readings[-1] / np.percentile(readings, QUIET))

    def wait(self) -> None:
        """Wait until the canary is as fast as usual, at most ``PATIENCE`` seconds."""
        deadline = time.perf_counter() + PATIENCE
        while self.listen() and self.slowness > SLOW and time.perf_counter() < deadline:
            time.sleep(0.02)

    def step(self, large: torch.Tensor, small: torch.Tensor) -> None:
        """One round."""
        with torch.no_grad():
            for x, times in ((large, 30), (small, 60)):
                for _ in range(times):
                    torch.softmax(x @ x, -1) @ x

    def listen(self) -> float:
        """Seconds of a round, the median of a few; noted in ``readings`` with ``at_s``, seconds since the start."""
        at = time.perf_counter() - self.started
        # no tensor stays on the device, where it would weigh on the cases
        song = partial(self.step, self.large.to(self.device.torch_device), self.small.to(self.device.torch_device))
        song()  # untimed: what ran before it left the caches full of its own
        seconds = float(np.median([timed(song, None, device_clock) for _ in range(ROUNDS)]))
        self.readings.append({"at_s": at, "seconds": seconds, "device": self.device.kind})
        self.everyones.append(self.readings[-1])
        return seconds
