"""The machine's ceilings: what products, copies and small operators reach at best, and what a step would take there."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import torch

from attnlib.measure.clock import device_clock
from attnlib.measure.device import Device
from attnlib.measure.rounds import timed

ENOUGH = 0.02  # seconds of a product that is large enough to reach the ceiling
COPIES = (2**12, 2**16, 2**20, 2**24, 2**26)  # bytes of a buffer
CHAIN = 16  # links of the chain that is timed for small operators; each is three: the sine, its cosine, their product
ROUNDS = 3


@dataclass(frozen=True)
class Rates:
    """What the machine reached.

    Args:
        flops_per_s: of the fastest matrix product.
        copies: bytes read and written by a copy, and its seconds, by size.
        operator_s: seconds of one small operator with its part in the backward pass.
    """

    flops_per_s: float
    copies: tuple[tuple[int, float], ...]
    operator_s: float

    @property
    def bytes_per_s(self) -> float:
        """Of the fastest copy, whatever its size: small ones stay in a cache."""
        return max(moved / seconds for moved, seconds in self.copies)

    def copy_s(self, moved: int) -> float:
        """Seconds of a copy that reads and writes so many bytes, beyond those of the smallest."""
        sizes, seconds = zip(*self.copies, strict=True)
        if moved > sizes[-1]:
            return float(seconds[-1] * moved / sizes[-1] - seconds[0])
        found = np.interp(math.log(max(moved, 1)), np.log(sizes), np.log(seconds))
        return float(max(0.0, math.exp(found) - seconds[0]))

    def floor(self, operators: Mapping[tuple[int, int], int]) -> dict[str, float]:
        """Seconds that operators would take at these rates, one after another: ``products``, ``memory``, ``operators``.

        Args:
            operators: how many have so many FLOPs and move so many bytes.
        """
        return {
            "products": sum(times * flops for (flops, _), times in operators.items()) / self.flops_per_s,
            "memory": sum(times * self.copy_s(moved) for (_, moved), times in operators.items()),
            "operators": self.operator_s * sum(operators.values()),
        }


def typical(found: Sequence[Rates]) -> Rates:
    """The median of several readings, each rate by itself."""
    copies = np.median([rates.copies for rates in found], axis=0)
    return Rates(
        float(np.median([rates.flops_per_s for rates in found])),
        tuple((int(moved), float(seconds)) for moved, seconds in copies),
        float(np.median([rates.operator_s for rates in found])),
    )


class Ceilings:
    """Reads a device's ceilings in one dtype, whenever it is asked: about a tenth of a second on 2 cores.

    Args:
        device: where.
        dtype: of the products; copies are of bytes.
    """

    def __init__(self, device: Device, dtype: torch.dtype) -> None:
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
        """A matrix product of ``[size, size]``."""
        a, b = (torch.randn(size, size, **self.like) for _ in range(2))
        return partial(torch.mm, a, b, out=torch.empty_like(a))

    def chain(self) -> None:
        """A chain of small operators, forward and back."""
        y = torch.ones(1, device=self.like["device"], requires_grad=True)
        for _ in range(CHAIN):
            y = y.sin()
        y.backward()

    def listen(self) -> Rates:
        """Read every ceiling once: a median of ``ROUNDS``."""
        copies = []
        for size in COPIES:
            source, target = (torch.ones(size, dtype=torch.uint8, device=self.like["device"]) for _ in range(2))
            repeats = max(1, min(200, 2**22 // size))
            copies.append((2 * size, seconds_of(partial(target.copy_, source), repeats)))
        product = seconds_of(self.product(self.size), 1)
        return Rates(2 * self.size**3 / product, tuple(copies), seconds_of(self.chain, 4) / (3 * CHAIN))


def seconds_of(step: Any, repeats: int) -> float:
    """Seconds of a step, the median of a few rounds of so many after an untimed one."""
    return float(np.median([timed(step, None, device_clock, repeats, untimed=1) for _ in range(ROUNDS)]))
