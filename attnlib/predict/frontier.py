"""How long and how deep a stack may be within some memory, by its predicted peak."""

from dataclasses import replace
from typing import Any

from attnlib.cases.case import Case
from attnlib.predict.peak import need

LONGEST, DEEPEST = 2**24, 2**20  # where the search ends


def frontier(
    case: Case, memory: int, depths: list[int], seq_lens: list[int], tokens: int | None = None
) -> dict[str, Any]:
    """Search the longest sequences and deepest stacks within ``memory`` bytes of predicted peak.

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
        """Return the predicted peak in bytes; 0 of a stack without layers or tokens."""
        return need(resized(case, depth, seq_len, tokens)).peak if depth and seq_len else 0

    def point(depth: int, seq_len: int, beyond: int) -> dict[str, int]:
        """Return a point of the frontier."""
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
    """Return the case at another size; with ``tokens`` a step the batch is max(1, tokens // T)."""
    own = replace(case, depth=depth, seq_len=seq_len)
    return own if tokens is None else replace(own, batch_size=max(1, tokens // seq_len))


def largest(peak: Any, memory: int, most: int) -> int:
    """Return the largest size up to ``most`` whose peak is within ``memory``, by doubling and then interpolating.

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
