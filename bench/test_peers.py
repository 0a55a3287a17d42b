"""Our layer beside others' layers, and rotary as people write it, rounds interleaved, as ratios.

Run it by name; it asserts nothing about time.
"""

import importlib.util
from functools import partial

import pytest
import torch
from torch import nn

from attnlib.model.attention import MultiHeadSelfAttention
from attnlib.model.blocks import FeedForward, PostNorm
from attnlib.model.config import StackConfig
from attnlib.model.positional import POSITIONAL, PositionalEncoding

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
    config = StackConfig(d_model=d_model, n_heads=n_heads, depth=1, ffn_mult=4)
    layer = MultiHeadSelfAttention(config)
    if peer == "TransformerEncoderLayer":
        layer = PostNorm(attention=layer, feed_forward=FeedForward(config), config=config)
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


def half_split(x, angles):
    """Turn pairs (x_i, x_{i+K/2}), with tables of cosines and sines made before (GPT-NeoX, Llama)."""
    cos, sin = angles["cos"], angles["sin"]  # [T, K]
    first, second = x.chunk(2, -1)
    return x * cos + torch.cat([-second, first], -1) * sin


def gathered(x, angles):
    """Turn as ``half_split``, with the tables' rows looked up by position in every call (older transformers)."""
    rows = angles["positions"]
    return half_split(x, {"cos": angles["cos"][rows], "sin": angles["sin"][rows]})


def interleaved(x, angles):
    """Turn pairs (x_2i, x_{2i+1}), as in the paper (GPT-J, torchtune)."""
    cos, sin = angles["cos_pairs"], angles["sin_pairs"]  # [T, K/2]
    first, second = x.unflatten(-1, (-1, 2)).unbind(-1)
    return torch.stack([first * cos - second * sin, first * sin + second * cos], -1).flatten(-2)


def as_complex(x, angles):
    """Turn pairs (x_2i, x_{2i+1}) as complex numbers times e^(i angle) (Meta's Llama)."""
    turned = torch.view_as_complex(x.unflatten(-1, (-1, 2))) * angles["complex"]
    return torch.view_as_real(turned).flatten(-2)


ROTARY = {"half_split": half_split, "gathered": gathered, "interleaved": interleaved, "complex": as_complex}


def angles_of(seq_len, head_dim, device):
    """The tables that each way of writing rotary reads."""
    frequency = 10000.0 ** (-torch.arange(0, head_dim, 2, dtype=torch.float64) / head_dim)
    angle = torch.arange(seq_len, dtype=torch.float64)[:, None] * frequency  # [T, K/2]
    both = torch.cat([angle, angle], -1)
    tables = {"cos": both.cos(), "sin": both.sin(), "cos_pairs": angle.cos(), "sin_pairs": angle.sin()}
    tables = {name: table.float().to(device) for name, table in tables.items()}
    turns = torch.polar(torch.ones_like(angle), angle).to(torch.complex64)
    return tables | {"complex": turns.to(device), "positions": torch.arange(seq_len, device=device)}


def turn_both(turn, angles, q, k):
    """Turn queries and keys, and go back through both."""
    for x in (turn(q, angles), turn(k, angles)):
        x.backward(torch.ones_like(x))


def check_equal(name, x, angles):
    """Refuse a way of writing rotary whose output is not that of the suite's own encoding."""
    own = "rotary_interleaved" if name in ("interleaved", "complex") else "rotary"
    T, K = x.shape[-2:]
    encoding = POSITIONAL[own](seq_len=T, d_model=K, n_heads=1, head_dim=K, causal=False).to(x.device)
    torch.testing.assert_close(ROTARY[name](x, angles), encoding.rotate(x, x)[0])


@pytest.mark.filterwarnings("ignore:Torchinductor does not support code generation for complex operators")
@pytest.mark.parametrize("seq_len", LENGTHS[1::2])
@pytest.mark.parametrize("compiled", [False, True], ids=["eager", "compiled"])
@pytest.mark.parametrize("implementation", ROTARY)
def test_rotary(implementation, compiled, seq_len, ratio, device):
    """Times four ways of writing rotary over the half-split one, there and back; all give what our encodings give."""
    angles = angles_of(seq_len, 64, device.torch_device)
    q, k = (torch.randn(BATCH, 8, seq_len, 64, device=device.torch_device) for _ in "qk")
    for name in ("half_split", implementation):
        check_equal(name, q, angles)
    q, k = q.requires_grad_(), k.requires_grad_()
    turns = [torch.compile(ROTARY[n]) if compiled else ROTARY[n] for n in (implementation, "half_split")]
    steps = [partial(turn_both, turn, angles, q, k) for turn in turns]
    title = f"rotary {implementation} T={seq_len}{' compiled' if compiled else ''}: over half_split"
    ratio(title, *steps)
