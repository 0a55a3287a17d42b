"""Rotary position embedding: queries and keys are turned, so that scores depend on relative positions only."""

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from attnlib.errors import message
from attnlib.model.positional.base import PositionalEncoding, table_dtype

SHARE = 0.75  # of the pairs that ``partial_frequencies`` turns, the paper's best
FACTOR = 4.0  # by which an input is longer than those that the stack was trained on, for NTK and YaRN
FAST, SLOW = 32.0, 1.0  # turns within the trained length: pairs with more stay as they are, those with fewer slow down

# From the base, the head width K and the longest input T: an angle a position for each pair ``[K/2]``, in float64, and
# a factor on queries and keys.
Frequencies = Callable[[float, int, int], tuple[Tensor, float]]


def usual_frequencies(base: float, head_dim: int, seq_len: int) -> tuple[Tensor, float]:  # noqa: ARG001
    """Return base^(-2i/K) for pair i (arXiv 2104.09864), and 1."""
    return base ** (-torch.arange(0, head_dim, 2, dtype=torch.float64) / head_dim), 1.0


def partial_frequencies(base: float, head_dim: int, seq_len: int) -> tuple[Tensor, float]:
    """Return the usual frequencies, of which the lowest quarter is 0: p-RoPE with p = 0.75 (arXiv 2410.06205)."""
    usual, factor = usual_frequencies(base, head_dim, seq_len)
    turned = math.ceil(SHARE * len(usual))
    return torch.cat([usual[:turned], torch.zeros_like(usual[turned:])]), factor


def ntk_frequencies(base: float, head_dim: int, seq_len: int) -> tuple[Tensor, float]:
    """Return the usual frequencies of the base times s^(K/(K-2)): the lowest is 1/s as fast, the highest as it was.

    "NTK-aware" scaling, arXiv 2309.00071, section 3.1, for inputs s = 4 times as long as in training. Of a single pair,
    which is the highest, nothing changes.
    """
    stretch = FACTOR ** (head_dim / (head_dim - 2)) if head_dim > 2 else 1.0
    return usual_frequencies(base * stretch, head_dim, seq_len)


def yarn_frequencies(base: float, head_dim: int, seq_len: int) -> tuple[Tensor, float]:
    """Return YaRN's frequencies and its factor 0.1 ln(s) + 1 on queries and keys (arXiv 2309.00071, section 3.4).

    The stack was trained on T / s tokens, s = 4. Pairs that turn 32 times or more within them keep their frequency,
    those that turn once or less have 1/s of it, and between the two lies a line over the pairs' numbers.
    """
    usual, _ = usual_frequencies(base, head_dim, seq_len)
    trained = seq_len / FACTOR

    def pair_of(turns: float) -> float:
        """Return the number of the pair, a fraction, that turns so often within the trained length."""
        return head_dim * math.log(trained / (2 * math.pi * turns)) / (2 * math.log(base))

    last = min(math.ceil(pair_of(SLOW)), head_dim - 1)
    first = min(max(math.floor(pair_of(FAST)), 0), last)
    span = last - first if last != first else 0.001  # as the paper's code: a step instead of a line
    slowed = ((torch.arange(len(usual), dtype=torch.float64) - first) / span).clamp(0, 1)
    return usual * (1 - slowed) + usual / FACTOR * slowed, 0.1 * math.log(FACTOR) + 1


class Rotary(PositionalEncoding):
    """Turn pair i of a query or key at position p by the angle p base^(-2i/K) (RoPE, arXiv 2104.09864).

    Half-split pairs (x_i, x_{i+K/2}), as in GPT-NeoX and Llama; interleaved pairs (x_2i, x_{2i+1}), as in the paper
    and GPT-J. The two differ by a permutation of the head's dimensions. No parameters; 3 FLOPs for each number of q and
    k in every layer. The fused kernel runs as without it.

    Args:
        base: of the geometric series of angles.
        interleaved: the second convention instead of the first.
        frequencies: the angle that each pair turns by from one position to the next, and a factor on q and k.

    Raises:
        ValueError: the head width is odd, **or** the input is longer than ``seq_len``.
    """

    def __init__(
        self,
        *,
        base: float = 10000.0,
        interleaved: bool = False,
        frequencies: Frequencies = usual_frequencies,
        **sizes: Any,
    ) -> None:
        super().__init__(**sizes)
        if self.head_dim % 2:
            raise ValueError(message("rotary turns pairs: the head width must be even", self.head_dim))
        self.interleaved = interleaved
        position = torch.arange(self.seq_len, dtype=torch.float64)[:, None]  # [T, 1], float64 as the sinusoidal table's
        frequency, factor = frequencies(base, self.head_dim, self.seq_len)  # [K/2]
        angle = position * frequency  # [T, K/2]
        cos, sin = self.join(angle.cos(), angle.cos()), self.join(-angle.sin(), angle.sin())
        self.register_buffer("cos", (factor * cos).to(table_dtype()), persistent=False)  # [T, K]
        self.register_buffer("sin", (factor * sin).to(table_dtype()), persistent=False)  # [T, K], minus for firsts

    def join(self, first: Tensor, second: Tensor) -> Tensor:
        """Lay the first and second members of all pairs out as a head: two ``[T, K/2]`` to ``[T, K]``."""
        if self.interleaved:
            return torch.stack([first, second], -1).flatten(-2)  # [T, K/2, 2] to [T, K]
        return torch.cat([first, second], -1)

    def partner(self, x: Tensor) -> Tensor:
        """Exchange the members of each pair: ``[B, H, T, K]``."""
        if not self.interleaved:
            return x.roll(self.head_dim // 2, -1)
        exchanged: Tensor = x.unflatten(-1, (-1, 2)).flip(-1).flatten(-2)  # by way of [B, H, T, K/2, 2]
        return exchanged

    def turn(self, x: Tensor) -> Tensor:
        """Turn every pair by its position's angle: ``[B, H, T, K]``."""
        seq_len = x.shape[-2]
        y = x * self.get_buffer("cos")[:seq_len] + self.partner(x) * self.get_buffer("sin")[:seq_len]
        return y.to(x.dtype)

    def rotate(self, q: Tensor, k: Tensor) -> tuple[Tensor, Tensor]:
        """Turn queries and keys: two ``[B, H, T, K]``."""
        self.check_length(q.shape[-2])
        return self.turn(q), self.turn(k)
