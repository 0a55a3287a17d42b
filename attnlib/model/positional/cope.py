"""Contextual position encoding: positions count the keys that a query's own gates let through."""

import torch
from torch import Tensor, nn

from attnlib.model.positional.base import PositionalEncoding, at_least_float32


class Cope(PositionalEncoding):
    """q_i . e[p_ij] / sqrt(K) added to the scores, with p_ij = sum over keys k >= j of sigmoid(q_i . k_k / sqrt(K)).

    CoPE (arXiv 2405.18719): with a causal mask the sum runs over the keys j to i, so that p_ij says how many of them
    count; without one it runs to the last key, which the paper does not consider. Between whole positions the vectors e
    are interpolated; beyond the last one p_ij counts as the last. P K parameters, drawn N(0, 1/K), shared by heads and
    layers (the paper starts from 0); 2 T K (T + P) FLOPs for every head in every layer. The bias depends on queries
    and keys and needs a gradient: training leaves the fused kernel where that cannot give one.

    Args:
        max_position: P, the number of vectors; at most T are made.
    """

    def __init__(
        self, *, seq_len: int, d_model: int, n_heads: int, head_dim: int, causal: bool, max_position: int = 64
    ) -> None:
        super().__init__(seq_len=seq_len, d_model=d_model, n_heads=n_heads, head_dim=head_dim, causal=causal)
        self.table = nn.Parameter(torch.randn(min(max_position, seq_len), head_dim) * head_dim**-0.5)

    def pair_bias(self, q: Tensor, k: Tensor) -> Tensor:
        """Return q_i . e[p_ij] / sqrt(K), interpolated: ``[B, H, T, T]``."""
        wide = at_least_float32(q) * self.head_dim**-0.5
        gates = (wide @ at_least_float32(k).mT).sigmoid()  # [B, H, T, T]
        if self.causal:
            gates = gates.tril()
        # sums from the last key down to key j: [B, H, T, T]
        position = gates.flip(-1).cumsum(-1).flip(-1).clamp(max=len(self.table) - 1)
        below = position.detach().floor()  # only the weights of the interpolation carry a gradient to the gates
        scores = wide @ at_least_float32(self.table).T  # [B, H, T, P]
        lower, upper = (scores.gather(-1, index.long()) for index in (below, position.detach().ceil()))
        return torch.lerp(lower, upper, position - below).to(q.dtype)

    def flops(self, *, seq_len: int, batch_size: int, depth: int) -> int:
        """The products q . k and q . e in every layer."""
        return 2 * batch_size * depth * self.n_heads * seq_len * self.head_dim * (seq_len + len(self.table))
