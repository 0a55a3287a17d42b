"""FIRE: a small network of the distance, as a share of the position."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from attnlib.model.positional.base import PositionalEncoding, at_least_float32, relative_positions

LEAST = 1e-6  # of |c|, and 1 of the larger of i and |L|: at 0 the formula's terms would be 0 / 0


class Fire(PositionalEncoding):
    """f_h(psi(i - j) / psi(max(i, |L|))) added to the scores, psi(x) = log(1 + |c x|) (arXiv 2310.04418).

    f is Linear(1 -> W), ReLU, Linear(W -> H) without the last bias, which would shift all scores of a head alike and
    never learn; c starts at 0.1 and L at 512, both learned: 2 W + W H + 2 parameters. The network runs on every pair,
    2 T^2 W (1 + H) FLOPs and ``[T, T, W]`` activations a pass, shared by all layers; H T^2 additions a sequence
    in every layer. The paper has causal masks only; without one the distance is |i - j|. Its gradient keeps training
    off the fused kernel where that cannot give one.

    Args:
        width: W, the network's hidden width.
    """

    def __init__(
        self, *, seq_len: int, d_model: int, n_heads: int, head_dim: int, causal: bool, width: int = 32
    ) -> None:
        super().__init__(seq_len=seq_len, d_model=d_model, n_heads=n_heads, head_dim=head_dim, causal=causal)
        self.network = nn.Sequential(nn.Linear(1, width), nn.ReLU(), nn.Linear(width, n_heads, bias=False))
        self.width = width
        self.c = nn.Parameter(torch.tensor(0.1))
        self.threshold = nn.Parameter(torch.tensor(512.0))  # L

    def bias(self, seq_len: int) -> Tensor:
        """The network's answer for every pair: ``[H, T, T]``."""
        wide = (at_least_float32(x) for x in (self.c, self.threshold))
        c, threshold = (torch.where(x < 0, -x, x) for x in wide)  # |x| with a gradient at 0
        c = c + (c.clamp(min=LEAST) - c).detach()  # the clamp is not part of the graph, or c would never move again
        distance = relative_positions(seq_len, c.device).abs()  # [T, T]
        query = torch.arange(seq_len, device=c.device)[:, None]  # [T, 1]
        share = torch.log1p(c * distance) / torch.log1p(c * torch.maximum(query, threshold).clamp(min=1.0))
        first, bias, second = (at_least_float32(parameter) for parameter in self.network.parameters())
        y = F.linear(F.linear(share[..., None], first, bias).relu(), second)  # [T, T, 1] to [T, T, W] to [T, T, H]
        return y.permute(2, 0, 1).contiguous()  # [H, T, T]

    def flops(self, *, seq_len: int, batch_size: int, depth: int) -> int:
        """The network's products, once a pass."""
        return 2 * seq_len**2 * self.width * (1 + self.n_heads)
