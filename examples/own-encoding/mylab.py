"""An encoding of ours: rotary on the first half of each head only. It knows nothing of attnlib."""

import torch
from torch import nn


class HalfRotary(nn.Module):
    """Turn the first half of each head by the position, and leave the second half as it is (arXiv 2410.06205)."""

    def __init__(self, seq_len, d_model, n_heads, head_dim, causal):
        super().__init__()
        self.turned = head_dim // 2
        pairs = torch.arange(0, self.turned, 2) / self.turned
        angle = torch.arange(seq_len)[:, None] * 10000.0**-pairs  # [T, K/4]
        self.register_buffer("cos", torch.cat([angle.cos(), angle.cos()], -1), persistent=False)  # [T, K/2]
        self.register_buffer("sin", torch.cat([-angle.sin(), angle.sin()], -1), persistent=False)

    def turn(self, x):
        head, rest = x[..., : self.turned], x[..., self.turned :]
        T = x.shape[-2]
        turned = head * self.cos[:T] + head.roll(self.turned // 2, -1) * self.sin[:T]
        return torch.cat([turned.to(x.dtype), rest], -1)

    def rotate(self, q, k):
        """Two [B, H, T, K]; other methods, such as embed and bias, are not needed."""
        return self.turn(q), self.turn(k)
