"""Rotary position embedding: queries and keys are turned, so that scores depend on relative positions only."""

import torch
from torch import Tensor

from attnlib.model.positional.base import PositionalEncoding, table_dtype


class Rotary(PositionalEncoding):
    """Turn pair i of a query or key at position p by the angle p base^(-2i/K) (RoPE, arXiv 2104.09864).

    Half-split pairs (x_i, x_{i+K/2}), as in GPT-NeoX and Llama; interleaved pairs (x_2i, x_{2i+1}), as in the paper
    and GPT-J. The two differ by a permutation of the head's dimensions. No parameters; 3 FLOPs for each number of q and
    k in every layer. The fused kernel runs as without it.

    Args:
        base: of the geometric series of angles.
        interleaved: the second convention instead of the first.

    Raises:
        ValueError: the head width is odd, **or** the input is longer than ``seq_len``.
    """

    def __init__(
        self,
        *,
        seq_len: int,
        d_model: int,
        n_heads: int,
        head_dim: int,
        causal: bool,
        base: float = 10000.0,
        interleaved: bool = False,
    ) -> None:
        super().__init__(seq_len=seq_len, d_model=d_model, n_heads=n_heads, head_dim=head_dim, causal=causal)
        if head_dim % 2:
            raise ValueError(f"rotary turns pairs: the head width must be even, not {head_dim}")
        self.interleaved = interleaved
        position = torch.arange(seq_len, dtype=torch.float64)[:, None]  # float64: as for the sinusoidal table
        angle = position * base ** (-torch.arange(0, head_dim, 2, dtype=torch.float64) / head_dim)  # [T, K/2]
        cos, sin = self.join(angle.cos(), angle.cos()), self.join(-angle.sin(), angle.sin())
        self.register_buffer("cos", cos.to(table_dtype()), persistent=False)  # [T, K]
        self.register_buffer("sin", sin.to(table_dtype()), persistent=False)  # [T, K], minus for firsts

    def join(self, first: Tensor, second: Tensor) -> Tensor:
        """Lay the first and second members of all pairs out as a head: two ``[T, K/2]`` to ``[T, K]``."""
        return torch.stack([first, second], -1).flatten(-2) if self.interleaved else torch.cat([first, second], -1)

    def partner(self, x: Tensor) -> Tensor:
        """Exchange the members of each pair: ``[B, H, T, K]``."""
        return x.unflatten(-1, (-1, 2)).flip(-1).flatten(-2) if self.interleaved else x.roll(self.head_dim // 2, -1)

    def turn(self, x: Tensor) -> Tensor:
        """Turn every pair by its position's angle: ``[B, H, T, K]``."""
        seq_len = x.shape[-2]
        y = x * self.get_buffer("cos")[:seq_len] + self.partner(x) * self.get_buffer("sin")[:seq_len]
        return y.to(x.dtype)

    def rotate(self, q: Tensor, k: Tensor) -> tuple[Tensor, Tensor]:
        """Turn queries and keys: two ``[B, H, T, K]``."""
        self.check_length(q.shape[-2])
        return self.turn(q), self.turn(k)
