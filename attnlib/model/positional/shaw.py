"""Shaw's relative position representations: a learned key for every clipped distance."""

import torch
from torch import Tensor, nn

from attnlib.model.positional.base import PositionalEncoding, at_least_float32, relative_positions


class Shaw(PositionalEncoding):
    """q_i . a[clip(j - i, -k, k)] / sqrt(K) added to the scores (arXiv 1803.02155, equation 4).

    The paper's keys a^K, here shared by heads and layers; its values a^V, which it found not to matter, are left out.
    (2k + 1) K parameters, N(0, 1/K); 2 T K (2k + 1) FLOPs for every head in every layer, and a ``[B, H, T, T]`` bias
    that depends on the queries and so needs a gradient: training leaves the fused kernel where that cannot give one.

    Args:
        max_distance: k, beyond which distances count as k.
    """

    def __init__(
        self, *, seq_len: int, d_model: int, n_heads: int, head_dim: int, causal: bool, max_distance: int = 16
    ) -> None:
        super().__init__(seq_len=seq_len, d_model=d_model, n_heads=n_heads, head_dim=head_dim, causal=causal)
        self.max_distance = max_distance
        self.table = nn.Parameter(torch.randn(2 * max_distance + 1, head_dim) * head_dim**-0.5)

    def query_bias(self, q: Tensor) -> Tensor:
        """q_i . a[clip(j - i)] / sqrt(K): ``[B, H, T, T]``."""
        k, seq_len = self.max_distance, q.shape[-2]
        scores: Tensor = (at_least_float32(q) * self.head_dim**-0.5) @ at_least_float32(self.table).T  # [B, H, T, 2k+1]
        index = relative_positions(seq_len, q.device).clamp(-k, k) + k  # [T, T], rows of the table
        # products with the 2k + 1 keys first, of which each pair then takes one: [B, H, T, 2k+1] to [B, H, T, T]
        return scores.gather(-1, index.expand(*q.shape[:2], -1, -1)).to(q.dtype)

    def flops(self, *, seq_len: int, batch_size: int, depth: int) -> int:
        """The products q . a in every layer."""
        return 2 * batch_size * depth * self.n_heads * seq_len * self.head_dim * (2 * self.max_distance + 1)
