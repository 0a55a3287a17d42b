"""Before any step is run: what a case should cost, and how long and how deep its stack may be within some memory."""

from dataclasses import asdict, replace
from typing import Any

import torch

from attnlib.measure.ceilings import Ceilings
from attnlib.measure.device import open_device
from attnlib.theory import cost
from attnlib.theory.kernels import CALIBRATED, MATH, attention_kernel, is_calibrated
from bench.cases import PAIRED, Case
from bench.predict import SLOWER, need, outlook

LONGEST, DEEPEST = 2**24, 2**20  # where the search ends


def kernel_of(case: Case) -> str:
    """The attention kernel that a case should run."""
    if case.attention != "sdpa":
        return MATH
    encoding = cost.encoding(case)
    learned = encoding.learns_bias and case.phase != "forward"
    biased = encoding.overrides("bias", "query_bias")
    return attention_kernel(case.device, getattr(torch, case.dtype), biased=biased, learned=learned)


def forecast(case: Case) -> dict[str, Any]:
    """What one step of a case should cost on this machine.

    Returns:
        ``case``; ``kernel`` of attention; ``params``; ``flops``, by kind (``algorithmic``, ``executed``) and component,
        forward and backward; what ``bench.predict.outlook`` has; ``seconds``, from and to, null for a device that is not
        here; ``torch``, ``threads`` and ``calibrated``, the torch that peaks were held against, null if it is this one.
    """
    kernel = kernel_of(case)
    try:
        rates = Ceilings(open_device(case.device), getattr(torch, case.dtype)).listen()
    except ValueError:  # what would it need there?
        rates = None
    found = outlook(case, rates)
    floor = found.get("floor_s")
    flops = {
        "algorithmic": cost.algorithmic_flops(case, case.batch_size),
        "executed": cost.executed_flops(case, case.batch_size, kernel),
    }
    return found | {
        "case": asdict(case),
        "kernel": kernel,
        "params": cost.parameters(case),
        "flops": flops if case.phase in PAIRED else None,
        "seconds": [share * sum(floor.values()) for share in SLOWER] if floor else None,
        "torch": torch.__version__,
        "threads": torch.get_num_threads(),
        "calibrated": None if is_calibrated() else CALIBRATED,
    }


def frontier(
    case: Case, memory: int, depths: list[int], seq_lens: list[int], tokens: int | None = None
) -> dict[str, Any]:
    """How far a stack goes within ``memory`` bytes of predicted peak.

    Args:
        case: its other fields.
        memory: bytes.
        depths: for each, the largest T is searched.
        seq_lens: for each, the largest L.
        tokens: a step; the batch is then max(1, tokens // T).

    Returns:
        ``longest`` and ``deepest``, a point each in order: ``depth``, ``seq_len``, ``batch_size``, ``peak`` there and
        ``beyond``, the peak one token or layer further; the size sought is 0 where not even 1 fits.
    """

    def at(depth: int, seq_len: int) -> Case:
        own = replace(case, depth=depth, seq_len=seq_len)
        return own if tokens is None else replace(own, batch_size=max(1, tokens // seq_len))

    def peak(depth: int, seq_len: int) -> int:
        return need(at(depth, seq_len)).peak if depth and seq_len else 0

    def point(depth: int, seq_len: int, beyond: int) -> dict[str, int]:
        batch = at(depth, max(1, seq_len)).batch_size
        return {"depth": depth, "seq_len": seq_len, "batch_size": batch, "peak": peak(depth, seq_len), "beyond": beyond}

    longest, deepest = [], []
    for depth in depths:
        T = largest(lambda T, depth=depth: peak(depth, T), memory, LONGEST)
        longest.append(point(depth, T, peak(depth, T + 1)))
    for T in seq_lens:
        L = largest(lambda L, T=T: peak(L, T), memory, DEEPEST)
        deepest.append(point(L, T, peak(L + 1, T)))
    return {"longest": longest, "deepest": deepest}


def largest(peak: Any, memory: int, most: int) -> int:
    """The largest size up to ``most`` whose peak is within ``memory``: doubled, then found between by straight lines.

    Args:
        peak: from a size to bytes; it grows with the size.
        memory: bytes.
        most: sizes beyond are not tried.
    """
    low, high, below = 0, 1, 0
    while (above := peak(high)) <= memory:
        low, below = high, above
        if high >= most:
            return high
        high *= 2
    halve = False
    while high - low > 1:
        guess = (low + high) // 2 if halve else low + int((high - low) * (memory - below) / (above - below))
        guess, halve = min(max(guess, low + 1), high - 1), not halve
        found = peak(guess)
        if found <= memory:
            low, below = guess, found
        else:
            high, above = guess, found
    return low
