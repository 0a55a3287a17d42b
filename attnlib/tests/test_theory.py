"""Closed forms and probes."""

import numpy as np
import pytest
import torch
from scipy import stats
from torch import nn

from attnlib.attention import INITS, MultiHeadSelfAttention
from attnlib.config import StackConfig
from attnlib.model import build_model
from attnlib.probes import gradient_by_place, gradient_summary
from attnlib.theory import decay_rate, layer_gain


def test_gain_is_one_sixth_when_heads_fill_the_width():
    """torch_mha with HK = D: g^2 = 1/6."""
    assert layer_gain("torch_mha", d_model=64, inner=64) ** 2 == pytest.approx(1 / 6)


@pytest.mark.parametrize("init", INITS)
def test_rate_is_that_of_random_matrix_products(init):
    """The log norm of a gradient sent back through V and out falls at the predicted rate (20 seeds, 32 layers)."""
    D, layers = 64, 32
    slopes = []
    for seed in range(20):
        torch.manual_seed(seed)
        gradient = torch.randn(D, dtype=torch.float64)
        start = gradient.norm().log10()
        for _ in range(layers):
            layer = MultiHeadSelfAttention(d_model=D, n_heads=4, head_dim=16, init=init).double()
            gradient = gradient @ layer.out.weight.detach() @ layer.qkv.weight.detach()[2 * D :]
        slopes.append(float((gradient.norm().log10() - start) / layers))
    expected = decay_rate(init, d_model=D, inner=D)
    interval = stats.ttest_1samp(slopes, expected).confidence_interval(0.999)

    assert interval.low < expected < interval.high
    assert np.ptp(interval) < 0.04


def test_rate_needs_a_known_init():
    """An init without a closed form is refused."""
    with pytest.raises(ValueError, match="no closed form for init 'zeros'; choose from torch_mha, linear, unit"):
        decay_rate("zeros", d_model=8, inner=8)


def test_summary_of_known_gradients():
    """Norm, mean, zeros and subnormals of a gradient written by hand."""
    parameter = nn.Parameter(torch.zeros(4))
    parameter.grad = torch.tensor([3.0, -4.0, 0.0, 1e-40])
    summary = gradient_summary([parameter])

    assert summary == {"norm": pytest.approx(5.0), "mean_abs": pytest.approx(1.75), "zero": 0.25, "subnormal": 0.25}


def test_probing_before_a_backward_pass_is_refused():
    """No gradient is an error, not a zero."""
    with pytest.raises(ValueError, match="run a backward pass before probing"):
        gradient_by_place(build_model(StackConfig()))


def test_places_follow_the_model():
    """The learned table is a place where there is one; the key bias is left out."""
    for pe, places in (("none", {"token_embedding", "first_layer"}), ("learned", {"positional"})):
        model = build_model(StackConfig(pe=pe, seq_len=8))
        model(torch.zeros(1, 8, dtype=torch.int64)).sum().backward()
        assert places <= set(gradient_by_place(model))
