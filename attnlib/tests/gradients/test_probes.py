"""The recorder and what it reads."""

import json
import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn
from torch.func import functional_call

from attnlib.gradients.probes import (
    Recorder,
    cosine_gap,
    float_kinds,
    gradient_by_place,
    gradient_summary,
    layer_gradients,
    rank1_residual,
)
from attnlib.model.blocks import BLOCKS
from attnlib.model.classifier import build_model
from attnlib.model.config import StackConfig
from attnlib.model.positional import POSITIONAL

SMALL = StackConfig(seq_len=9, d_model=16, n_heads=4, depth=3)
TOKENS = torch.arange(18).view(2, 9)


def twins(config):
    torch.manual_seed(0)
    one = build_model(config).double()
    other = build_model(config).double()
    other.load_state_dict(one.state_dict())
    return one, other


def step(model):
    logits = model(TOKENS)
    logits.square().sum().backward()
    return logits


def report(model):
    with Recorder(model) as seen:
        step(model)
    return seen.report()


CONFIGS = [
    *(replace(SMALL, pe=pe) for pe in POSITIONAL),
    *(replace(SMALL, block=block, ffn_mult=2) for block in BLOCKS),
    replace(SMALL, checkpoint=True, block="pre_ln"),
    replace(SMALL, causal=True, pooling="last", attention="math"),
    replace(SMALL, depth=0),
    replace(SMALL, depth=0, pe="t5"),
]


@pytest.mark.parametrize("config", CONFIGS, ids=str)
def test_watching_changes_no_bit(config):
    """Outputs and every gradient are bit-identical with and without the recorder."""
    plain, watched = twins(config)
    expected = step(plain)
    with Recorder(watched) as seen:
        logits = step(watched)

    assert torch.equal(logits, expected)
    for p, q in zip(plain.parameters(), watched.parameters(), strict=True):
        assert (p.grad is None and q.grad is None) or torch.equal(p.grad, q.grad)
    assert len(seen.report()["signals"]["gradient"]) == config.depth + 1


def hooks(model):
    return [hook for m in model.modules() for hook in (*m._forward_hooks.values(), *m._forward_pre_hooks.values())]


def test_hooks_are_removed_even_on_error():
    """After a failure inside the block no module has a hook, and a later backward pass is not watched."""
    model, _ = twins(SMALL)
    seen = Recorder(model)
    losses = []

    def fail():
        with seen:
            losses.append(model(TOKENS).sum())
            assert hooks(model)
            raise RuntimeError("in the middle")

    with pytest.raises(RuntimeError, match="in the middle"):
        fail()
    losses[0].backward()

    assert not hooks(model)
    assert not seen.gradients


def test_nothing_but_scalars_is_kept():
    """The recorder holds three numbers a boundary, and its report is finite JSON."""
    model, _ = twins(SMALL)
    with Recorder(model) as seen:
        step(model)

    assert {signal.numel() for signal in seen.signals.values()} == {3}
    assert json.dumps(seen.report(), allow_nan=False)


def test_activations_and_their_gradients_are_autograds():
    """Norms at every boundary are those of the tensors themselves."""
    model, other = twins(replace(SMALL, block="residual"))
    signals = report(model)["signals"]
    x = other.stack.encoding.embed(other.token_embedding(TOKENS))
    boundaries = [x]
    for layer in other.stack.layers:
        boundaries.append(layer(boundaries[-1], other.stack.encoding, None))
    loss = other.head(other.pool(boundaries[-1])).square().sum()
    gradients = torch.autograd.grad(loss, boundaries)

    assert signals["norm"] == pytest.approx([float(b.detach().norm()) for b in boundaries])
    assert signals["gradient"] == pytest.approx([float(g.norm()) for g in gradients])
    assert signals["gradient_mean_abs"] == pytest.approx([float(g.abs().mean()) for g in gradients])


def test_the_fused_projection_is_split_rightly():
    """Gradients by role are those of three separate matrices that make the fused one."""
    model, _ = twins(replace(SMALL, depth=1))
    layer = model.stack.layers[0]
    x = torch.randn(2, 9, 16, dtype=torch.float64)
    layer(x, model.stack.encoding, None).square().sum().backward()
    weights = [w.detach().clone().requires_grad_() for w in layer.attention.qkv.weight.chunk(3)]
    fused = {"attention.qkv.weight": torch.cat(weights)}
    functional_call(layer, fused, (x, model.stack.encoding, None)).square().sum().backward()
    roles = layer_gradients(layer, 0)

    for role, weight in zip("qkv", weights, strict=True):
        torch.testing.assert_close(roles[role][0], weight.grad)


def test_roles_name_every_parameter_once():
    """Layers and the rest together hold as many gradients as the model has parameters."""
    for block in BLOCKS:
        model, _ = twins(replace(SMALL, block=block, ffn_mult=2, pe="learned"))
        found = report(model)
        numbers = sum(p.numel() for p in model.parameters())
        idle = 3 * 16  # key biases, 0 by construction

        assert found["counts"]["parameters"]["numbers"] == numbers - idle
        assert {"q", "k", "v", "out", "feed_forward", "q_bias", "feed_forward_bias"} <= set(found["layers"])
        assert ("norm" in found["layers"]) == (block in ("post_ln", "pre_ln", "peri_ln", "deepnorm", "lns"))
        assert ("gate" in found["layers"]) == (block == "rezero")
        assert {"token_embedding", "positional", "head"} <= set(found["outer"])


def test_a_key_bias_counts_where_keys_are_turned():
    """With rotary the key bias has a gradient and is counted; otherwise it is zero to rounding and is not."""
    for pe, idle in (("none", True), ("shaw", True), ("rotary", False)):
        found = report(twins(replace(SMALL, pe=pe, init="unit"))[0])
        ratio = found["layers"]["k_bias"]["norm"][0] / found["layers"]["v"]["norm"][0]
        counted = found["counts"]["parameters"]["numbers"]

        assert (ratio < 1e-14) == idle
        assert (counted == sum(p.numel() for p in build_model(replace(SMALL, pe=pe)).parameters())) == (not idle)


def test_kinds_of_numbers_are_read_from_the_bits():
    """Zeros, subnormals and non-finite numbers are counted in every format, also while arithmetic flushes."""
    torch.set_flush_denormal(True)
    try:
        for dtype in (torch.float16, torch.bfloat16, torch.float32, torch.float64):
            tiny = torch.finfo(dtype).tiny
            bits = {2: torch.int16, 4: torch.int32, 8: torch.int64}[dtype.itemsize]
            x = torch.tensor([0.0, -0.0, tiny, -tiny, 1.0, math.inf, -math.inf, math.nan], dtype=dtype)
            x = torch.cat([x, torch.ones(1, dtype=bits).view(dtype), -torch.ones(1, dtype=bits).view(dtype)])
            assert float_kinds(x).tolist() == [2, 2, 3]
    finally:
        torch.set_flush_denormal(False)


def test_summary_of_known_gradients():
    """Norm, mean and counts of two gradients written by hand."""
    summary = gradient_summary([torch.tensor([3.0, -4.0]), torch.tensor([[0.0], [1e-40]])])

    assert summary == {
        "norm": pytest.approx(5.0),
        "mean_abs": pytest.approx(1.75),
        "numbers": 4,
        "zero": 1,
        "subnormal": 1,
        "nonfinite": 0,
    }


def test_a_gradient_that_is_not_finite_is_null_and_counted():
    """Infinity is no number for JSON; it is counted, not dropped."""
    summary = gradient_summary([torch.tensor([1.0, math.inf, math.nan])])

    assert (summary["norm"], summary["mean_abs"], summary["nonfinite"]) == (None, None, 2)


def test_residual_is_dongs():
    """The composite norm by numpy, token mean as the rank-1 part; zero for equal tokens, the same at any scale."""
    x = torch.randn(3, 7, 5, dtype=torch.float64)

    def composite(m):
        return np.sqrt(np.linalg.norm(m, 1) * np.linalg.norm(m, np.inf))

    expected = np.mean([composite(m - m.mean(0)) / composite(m) for m in x.numpy()])
    assert float(rank1_residual(x)) == pytest.approx(expected)
    assert float(rank1_residual(1e-200 * x)) == pytest.approx(expected)
    assert float(rank1_residual(x[:, :1].expand(3, 7, 5))) < 1e-15


def test_cosine_gap_is_one_minus_the_mean_cosine():
    """It is what the off-diagonal Gram matrix gives, and still exact where the cosine rounds to 1."""
    x = torch.randn(2, 6, 5, dtype=torch.float64)
    unit = x / x.norm(dim=-1, keepdim=True)
    gram = unit @ unit.transpose(1, 2)
    expected = 1 - (gram.sum((1, 2)) - 6) / 30
    nearly = torch.ones(1, 2, 2, dtype=torch.float64)
    nearly[0, 1, 1] += 1e-12

    assert float(cosine_gap(x)) == pytest.approx(float(expected.mean()))
    assert float(cosine_gap(nearly)) == pytest.approx(1e-24 / 8, rel=1e-3)


def test_a_single_token_has_no_cosine():
    """One token: null, not NaN."""
    model = build_model(replace(SMALL, seq_len=1))
    with Recorder(model) as seen:
        model(torch.zeros(2, 1, dtype=torch.int64)).sum().backward()

    assert seen.report()["signals"]["cosine_gap"] == [None] * 4


def test_readings_do_not_underflow():
    """A float32 signal of 1e-30, whose squares are 0 in float32, has its true norm."""
    model = build_model(replace(SMALL, depth=0))
    nn.init.constant_(model.token_embedding.weight, 1e-30)
    signals = report(model)["signals"]

    assert signals["norm"] == [pytest.approx(1e-30 * (2 * 9 * 16) ** 0.5)]


@pytest.mark.parametrize(
    ("act", "message"),
    [
        (lambda model: None, "run a forward pass inside the recorder"),
        (lambda model: model(TOKENS), "run a backward pass inside the recorder"),
    ],
)
def test_a_report_needs_both_passes(act, message):
    """A report of what was not seen is an error."""
    model, _ = twins(SMALL)
    with Recorder(model) as seen:
        act(model)
    with pytest.raises(ValueError, match=message):
        seen.report()


def test_probing_before_a_backward_pass_is_refused():
    """No gradient is an error, not a zero."""
    with pytest.raises(ValueError, match="run a backward pass before probing"):
        gradient_by_place(build_model(SMALL))


@pytest.mark.parametrize("part", ["token_embedding", "stack.layers.1", "head"])
def test_a_frozen_part_is_named(part):
    """It has no gradient to read, whatever backward pass is run."""
    model, _ = twins(SMALL)
    model.get_submodule(part).requires_grad_(False)
    with Recorder(model) as seen:
        step(model)
    with pytest.raises(ValueError, match=f"{part}.* is frozen"):
        seen.report()


def test_places_follow_the_model():
    """The positional parameters are a place where there are any; biases are left out."""
    for pe, places in (
        ("none", {"token_embedding", "first_layer"}),
        ("learned", {"positional"}),
        ("t5", {"positional"}),
    ):
        model, _ = twins(replace(SMALL, pe=pe))
        step(model)
        weights = model.stack.layers[0].attention
        found = gradient_by_place(model)

        assert places <= set(found)
        assert found["first_layer"]["numbers"] == weights.qkv.weight.numel() + weights.out.weight.numel()


def test_a_recorder_forgets_what_it_saw_before():
    """Used twice, it reports the second pass: signals and gradients of another input."""
    model, _ = twins(SMALL)
    seen = Recorder(model)
    with seen:
        step(model)
    first = seen.report()
    with seen:
        (10 * model(TOKENS)).square().sum().backward()

    assert seen.report()["signals"]["gradient"] != first["signals"]["gradient"]
    assert seen.report()["signals"]["norm"] == first["signals"]["norm"]
