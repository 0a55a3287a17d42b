"""The machine's ceilings: the best rates of products, copies and small operators, and a step's time at those rates."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

import numpy as np
import torch

from attnlib.measure.clock import device_clock
from attnlib.measure.device import Device
from attnlib.measure.noise import Disturbance, disturbed
from attnlib.measure.rounds import timed

ENOUGH = 0.02  # seconds of a product that is large enough to reach the ceiling
COPIES, LARGE = (2**12, 2**16, 2**20, 2**24, 2**26), 2**28  # bytes of a buffer; the last one on cards only
CHAIN = 16  # links of the chain that is timed for small operators; each is three: the sine, its cosine, their product
ROUNDS = 3
MOST_REPEATS = 200
ROUND = 1e-3  # seconds of a round of copies: launching one, and waiting for it, may take longer than the copy
TRIES = 3  # readings of the ceilings, as long as something else uses the machine


@dataclass(frozen=True)
class Rates:
    """The rates that a machine reached.

    Args:
        flops_per_s: FLOP/s of the fastest matrix product.
        copies: pairs of bytes (read and written) and seconds, one a size of copy.
        operator_s: seconds of one small operator, including its part in the backward pass.
        overlap: True if operators are called while the device works on earlier ones.
    """

    flops_per_s: float
    copies: tuple[tuple[int, float], ...]
    operator_s: float
    overlap: bool = False

    @property
    def bytes_per_s(self) -> float:
        """Bytes per second of the fastest copy of any size; small copies stay in a cache."""
        return max(moved / seconds for moved, seconds in self.copies)

    def copy_s(self, moved: int) -> float:
        """Return the seconds that copying ``moved`` bytes (read and written) takes beyond the smallest copy's."""
        sizes, seconds = zip(*self.copies, strict=True)
        if moved > sizes[-1]:
            return float(seconds[-1] * moved / sizes[-1] - seconds[0])
        found = np.interp(math.log(max(moved, 1)), np.log(sizes), np.log(seconds))
        return float(max(0.0, math.exp(found) - seconds[0]))

    def floor(self, operators: Mapping[tuple[int, int], int]) -> dict[str, Any]:
        """Return the least seconds of operators that run one after another: ``products``, ``memory``, ``operators``.

        A step takes at least their sum; with ``overlap`` the larger of ``products + memory``, the device's part, and
        ``operators``, the host's.

        Args:
            operators: number of operators by their (FLOPs, bytes moved).
        """
        return {
            "products": sum(times * flops for (flops, _), times in operators.items()) / self.flops_per_s,
            "memory": sum(times * self.copy_s(moved) for (_, moved), times in operators.items()),
            "operators": self.operator_s * sum(operators.values()),
            "overlap": self.overlap,
        }


def typical(found: Sequence[Rates]) -> Rates:
    """Return the median of several readings, each rate by itself."""
    copies = np.median([rates.copies for rates in found], axis=0)
    return Rates(
        float(np.median([rates.flops_per_s for rates in found])),
        tuple((int(moved), float(seconds)) for moved, seconds in copies),
        float(np.median([rates.operator_s for rates in found])),
        found[0].overlap,
    )


def best(found: Sequence[Rates]) -> Rates:
    """Return the highest of several readings, each rate by itself."""
    seconds: dict[int, float] = {}
    for moved, taken in (copy for rates in found for copy in rates.copies):
        seconds[moved] = min(taken, seconds.get(moved, math.inf))
    return Rates(
        max(rates.flops_per_s for rates in found),
        tuple(sorted(seconds.items())),
        min(rates.operator_s for rates in found),
        found[0].overlap,
    )


class Listened(NamedTuple):
    """A reading of a device's ceilings, with the reasons why it is disturbed; none if it is not."""

    rates: Rates
    disturbed: list[str]


def usable(found: Sequence[Listened]) -> Rates:
    """Return the median of the undisturbed readings; the best of all if none is undisturbed."""
    quiet = [rates for rates, disturbed in found if not disturbed]
    return typical(quiet) if quiet else best([rates for rates, _ in found])


def listen_undisturbed(ceilings: "Ceilings", device: Device) -> Listened:
    """Read ceilings until nothing else used the machine meanwhile, at most ``TRIES`` times.

    Returns:
        the undisturbed reading; or the best rates of all tries, with the reasons of the last one.
    """
    found = []
    for _ in range(TRIES):
        disturbance = Disturbance(device)
        found.append(ceilings.listen())
        reasons = disturbed(disturbance.read())
        if not reasons:
            return Listened(found[-1], [])
    return Listened(best(found), reasons)


class Ceilings:
    """Measures a device's ceilings, with products in one dtype; a reading takes about 0.1 s on 2 cores."""

    def __init__(self, device: Device, dtype: torch.dtype) -> None:
        self.device = device
        self.like: dict[str, Any] = {"device": device.torch_device, "dtype": dtype}
        self.size = 256
        best = 0.0
        for size in (2**k for k in range(8, 15)):
            seconds = timed(self.product(size), None, device_clock, untimed=1)
            if size**3 / seconds > best:
                best, self.size = size**3 / seconds, size
            if seconds > ENOUGH:
                break

    def product(self, size: int) -> partial[Any]:
        """Return a callable that multiplies two random matrices of ``[size, size]``."""
        a, b = (torch.randn(size, size, **self.like) for _ in range(2))
        return partial(torch.mm, a, b, out=torch.empty_like(a))

    def chain(self) -> None:
        """Run a chain of small operators, forward and backward."""
        y = torch.ones(1, device=self.like["device"], requires_grad=True)
        for _ in range(CHAIN):
            y = y.sin()
        y.backward()

    def listen(self) -> Rates:
        """Measure every rate once, each from the median of ``ROUNDS`` rounds."""
        copies = []
        # the cache of a card holds as much as those of a CPU, and its memory is faster
        for size in (*COPIES, LARGE) if self.device.queues else COPIES:
            source, target = (torch.ones(size, dtype=torch.uint8, device=self.like["device"]) for _ in range(2))
            copies.append((2 * size, seconds_in_rounds(partial(target.copy_, source))))  # read and written
        product = seconds_of(self.product(self.size), 1)
        operator_s = seconds_of(self.chain, 4) / (3 * CHAIN)
        return Rates(2 * self.size**3 / product, tuple(copies), operator_s, self.device.queues)


def seconds_of(step: Any, repeats: int) -> float:
    """Return the seconds of a step: the median of ``ROUNDS`` rounds of ``repeats`` steps, each after an untimed one."""
    return float(np.median([timed(step, None, device_clock, repeats, untimed=1) for _ in range(ROUNDS)]))


def seconds_in_rounds(step: Any) -> float:
    """Return the seconds of a step that is repeated, back to back, until a round takes ``ROUND`` seconds."""
    repeats = 1
    while True:
        seconds = seconds_of(step, repeats)
        if repeats * seconds >= ROUND or repeats >= MOST_REPEATS:
            return seconds
        repeats = min(MOST_REPEATS, max(2 * repeats, math.ceil(ROUND / seconds)))
