"""Our layer beside others' layers, rounds interleaved, as ratios. Run it by name; it asserts nothing about time."""

import importlib.util
from functools import partial

import pytest
import torch
from torch import nn

from attnlib.model.attention import MultiHeadSelfAttention
from attnlib.model.blocks import FeedForward, PostNorm
from attnlib.model.positional import PositionalEncoding

BATCH = 2
SIZES = ((64, 4), (512, 8))  # D, H
LENGTHS = (64, 128, 256, 512, 1024)


class Ours(nn.Module):
    """A layer of ours that is called like theirs."""

    def __init__(self, layer, encoding):
        super().__init__()
        self.layer, self.encoding = layer, encoding

    def forward(self, x):
        """``[B, T, D]`` to ``[B, T, D]``."""
        return self.layer(x, self.encoding, None)


class SelfAttention(nn.Module):
    """``torch.nn.MultiheadAttention`` without its weights."""

    def __init__(self, d_model, n_heads):
        super().__init__()
        self.layer = nn.MultiheadAttention(d_model, n_heads, batch_first=True)

    def forward(self, x):
        """``[B, T, D]`` to ``[B, T, D]``."""
        return self.layer(x, x, x, need_weights=False)[0]


def ours(d_model, n_heads, peer):
    """Our layer with the peer's parts: attention alone, or a post-LN layer with a 4x feed-forward."""
    width = {"d_model": d_model, "n_heads": n_heads, "head_dim": d_model // n_heads}
    layer = MultiHeadSelfAttention(**width)
    if peer == "TransformerEncoderLayer":
        feed_forward = FeedForward(d_model=d_model, mult=4)
        layer = PostNorm(attention=layer, feed_forward=feed_forward, d_model=d_model, depth=1)
    return Ours(layer, PositionalEncoding(seq_len=max(LENGTHS), causal=False, **width))


def theirs(d_model, n_heads, peer):
    """The peer's layer."""
    if peer == "TransformerEncoderLayer":
        return nn.TransformerEncoderLayer(d_model, n_heads, 4 * d_model, dropout=0.0, batch_first=True)
    if peer == "x-transformers":
        from x_transformers.x_transformers import Attention

        attention = Attention(dim=d_model, heads=n_heads, dim_head=d_model // n_heads, flash=True)
        return nn.Sequential(attention)
    return SelfAttention(d_model, n_heads)


def train_step(layer, optimizer, x):
    """One step toward zero output."""
    optimizer.zero_grad(set_to_none=True)
    y = layer(x)
    y.square().mean().backward()
    optimizer.step()


@pytest.mark.parametrize("seq_len", LENGTHS)
@pytest.mark.parametrize(("d_model", "n_heads"), SIZES)
@pytest.mark.parametrize("peer", ["MultiheadAttention", "TransformerEncoderLayer", "x-transformers"])
def test_peers(peer, d_model, n_heads, seq_len, ratio, device):
    """Times a train step of our layer and the peer's, interleaved; saves and shows the ratio ours / theirs."""
    if peer == "x-transformers" and importlib.util.find_spec("x_transformers") is None:
        pytest.skip("x-transformers is not installed")
    torch.manual_seed(0)
    x = torch.randn(BATCH, seq_len, d_model, device=device.torch_device)
    steps = []
    for make in (ours, theirs):
        layer = make(d_model, n_heads, peer).to(device.torch_device)
        steps.append(partial(train_step, layer, torch.optim.SGD(layer.parameters(), lr=1e-3, momentum=0.9), x))
    ratio(f"{peer} D={d_model} H={n_heads} T={seq_len}: ours / theirs", *steps)
