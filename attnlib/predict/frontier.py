"""The frontier: the longest sequences and the deepest stacks whose predicted peak fits into some memory."""

from dataclasses import replace
from typing import Any

from attnlib.cases.case import Case
from attnlib.errors import message
from attnlib.predict.peak import need

LONGEST, DEEPEST = 2**24, 2**20  # largest sizes that are tried


def frontier(
    case: Case, memory: int, depths: list[int], seq_lens: list[int], tokens: int | None = None
) -> dict[str, Any]:
    """Return the longest sequences and the deepest stacks whose predicted peak is at most ``memory`` bytes.

    Args:
        case: all fields but depth and sequence length.
        memory: bytes.
        depths: for each, the largest T is searched.
        seq_lens: for each, the largest L is searched.
        tokens: per step, instead of the batch size, which is then max(1, tokens // T).

    Returns:
        ``longest`` and ``deepest``, lists of points with ``depth``, ``seq_len``, ``batch_size``, ``peak`` in bytes, and
        ``beyond``, the peak with one token or layer more. The size searched is 0 if not even 1 fits.

    Raises:
        ValueError: the case is compiled, so that its peak is not predicted.
    """
    if case.compile:
        raise ValueError(message("the memory of a compiled step cannot be predicted", do="leave compile out"))

    def peak(depth: int, seq_len: int) -> int:
        """Return the predicted peak in bytes, 0 without layers or tokens."""
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
    """Return the case with another depth and length, and with ``tokens`` a batch size of max(1, tokens // T)."""
    batch_size = case.batch_size if tokens is None else max(1, tokens // seq_len)
    return replace(case, depth=depth, seq_len=seq_len, batch_size=batch_size)


def largest(peak: Any, memory: int, most: int) -> int:
    """Return the largest size whose ``peak(size)`` is at most ``memory`` bytes, 0 if no size fits.

    ``peak`` must not fall with the size. The first power of two from ``most`` on is returned if it fits.
    """
    low, high, below = 0, 1, 0  # ``low`` fits with ``below`` bytes
    while (above := peak(high)) <= memory:
        low, below = high, above
        if high >= most:
            return high
        high *= 2
    halve = False
    while high - low > 1:  # ``high`` does not fit, with ``above`` bytes
        # interpolate, and halve every other time, as peaks may be far from linear
        guess = (low + high) // 2 if halve else low + int((high - low) * (memory - below) / (above - below))
        guess, halve = min(max(guess, low + 1), high - 1), not halve
        size = peak(guess)
        if size <= memory:
            low, below = guess, size
        else:
            high, above = guess, size
    return low
