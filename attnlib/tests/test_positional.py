"""Encodings against independent implementations."""

import pytest
import torch
from positional_encodings.torch_encodings import PositionalEncoding1D
from torch.nn import functional

from attnlib.positional import POSITIONAL

SIZES = [(1, 2), (7, 16), (64, 64), (300, 128), (33, 48)]


def make(name, seq_len, d_model):
    return POSITIONAL[name](seq_len=seq_len, d_model=d_model, n_heads=2, head_dim=max(2, d_model // 2), causal=False)


@pytest.mark.parametrize(("seq_len", "d_model"), SIZES)
def test_sinusoidal_equals_positional_encodings(seq_len, d_model):
    """The table is that of the package positional-encodings."""
    x = torch.randn(2, seq_len, d_model)
    expected = x + PositionalEncoding1D(d_model)(x)

    # theirs rounds its angles to float32: an error of T / 2**24
    torch.testing.assert_close(make("sinusoidal", seq_len, d_model).embed(x), expected, atol=1e-4, rtol=0)


@pytest.mark.parametrize(("seq_len", "d_model"), SIZES)
def test_learned_equals_an_embedding_lookup(seq_len, d_model):
    """Values and gradients are those of torch's embedding of 0 .. T-1."""
    encoding = make("learned", seq_len, d_model)
    x = torch.randn(2, seq_len, d_model)
    table = encoding.table.weight.detach().clone().requires_grad_()
    y, expected = encoding.embed(x), x + functional.embedding(torch.arange(seq_len), table)
    y.square().sum().backward()
    expected.square().sum().backward()

    assert torch.equal(y, expected)
    assert torch.equal(encoding.table.weight.grad, table.grad)


def test_shorter_inputs_take_the_first_positions():
    """The first rows of the table serve a shorter input."""
    for name in ("sinusoidal", "learned"):
        encoding, x = make(name, 32, 8), torch.zeros(1, 32, 8)
        assert torch.equal(encoding.embed(x[:, :5]), encoding.embed(x)[:, :5])


@pytest.mark.parametrize("name", ["sinusoidal", "learned"])
def test_longer_inputs_are_refused(name):
    """T above the table is one clear error."""
    with pytest.raises(ValueError, match=r"seq_len=9 exceeds the .* table of 8 positions"):
        make(name, 8, 4).embed(torch.zeros(1, 9, 4))


def test_none_changes_nothing():
    """The base encoding returns its arguments themselves and no bias."""
    encoding, x = make("none", 8, 4), torch.randn(1, 8, 4)

    assert encoding.embed(x) is x
    assert encoding.rotate(x, x) == (x, x)
    assert encoding.bias(8) is None


def test_sinusoidal_stays_exact_far_out():
    """Position 100,000 is computed in float64: error below float32's rounding."""
    table = make("sinusoidal", 100_001, 4).table
    expected = torch.sin(torch.tensor(100_000.0, dtype=torch.float64)).float()

    assert table[-1, 0] == expected
