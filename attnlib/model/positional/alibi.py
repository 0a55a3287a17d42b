"""ALiBi: a penalty on the scores, linear in the distance."""

import math

import torch
from torch import Tensor

from attnlib.model.positional.base import PositionalEncoding, relative_positions, table_dtype


def alibi_slopes(n_heads: int) -> list[float]:
    """Slopes m_h of the heads, steepest first as in the paper's own code: 2^(-8h/n) for n a power of two.

    Otherwise those of the next lower power of two, then every other one of the next higher.
    """
    power = 2 ** math.floor(math.log2(n_heads))
    slopes = [2.0 ** (-8 * h / power) for h in range(1, power + 1)]
    return slopes + [2.0 ** (-8 * h / (2 * power)) for h in range(1, 2 * (n_heads - power), 2)]


class Alibi(PositionalEncoding):
    """-m_h |i - j| added to the scores, with fixed slopes m_h (arXiv 2108.12409).

    Under a causal mask this is the paper's -m_h (i - j); without one it is symmetric. No parameters; one ``[H, T, T]``
    bias a pass, H T^2 multiplications, and as many additions a sequence in every layer. The fused kernel takes it,
    since it needs no gradient.
    """

    def __init__(self, *, seq_len: int, d_model: int, n_heads: int, head_dim: int, causal: bool) -> None:
        super().__init__(seq_len=seq_len, d_model=d_model, n_heads=n_heads, head_dim=head_dim, causal=causal)
        slopes = torch.tensor(alibi_slopes(n_heads), dtype=table_dtype())
        self.register_buffer("slopes", slopes, persistent=False)  # [H]

    def bias(self, seq_len: int) -> Tensor:
        """-m_h |i - j|: ``[H, T, T]``."""
        slopes = self.get_buffer("slopes")
        return relative_positions(seq_len, slopes.device).abs() * -slopes[:, None, None]  # [T, T] by [H, 1, 1]

    def by_distance(self, seq_len: int) -> Tensor:
        """-m_h |i - j|: ``[H, 2T - 1]``."""
        slopes = self.get_buffer("slopes")
        return torch.arange(1 - seq_len, seq_len, device=slopes.device).abs() * -slopes[:, None]  # [2T - 1] by [H, 1]
