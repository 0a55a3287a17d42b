"""Our attention against torch's, its backends against each other, its symmetries."""

import math

import pytest
import torch
from torch import nn

from attnlib.model import StackConfig, build_model
from attnlib.model.attention import ATTENTION, INITS, MultiHeadSelfAttention, causal_mask
from attnlib.model.positional import POSITIONAL, PositionalEncoding
from attnlib.model.positional.base import spread_over_pairs

SIZES = [(1, 8, 1), (5, 16, 4), (33, 64, 8), (16, 24, 3)]
WITH_GRADIENTS = ("sdpa", "math")  # on a CPU


def none(d_model, n_heads):
    return PositionalEncoding(
        seq_len=64, d_model=d_model, n_heads=n_heads, head_dim=d_model // n_heads, causal=False
    ).double()


def layer(d_model, n_heads, **options):
    return MultiHeadSelfAttention(StackConfig(d_model=d_model, n_heads=n_heads, **options)).double()


@pytest.mark.parametrize(("seq_len", "d_model", "n_heads"), SIZES)
@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("attention", WITH_GRADIENTS)
def test_equals_torch_multihead_attention(seq_len, d_model, n_heads, causal, attention):
    """With the same weights, outputs and all gradients are those of torch.nn.MultiheadAttention."""
    ours = layer(d_model, n_heads, causal=causal, attention=attention)
    theirs = nn.MultiheadAttention(d_model, n_heads, batch_first=True, dtype=torch.float64)
    theirs.load_state_dict(
        {
            "in_proj_weight": ours.qkv.weight,
            "in_proj_bias": ours.qkv.bias,
            "out_proj.weight": ours.out.weight,
            "out_proj.bias": ours.out.bias,
        }
    )
    x = torch.randn(2, seq_len, d_model, dtype=torch.float64)
    mask = causal_mask(seq_len, x.device) if causal else None
    y, expected = ours(x, none(d_model, n_heads)), theirs(x, x, x, attn_mask=mask)[0]
    y.square().sum().backward()
    expected.square().sum().backward()

    torch.testing.assert_close(y, expected)
    torch.testing.assert_close(ours.qkv.weight.grad, theirs.in_proj_weight.grad)
    torch.testing.assert_close(ours.out.weight.grad, theirs.out_proj.weight.grad)


@pytest.mark.parametrize("bias_heads", [1, 4])
def test_backends_agree_with_a_bias(bias_heads):
    """Sdpa and math give the same with a bias added to the scores, -inf included."""
    torch.manual_seed(0)
    q, k, v = torch.randn(3, 2, 4, 9, 8, dtype=torch.float64)
    bias = torch.randn(bias_heads, 9, 9, dtype=torch.float64).masked_fill(causal_mask(9, q.device), -math.inf)

    torch.testing.assert_close(ATTENTION["sdpa"](q, k, v, bias, True), ATTENTION["math"](q, k, v, bias, True))


@pytest.mark.parametrize("attention", WITH_GRADIENTS)
@pytest.mark.parametrize("position", [0, 3, 7])
def test_causality(attention, position):
    """The gradient of token t is zero at every later token and non-zero up to t."""
    x = torch.randn(1, 8, 16, dtype=torch.float64, requires_grad=True)
    layer(16, 4, causal=True, attention=attention)(x, none(16, 4))[0, position].sum().backward()
    reach = x.grad[0].abs().sum(-1)

    assert (reach[position + 1 :] == 0).all()
    assert (reach[: position + 1] > 0).all()


def test_commutes_with_permutations():
    """Without positions or mask, permuting the tokens permutes the output."""
    attention, x, order = layer(16, 4), torch.randn(2, 8, 16, dtype=torch.float64), torch.randperm(8)

    torch.testing.assert_close(attention(x[:, order], none(16, 4)), attention(x, none(16, 4))[:, order])


def test_head_width_is_independent():
    """Heads may be wider than D / H, as in the original experiment: 8,401,408 parameters at 8 heads of 512."""
    attention = MultiHeadSelfAttention(StackConfig(d_model=512, n_heads=8, head_dim=512))

    assert sum(p.numel() for p in attention.parameters()) == 8_401_408


def test_torch_mha_init_draws_as_torch_does():
    """The same generator gives the weights of torch.nn.MultiheadAttention, and zero biases."""
    ours = layer(32, 4)
    theirs = nn.MultiheadAttention(32, 4)
    bound_v, bound_out = (m.abs().max().item() for m in (theirs.in_proj_weight, theirs.out_proj.weight))

    assert ours.qkv.weight.abs().max().item() == pytest.approx(bound_v, rel=0.01)
    assert ours.out.weight.abs().max().item() == pytest.approx(bound_out, rel=0.02)
    assert not ours.qkv.bias.any()
    assert not ours.out.bias.any()


@pytest.mark.parametrize("init", INITS)
def test_init_variances(init):
    """Weight variances are those that the theory assumes."""
    torch.manual_seed(0)
    D, HK = 128, 256
    attention = layer(D, 4, head_dim=64, init=init)
    value = {"torch_mha": 2 / (D + 3 * HK), "linear": 1 / (3 * D), "unit": 1 / D}[init]
    out = {"torch_mha": 1 / (3 * HK), "linear": 1 / (3 * HK), "unit": 1 / HK}[init]

    assert attention.qkv.weight.var().item() == pytest.approx(value, rel=0.03)
    assert attention.out.weight.var().item() == pytest.approx(out, rel=0.03)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_written_out_attention_in_low_precision(dtype):
    """Scores beyond what float16 holds are finite, and the result is as close to float64 as the fused kernel's."""
    torch.manual_seed(0)
    q, k, v = (6 * torch.randn(3, 2, 4, 64, 16)).to(dtype)
    q = q * (10 if dtype == torch.float16 else 1)
    exact = ATTENTION["math"](q.double(), k.double(), v.double(), None, False)
    errors = {
        name: float((ATTENTION[name](q, k, v, None, False).double() - exact).norm() / exact.norm())
        for name in ("math", "sdpa")
    }

    assert errors["math"] <= max(1.2 * errors["sdpa"], torch.finfo(dtype).eps / 2)


@pytest.fixture(name="uncompiled")
def _uncompiled(monkeypatch):
    """FlexAttention as torch writes it out, since compiling takes half a minute."""
    from torch.nn.attention.flex_attention import flex_attention

    monkeypatch.setattr("attnlib.model.attention.compiled_flex", lambda: flex_attention)


@pytest.mark.filterwarnings("ignore:flex_attention called without torch.compile:UserWarning")
@pytest.mark.parametrize("pe", ["none", "sinusoidal", "learned", "rotary", "alibi", "t5", "kerple"])
@pytest.mark.parametrize("causal", [False, True])
def test_flex_is_written_out_attention(uncompiled, pe, causal):
    """FlexAttention with its score function gives what written-out attention gives with its bias, forward."""
    fields = {"seq_len": 17, "d_model": 16, "n_heads": 4, "depth": 2, "pe": pe, "causal": causal, "vocab_size": 9}
    tokens, logits = torch.randint(9, (2, 17), generator=torch.Generator().manual_seed(1)), []
    for backend in ("math", "flex"):
        torch.manual_seed(0)
        model = build_model(StackConfig(attention=backend, **fields))
        with torch.no_grad():
            logits.append(model(tokens))

    torch.testing.assert_close(*logits)


@pytest.mark.parametrize("pe", ["alibi", "t5", "kerple"])
def test_a_bias_of_distances_is_the_bias(pe):
    """A bias by distance, laid over all pairs, is the encoding's bias by pair."""
    torch.manual_seed(0)
    encoding = POSITIONAL[pe](seq_len=9, d_model=16, n_heads=4, head_dim=4, causal=False)

    torch.testing.assert_close(spread_over_pairs(encoding.by_distance(9)), encoding.bias(9))
