"""A package of somebody else's, which does not know of this one."""

import itertools
import textwrap

import pytest

NUMBERS = itertools.count()
ROTARY = '''
import torch
from torch import nn

class MyRotary(nn.Module):
    """Rotary with half-split pairs."""

    def __init__(self, seq_len, d_model, n_heads, head_dim, causal):
        super().__init__()
        position = torch.arange(seq_len, dtype=torch.float64)[:, None]
        angle = position * 10000.0 ** (-torch.arange(0, head_dim, 2, dtype=torch.float64) / head_dim)
        self.half = head_dim // 2
        self.register_buffer("cos", torch.cat([angle.cos(), angle.cos()], -1).float(), persistent=False)
        self.register_buffer("sin", torch.cat([-angle.sin(), angle.sin()], -1).float(), persistent=False)

    def turn(self, x):
        T = x.shape[-2]
        return x * self.cos[:T] + x.roll(self.half, -1) * self.sin[:T]

    def rotate(self, q, k):
        return self.turn(q), self.turn(k)
'''


@pytest.fixture
def lab(tmp_path, monkeypatch):
    """Write a module into a folder on the path; returns its name, another one each time since imports are kept."""
    monkeypatch.syspath_prepend(tmp_path)

    def write(text=ROTARY):
        name = f"somebodys_{next(NUMBERS)}"
        (tmp_path / f"{name}.py").write_text(textwrap.dedent(text))
        return name

    return write
