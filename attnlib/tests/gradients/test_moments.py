"""The recursion of second moments: its components against random numbers, and stacks against closed forms."""

from dataclasses import replace

import pytest
import torch

from attnlib.compare.intervals import Estimate
from attnlib.gradients import agreement, closed_forms
from attnlib.gradients.agreement import SMALL, Agreement, agreements, temperatures
from attnlib.gradients.moments import (
    Moments,
    attention,
    attention_back,
    critical,
    feed_forward,
    feed_forward_back,
    gains,
    predict,
)
from attnlib.model.attention import INITS, MultiHeadSelfAttention
from attnlib.model.config import StackConfig
from attnlib.model.positional import PositionalEncoding

UNIT = StackConfig(init="unit", d_model=128, n_heads=1, seq_len=16, depth=32)
START, BACK = Moments(1.0, 0.0), Moments(1.0, 0.0)


def tokens(cosine, shape, generator):
    """Normal tokens [B, T, D] of variance 1 with this cosine."""
    common = torch.randn(shape[0], 1, shape[2], generator=generator, dtype=torch.float64)
    own = torch.randn(shape, generator=generator, dtype=torch.float64)
    return cosine**0.5 * common + (1 - cosine) ** 0.5 * own


def moments_of(x):
    """Mean square of a token's numbers, and mean product with another token's."""
    T = x.shape[1]
    square, whole = float(x.square().mean()), float(x.mean(1).square().mean())
    return Moments(square, (T * whole - square) / (T - 1))


@pytest.mark.parametrize("cosine", [0.0, 0.5, 0.9, 1.0])
def test_feed_forwards_and_their_gradients(cosine):
    """Moments after a ReLU, and of a gradient before it, are those of many normal numbers."""
    generator = torch.Generator().manual_seed(0)
    x = tokens(cosine, (400, 8, 64), generator).requires_grad_()
    g = tokens(0.7, (400, 8, 64), generator)
    y = x.relu()
    (back,) = torch.autograd.grad(y, x, g)

    assert feed_forward(Moments(1.0, cosine)) == pytest.approx(moments_of(y.detach()), abs=0.01)
    assert feed_forward_back(Moments(1.0, cosine), Moments(1.0, 0.7)) == pytest.approx(moments_of(back), abs=0.01)


@pytest.mark.parametrize("init", INITS)
@pytest.mark.parametrize("cosine", [0.0, 0.6, 1.0])
def test_attention_and_its_gradient(init, cosine):
    """Moments after a layer of attention, and of a gradient through its values, are near those of random layers.

    With 16 keys a softmax is not yet what it tends to with many.
    """
    generator = torch.Generator().manual_seed(0)
    torch.manual_seed(0)
    config = replace(UNIT, init=init)
    none = PositionalEncoding(seq_len=16, d_model=128, n_heads=1, head_dim=128, causal=False)
    found, back = [], []
    for _ in range(6):
        layer = MultiHeadSelfAttention(config).double()
        x, g = (tokens(c, (32, 16, 128), generator) for c in (cosine, 0.3))
        with torch.no_grad():
            for linear in (layer.qkv, layer.out):
                linear.bias.zero_()
            found.append(moments_of(layer(x, none)))
            q, k, _ = layer.qkv(x).chunk(3, -1)
            weights = (q @ k.mT * 128**-0.5).softmax(-1)
            back.append(moments_of(weights.mT @ (g @ layer.out.weight) @ layer.by_role(layer.qkv.weight)["v"]))
    mean = [sum(values) / len(values) for values in zip(*found, strict=True)]
    mean_back = [sum(values) / len(values) for values in zip(*back, strict=True)]

    assert attention(config, Moments(1.0, cosine)) == pytest.approx(mean, rel=0.3, abs=0.02 * gains(config).value_out)
    assert attention_back(config, Moments(1.0, cosine), Moments(1.0, 0.3)) == pytest.approx(mean_back, rel=0.15)


@pytest.mark.parametrize("block", ["pre_ln", "lns", "residual"])
@pytest.mark.parametrize("scale", ["none", "depth_mup"])
def test_like_tokens_have_the_closed_forms_variance(block, scale):
    """If tokens are alike and there is no feed-forward, both say the same, exactly."""
    config = replace(UNIT, block=block, depth_scale=scale)

    assert predict(config, Moments(1.0, 1.0), BACK).variance == pytest.approx(closed_forms.alike_variance(config))


@pytest.mark.parametrize(("init", "kv_heads"), [("torch_mha", None), ("linear", None), ("torch_mha", 1)])
def test_plain_rates_are_the_closed_forms_at_infinite_width(init, kv_heads):
    """Without the closed form's finite-width term the rates of plain stacks agree to a thousandth."""
    config = replace(UNIT, init=init, n_heads=4, kv_heads=kv_heads, d_model=2**14)
    found = agreement.decades(predict(config, START, BACK).gradients)

    assert found == pytest.approx(closed_forms.decay_rate(config), abs=1e-3)


def test_predictions_lie_within_the_closed_forms_bounds():
    """Pre-LN with feed-forwards: between the bounds of tokens that have nothing and everything in common."""
    for fields in ({}, {"depth_scale": "gpt2"}, {"block": "lns"}):
        config = replace(UNIT, **{"block": "pre_ln", "ffn_mult": 1} | fields)
        low, high = closed_forms.pre_norm_variance(config)

        assert low < predict(config, START, BACK).variance < high
    peri = replace(UNIT, block="peri_ln", ffn_mult=1)
    assert predict(peri, START, BACK).variance == pytest.approx(closed_forms.peri_norm_variance(64))


def test_unknown_parts_are_refused():
    """Blocks and initialisations that the recursion does not know."""
    with pytest.raises(ValueError, match="moments of block 'rezero' are not known"):
        predict(replace(UNIT, block="rezero"), START, BACK)
    with pytest.raises(
        ValueError, match="no variances are known for init 'zeros'; choose from torch_mha, linear, unit"
    ):
        predict(replace(UNIT, init="zeros"), START, BACK)


def test_temperatures():
    """The variance of scores is beta^2 log T; the critical beta is sqrt 2 for tokens with nothing in common."""
    found = {init: (beta, most) for init, beta, most in temperatures()}

    assert list(found) == list(INITS)
    assert all(beta < most == pytest.approx(2**0.5) for beta, most in found.values())
    assert found["unit"][0] ** 2 * torch.tensor(16.0).log().item() == pytest.approx(1)
    assert critical(SMALL, 0.5)[1] == pytest.approx(2)
    assert critical(SMALL, 1.0)[1] == float("inf")


def test_agreement_is_said_number_by_number(monkeypatch):
    """A plain stack and a pre-LN one agree; with another recursion and closed form the table says so."""
    chosen = {name: agreement.STACKS[name] for name in ("plain, torch_mha", "pre_ln, unit")}
    monkeypatch.setattr(agreement, "STACKS", chosen)
    found = list(agreements(range(4)))

    assert [(one.stack, one.number) for one in found] == [
        ("plain, torch_mha", "decades a layer"),
        ("plain, torch_mha", "cosine"),
        *(("pre_ln, unit", number) for number in ("decades a layer", "variance", "cosine")),
    ]
    assert [one.verdict for one in found] == ["all agree", *2 * ["both agree"], "all agree", "both agree"]
    monkeypatch.setattr(agreement, "predict", lambda case, *rest: predict(replace(case, init="linear"), *rest))
    assert next(iter(agreements(range(4)))).verdict == "recursion differs"


@pytest.mark.parametrize(
    ("closed", "recursion", "verdict"),
    [
        ((), 1.05, "both agree"),
        ((0.5, 2.0), 1.0, "all agree"),
        ((1.5, 2.0), 1.0, "closed form differs"),
        ((2.0,), 2.0, "closed form and recursion differ"),
        ((1.2,), 1.2, "all agree"),  # within the interval
    ],
)
def test_verdicts_of_agreement(closed, recursion, verdict):
    """Within a tenth of the measured mean, within its interval, or between the bounds."""
    assert Agreement("stack", "variance", closed, recursion, Estimate(1.0, 0.9, 1.3)).verdict == verdict
