"""Before any step is run: what a case should cost, and how long and how deep its stack may be within some memory."""

from dataclasses import asdict, replace
from typing import Any

import torch

from attnlib.cases.case import PAIRED, Case
from attnlib.cases.workload import build
from attnlib.measure import clock
from attnlib.measure.ceilings import Ceilings
from attnlib.measure.device import open_device
from attnlib.measure.memory import available_bytes
from attnlib.predict.flops import algorithmic_flops, executed_flops, parameters
from attnlib.predict.kernels import CALIBRATED, is_calibrated
from attnlib.predict.peak import MARGIN, SLOWER, kernel_of, need, outlook

LONGEST, DEEPEST = 2**24, 2**20  # where the search ends


def forecast(case: Case) -> dict[str, Any]:
    """What one step of a case should cost on this machine.

    Returns:
        ``case``; ``kernel`` of attention; ``params``; ``flops`` by kind (``algorithmic``, ``executed``) and component,
        both ways; what ``peak.outlook`` has; ``seconds``, from and to, null for a device that is not here;
        ``torch``, ``threads`` and ``calibrated``, the torch that peaks were held against, null if it is this one.
    """
    kernel = kernel_of(case)
    try:
        device = open_device(case.device)
        clock.bind(device)
        rates = Ceilings(device, getattr(torch, case.dtype)).listen()
    except ValueError:  # what would it need there?
        rates = None
    found = outlook(case, rates)
    flops = {
        "algorithmic": algorithmic_flops(case, case.batch_size),
        "executed": executed_flops(case, case.batch_size, kernel),
    }
    return found | {
        "case": asdict(case),
        "kernel": kernel,
        "params": parameters(case),
        "flops": flops if case.phase in PAIRED else None,
        "seconds": seconds_of(found),
        "torch": torch.__version__,
        "threads": torch.get_num_threads(),
        "calibrated": None if is_calibrated() else CALIBRATED,
    }


def seconds_of(found: dict[str, Any]) -> list[float] | None:
    """From and to which time a step should take, of what ``outlook`` found; None without a floor."""
    floor = found.get("floor_s")
    return [times * sum(floor.values()) for times in SLOWER] if floor else None


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
    if case.compile:
        raise ValueError("what a compiler fuses is not predicted: leave compile out")

    def peak(depth: int, seq_len: int) -> int:
        """Bytes predicted; 0 of nothing."""
        return need(resized(case, depth, seq_len, tokens)).peak if depth and seq_len else 0

    def point(depth: int, seq_len: int, beyond: int) -> dict[str, int]:
        """What is said of a point."""
        batch = resized(case, depth, max(1, seq_len), tokens).batch_size
        return {"depth": depth, "seq_len": seq_len, "batch_size": batch, "peak": peak(depth, seq_len), "beyond": beyond}

    longest, deepest = [], []
    for depth in depths:
        T = largest(lambda T, depth=depth: peak(depth, T), memory, LONGEST)
        longest.append(point(depth, T, peak(depth, T + 1)))
    for T in seq_lens:
        L = largest(lambda L, T=T: peak(L, T), memory, DEEPEST)
        deepest.append(point(L, T, peak(L + 1, T)))
    return {"longest": longest, "deepest": deepest}


def resized(case: Case, depth: int, seq_len: int, tokens: int | None) -> Case:
    """The case at another size; with ``tokens`` a step the batch is max(1, tokens // T)."""
    own = replace(case, depth=depth, seq_len=seq_len)
    return own if tokens is None else replace(own, batch_size=max(1, tokens // seq_len))


def verify(case: Case, memory: int, points: list[dict[str, Any]], tokens: int | None = None) -> dict[str, Any]:
    """Run a step just inside the frontier, and weigh one just outside, which the suite refuses to measure.

    Args:
        case: its other fields.
        memory: bytes, the limit.
        points: ``longest`` of ``frontier``, each with its ``pe``; those where nothing fits are left out.
        tokens: as for ``frontier``.

    Returns:
        ``points``: two of each, with ``predicted`` and ``measured`` bytes, ``what`` in words, and whether the
        measured peak lies on the predicted side of the limit, ``as_predicted``; null is measured where a
        step is more than this machine has.
    """
    found = []
    for point in (point for point in points if point["seq_len"]):
        for seq_len, inside in ((point["seq_len"], True), (point["seq_len"] + 1, False)):
            own = resized(replace(case, pe=point["pe"]), point["depth"], seq_len, tokens)
            predicted = need(own).peak
            measured, why_not = weighed(own)
            right = measured is None or (measured <= memory) == inside
            then = f"not weighed: {why_not}" if measured is None else "ran" if inside else "it would need more"
            what = f"{'allowed' if predicted <= memory else 'refused'}, {then if right else 'wrongly'}"
            place = {"pe": own.pe, "depth": own.depth, "seq_len": seq_len}
            found.append(place | {"predicted": predicted, "measured": measured, "what": what, "as_predicted": right})
    return {"points": found}


def weighed(case: Case) -> tuple[int | None, str | None]:
    """The exact peak of a step that is run here, or None and why it is not."""
    device = open_device(case.device)
    free = available_bytes(device)
    if free is not None and MARGIN * need(case).peak > free:
        return None, "more than this machine has"
    clock.bind(device)
    work = build(case)
    work.check()
    peak = work.weigh(device)["allocated_peak"]
    return peak["value"], peak["reason"]


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
