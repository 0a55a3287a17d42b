"""Closed forms."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy import stats

from attnlib.gradients.closed_forms import (
    alike_variance,
    attention_gain,
    collapse_exponent,
    decay_rate,
    flush_depth,
    key_bias_is_idle,
    layer_gain,
    peri_norm_variance,
    position_contraction,
    pre_norm_variance,
    query_key_powers,
    skip_contraction,
    uniform_attention,
)
from attnlib.model.attention import INITS, MultiHeadSelfAttention
from attnlib.model.config import StackConfig
from attnlib.model.positional import POSITIONAL


def test_gain_is_one_sixth_when_heads_fill_the_width():
    """torch_mha with HK = D: g^2 = 1/6."""
    assert layer_gain(StackConfig(d_model=64)) ** 2 == pytest.approx(1 / 6)


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
            layer = MultiHeadSelfAttention(StackConfig(d_model=D, init=init)).double()
            gradient = gradient @ layer.out.weight.detach() @ layer.qkv.weight.detach()[2 * D :]
        slopes.append(float((gradient.norm().log10() - start) / layers))
    expected = decay_rate(StackConfig(d_model=D, init=init))
    interval = stats.ttest_1samp(slopes, expected).confidence_interval(0.999)

    assert interval.low < expected < interval.high
    assert np.ptp(interval) < 0.04


def test_rate_needs_a_known_init():
    """An init without a closed form is refused."""
    with pytest.raises(ValueError, match="no closed form for init 'zeros'; choose from torch_mha, linear, unit"):
        decay_rate(StackConfig(init="zeros"))


@pytest.mark.parametrize("init", INITS)
def test_a_linear_gain_is_the_norm_that_a_signal_keeps(init):
    """G is the root mean square by which V and out scale a vector, for any width of the heads."""
    torch.manual_seed(0)
    config = StackConfig(d_model=64, head_dim=64, init=init)
    layer = MultiHeadSelfAttention(config)
    x = torch.randn(4000, 64)
    y = x @ layer.by_role(layer.qkv.weight)["v"].T @ layer.out.weight.T

    assert (y.norm() / x.norm()).item() == pytest.approx(layer_gain(config), rel=0.05)


def encoding(pe, causal=False, n_heads=4):
    torch.manual_seed(1)
    return POSITIONAL[pe](seq_len=12, d_model=16, n_heads=n_heads, head_dim=4, causal=causal)


@pytest.mark.parametrize("pe", ["alibi", "t5", "kerple", "fire"])
@pytest.mark.parametrize("causal", [False, True])
def test_with_one_head_the_contraction_is_the_second_eigenvalue(pe, causal):
    """The largest eigenvalue of softmax(bias) is 1; the contraction is the size of the next, by numpy."""
    one = encoding(pe, causal, n_heads=1)
    scores = one.bias(12)[0].detach().double().numpy()
    if causal:
        scores = np.where(np.tri(12) > 0, scores, -np.inf)
    attention = np.exp(scores) / np.exp(scores).sum(1, keepdims=True)
    sizes = sorted(abs(np.linalg.eigvals(attention)))

    assert sizes[-1] == pytest.approx(1)
    assert position_contraction(one, StackConfig(seq_len=12, causal=causal)) == pytest.approx(sizes[-2])


def test_contractions_in_closed_form():
    """Uniform attention leaves nothing; under a causal mask its eigenvalues are 1, 1/2, 1/3 ...: it leaves a half."""
    free, masked = (StackConfig(seq_len=12, causal=causal) for causal in (False, True))
    assert position_contraction(encoding("none"), free) == pytest.approx(0)
    assert position_contraction(encoding("none", causal=True), masked) == pytest.approx(1 / 2)
    for pe in ("rotary", "shaw", "cope"):
        assert position_contraction(encoding(pe), free) is None


def test_contraction_is_what_random_heads_leave():
    """With several heads it is the mean-square factor of products of sum_h A_h d W_h with independent W_h."""
    torch.manual_seed(0)
    four = encoding("alibi")
    attention = four.bias(12).double().softmax(-1)
    d = torch.randn(12, 400, dtype=torch.float64)
    sizes = []
    for _ in range(8):
        weights = torch.randn(4, 400, 400, dtype=torch.float64) / (4 * 400) ** 0.5
        d = (attention @ d @ weights).sum(0)
        d = d - d.mean(0)
        sizes.append(float(d.norm()))

    assert (sizes[-1] / sizes[3]) ** (1 / 4) == pytest.approx(
        position_contraction(four, StackConfig(seq_len=12)), rel=0.05
    )


WIDE = {"d_model": 10**9, "inner": 10**9}


def test_a_skip_leaves_more():
    """Without gain nothing contracts; with an even attention the skip leaves 1 / sqrt(1 + g^2)."""
    assert skip_contraction(0.3, 0.0, **WIDE) == 1
    assert skip_contraction(0.0, 1.0, **WIDE) == pytest.approx(0.5**0.5)
    assert skip_contraction(1.0, 2.0, **WIDE) == pytest.approx(1)


@pytest.mark.parametrize(("D", "HK", "gain"), [(16, 16, 1.0), (64, 64, 1.0), (64, 256, 1.0), (64, 64, 0.4)])
def test_a_skip_at_finite_width_is_that_of_random_matrices(D, HK, gain):
    """The mean log of |c + g W_O W_V c| over 20,000 random products lies within a fifth of the correction."""
    rng = np.random.default_rng(0)
    u = rng.standard_normal((20_000, HK)) / HK**0.5
    v = np.linalg.norm(u, axis=1, keepdims=True) * rng.standard_normal((20_000, D)) / D**0.5
    v[:, 0] = 1 / gain + v[:, 0]  # c is the first direction
    logs = -np.log10(gain * np.linalg.norm(v, axis=1))
    expected, wide = (math.log10(skip_contraction(0.0, gain, **w)) for w in ({"d_model": D, "inner": HK}, WIDE))

    assert abs(logs.mean() - expected) < 0.2 * abs(expected - wide) + 2 * logs.std() / 20_000**0.5


@pytest.mark.parametrize(
    ("pe", "exponent", "powers"),
    [
        ("none", 3, {"q": 1.0, "k": 1.0}),
        ("learned", 3, {"q": 1.0, "k": 1.0}),
        ("t5", 1, {"q": 1.0, "k": 1.0}),
        ("shaw", 1, {"q": 0.5, "k": 1.0}),
        ("rotary", 1, {"q": 0.5, "k": 0.5}),
        ("cope", 2, {"q": 0.5, "k": 0.5}),
    ],
)
def test_laws_follow_from_how_an_encoding_acts(pe, exponent, powers):
    """The place at which an encoding acts decides the collapse; a causal mask makes every collapse geometric."""
    assert collapse_exponent(encoding(pe), StackConfig()) == exponent
    assert collapse_exponent(encoding(pe, causal=True), StackConfig(causal=True)) == 1
    assert collapse_exponent(encoding(pe), StackConfig(window=5)) == 1
    assert collapse_exponent(encoding(pe), StackConfig(window=64)) == exponent
    assert query_key_powers(encoding(pe)) == powers
    assert key_bias_is_idle(encoding(pe), StackConfig()) == (pe not in ("rotary", "cope"))
    assert not key_bias_is_idle(encoding(pe), StackConfig(qk_norm=True))
    assert not key_bias_is_idle(encoding(pe), StackConfig(softmax="plus_one"))


@pytest.mark.parametrize(("dtype", "least"), [("float16", 2**-24), ("bfloat16", 2**-133), ("float32", 2**-149)])
def test_flush_depth_counts_to_half_the_smallest_subnormal(dtype, least):
    """At a decade a layer from 1: the number of decades down to least / 2, where rounding gives 0."""
    depth = flush_depth(getattr(torch, dtype), start=1.0, rate=-1.0)

    assert 10**-depth == pytest.approx(least / 2)
    assert torch.tensor(10 ** -(depth - 0.01), dtype=torch.float64).to(getattr(torch, dtype)) != 0
    assert torch.tensor(10 ** -(depth + 0.01), dtype=torch.float64).to(getattr(torch, dtype)) == 0


def test_what_does_not_vanish_does_not_flush():
    """A rate of 0 is refused."""
    with pytest.raises(ValueError, match="gradients vanish at a negative rate of decades a layer, not 0"):
        flush_depth(torch.float16, start=1.0, rate=0)


def test_norms_add_variance():
    """Lemma 2's bounds and Peri-LN's line at a depth of 3 layers of two sublayers, and what scaling makes of them."""
    pre_ln = StackConfig(block="pre_ln", ffn_mult=1, depth=3)
    harmonic = 1 + 1 / 2 + 1 / 3
    assert pre_norm_variance(pre_ln) == (2.5, 5.5)
    assert pre_norm_variance(replace(pre_ln, depth_scale="gpt2")) == pytest.approx((1.25, 1.75))
    assert pre_norm_variance(replace(pre_ln, block="lns")) == pytest.approx((1 + harmonic / 2, 1 + 1.5 * harmonic))
    assert peri_norm_variance(6) == 7


@pytest.mark.parametrize("depth", [1, 16, 1024])
def test_variance_of_like_tokens(depth):
    """1 + L in pre-LN, 2 with branches over sqrt(L), 1 + H_L with LayerNorm Scaling; e in a deep residual stack."""
    pre_ln = StackConfig(block="pre_ln", depth=depth)
    residual = replace(pre_ln, block="residual", depth_scale="depth_mup")

    assert alike_variance(pre_ln) == 1 + depth
    assert alike_variance(replace(pre_ln, depth_scale="depth_mup")) == pytest.approx(2)
    assert alike_variance(replace(pre_ln, block="lns")) == pytest.approx(1 + sum(1 / n for n in range(1, depth + 1)))
    assert alike_variance(residual) == pytest.approx(math.e, rel=0.6 / depth)


def test_gains_of_switches():
    """Shared heads keep the gain at equal variances; a gate and a mean with the first values halve it each."""
    usual = StackConfig(init="unit")
    grouped, gated, mixed, both = (
        replace(usual, **fields)
        for fields in (
            {"kv_heads": 1},
            {"gate": "sigmoid"},
            {"value_residual": True},
            {"gate": "sigmoid", "value_residual": True},
        )
    )

    assert layer_gain(grouped) == layer_gain(usual) == 1
    assert layer_gain(gated) == layer_gain(mixed) == 1 / 2
    assert layer_gain(both) == 1 / 4
    assert decay_rate(gated) - decay_rate(usual) == pytest.approx(-math.log10(2))


def test_shared_heads_scale_a_signal_as_the_closed_form_says():
    """With torch's own initialisation and one head of values, V and out keep the norm that ``layer_gain`` says."""
    torch.manual_seed(0)
    config = StackConfig(d_model=64, n_heads=8, kv_heads=1)
    x, sizes = torch.randn(500, 64), []
    for _ in range(40):  # few values: much variance from layer to layer
        layer = MultiHeadSelfAttention(config).requires_grad_(False)
        values = x @ layer.by_role(layer.qkv.weight)["v"].T
        sizes.append(float((values.repeat(1, 8) @ layer.out.weight.T).square().sum() / x.square().sum()))

    assert np.mean(sizes) ** 0.5 == pytest.approx(layer_gain(config), rel=0.05)


@pytest.mark.parametrize(("causal", "window", "gain"), [(False, None, 12 / 13), (True, None, 1 / 2), (True, 3, 1 / 2)])
def test_a_sink_takes_its_share(causal, window, gain):
    """One more than T equal weights takes 1 / (T + 1); under a causal mask it takes half of the first token's."""
    config = StackConfig(seq_len=12, softmax="plus_one", causal=causal, window=window)

    assert attention_gain(config) == pytest.approx(gain)
    assert attention_gain(replace(config, softmax="usual")) == 1
    assert uniform_attention(replace(config, softmax="usual")).sum(1).numpy() == pytest.approx(np.ones(12))


@pytest.mark.parametrize("window", [2, 4, 8])
def test_a_windows_contraction_is_the_second_eigenvalue_of_a_banded_average(window):
    """Each row averages the tokens that are nearer than the window; narrower windows mix more slowly."""
    position = np.arange(12)
    band = abs(position - position[:, None]) < window
    average = band / band.sum(1, keepdims=True)
    sizes = sorted(abs(np.linalg.eigvals(average)))
    found = [position_contraction(encoding("none"), StackConfig(seq_len=12, window=w)) for w in (window, window + 1)]

    assert found[0] == pytest.approx(sizes[-2])
    assert found[1] < found[0] < 1
