"""T5's relative position bias: learned numbers for buckets of distances."""

import math

import torch
from torch import Tensor, nn

from attnlib.model.positional.base import PositionalEncoding, at_least_float32


def t5_bucket(relative: Tensor, *, n_buckets: int, max_distance: int, causal: bool) -> Tensor:
    """Bucket of each relative position j - i: int64 in [0, ``n_buckets``), any shape.

    With n buckets for one direction, distances below n/2 have one each; the others share the rest in logarithmic steps
    up to ``max_distance``, and all beyond it the last. Both directions have n = ``n_buckets`` / 2, later keys in the
    upper half; under a causal mask n = ``n_buckets`` and later keys count as distance 0.
    """
    if causal:
        n, offset, distance = n_buckets, torch.zeros_like(relative), (-relative).clamp(min=0)
    else:
        n, offset, distance = n_buckets // 2, (relative > 0) * (n_buckets // 2), relative.abs()
    exact = n // 2
    steps = (distance.clamp(min=1).float() / exact).log() / math.log(max_distance / exact) * (n - exact)
    far = (exact + steps.long()).clamp(max=n - 1)
    return offset + torch.where(distance < exact, distance, far)


class T5(PositionalEncoding):
    """b_h[bucket(j - i)] added to the scores, with a learned table of buckets x heads (arXiv 1910.10683, section 2.1).

    ``n_buckets`` x H parameters, N(0, 1/D) as in T5's code; a lookup of H (2T - 1) numbers and an ``[H, T, T]`` copy a
    pass, H T^2 additions a sequence in every layer. T5 leaves out the scores' 1/sqrt(K); this stack keeps it. Where the
    fused kernel cannot give a bias its gradient, training runs the written-out one.

    Args:
        n_buckets: rows of the table.
        max_distance: from here on all distances share a bucket.
    """

    def __init__(
        self,
        *,
        seq_len: int,
        d_model: int,
        n_heads: int,
        head_dim: int,
        causal: bool,
        n_buckets: int = 32,
        max_distance: int = 128,
    ) -> None:
        super().__init__(seq_len=seq_len, d_model=d_model, n_heads=n_heads, head_dim=head_dim, causal=causal)
        self.n_buckets, self.max_distance = n_buckets, max_distance
        self.table = nn.Embedding(n_buckets, n_heads)
        nn.init.normal_(self.table.weight, std=d_model**-0.5)

    def by_distance(self, seq_len: int) -> Tensor:
        """The table's entry for every distance: ``[H, 2T - 1]``."""
        weight = self.table.weight
        relative = torch.arange(1 - seq_len, seq_len, device=weight.device)  # [2T - 1]
        bucket = t5_bucket(relative, n_buckets=self.n_buckets, max_distance=self.max_distance, causal=self.causal)
        return at_least_float32(weight)[bucket].T  # from [2T - 1, H]
