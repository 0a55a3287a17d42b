"""KERPLE: a learned logarithmic penalty on the scores."""

import torch
from torch import Tensor, nn

from attnlib.model.positional.base import PositionalEncoding, at_least_float32

LEAST = 0.01  # both parameters stay positive, so that the kernel stays conditionally positive definite


class Kerple(PositionalEncoding):
    """-r1_h log(1 + r2_h |i - j|) added to the scaled scores, the logarithmic variant (arXiv 2205.09921).

    2 H parameters, r1 ~ U(0, 2) and r2 ~ U(0, 1), both used as 0.01 where they are less, with the gradient of what they
    are used as; H (2T - 1) logarithms and an ``[H, T, T]`` copy a pass, H T^2 additions a sequence in every layer. The
    paper divides the whole score by sqrt(K), this term too. Its gradient keeps training off the fused kernel where
    that cannot give one.
    """

    def __init__(self, *, seq_len: int, d_model: int, n_heads: int, head_dim: int, causal: bool) -> None:
        super().__init__(seq_len=seq_len, d_model=d_model, n_heads=n_heads, head_dim=head_dim, causal=causal)
        self.r1 = nn.Parameter(2 * torch.rand(n_heads))
        self.r2 = nn.Parameter(torch.rand(n_heads))

    def by_distance(self, seq_len: int) -> Tensor:
        """-r1_h log(1 + r2_h |i - j|): ``[H, 2T - 1]``."""
        # the clamp is not part of the graph, or a parameter below it would never move again
        wide = (at_least_float32(r)[:, None] for r in (self.r1, self.r2))  # [H, 1] each
        r1, r2 = (r + (r.clamp(min=LEAST) - r).detach() for r in wide)
        distance = torch.arange(1 - seq_len, seq_len, device=r1.device).abs()  # [2T - 1]
        return -r1 * torch.log1p(r2 * distance)
