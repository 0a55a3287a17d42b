"""Exact symmetries of each encoding, causality, backends and fused kernels."""

import pytest
import torch

from attnlib.measure.operators import operators
from attnlib.model.classifier import build_model
from attnlib.model.config import StackConfig
from attnlib.model.positional import POSITIONAL

FUSED = "aten::_scaled_dot_product_flash_attention_for_cpu"
RIDING = {
    "none",
    "sinusoidal",
    "learned",
    "learned_0.02",
    "learned_0.71",
    "learned_offset",
    "rotary",
    "rotary_interleaved",
    "rotary_partial",
    "rotary_ntk",
    "rotary_yarn",
    "alibi",
}  # no bias that is learned
MIRRORED = {"none", "alibi", "kerple", "fire"}  # depend on |i - j| only


def stack(pe, **options):
    torch.manual_seed(0)
    config = StackConfig(pe=pe, seq_len=12, d_model=16, n_heads=4, **{"init": "unit"} | options)
    return build_model(config).double()


def encoded(model, x):
    return model.stack(model.stack.encoding.embed(x))


def tokens():
    return torch.randn(2, 12, 16, dtype=torch.float64, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("pe", POSITIONAL)
def test_only_none_commutes_with_every_permutation(pe):
    """Without a mask, permuted tokens give permuted outputs for ``none`` and for no other."""
    model, x = stack(pe), tokens()
    order = torch.randperm(12, generator=torch.Generator().manual_seed(2))
    same = torch.allclose(encoded(model, x[:, order]), encoded(model, x)[:, order], atol=1e-12)

    assert same == (pe == "none")


@pytest.mark.parametrize("pe", POSITIONAL)
def test_symmetric_biases_commute_with_reversal(pe):
    """A sequence and its mirror give mirrored outputs where the bias depends on the distance only."""
    model, x = stack(pe), tokens()
    same = torch.allclose(encoded(model, x.flip(1)), encoded(model, x).flip(1), atol=1e-12)

    assert same == (pe in MIRRORED)


@pytest.mark.parametrize("pe", ["rotary", "rotary_interleaved"])
def test_rotary_scores_depend_on_relative_positions_only(pe):
    """The same query and key everywhere give scores that are constant along diagonals, to rounding."""
    encoding = POSITIONAL[pe](seq_len=40, d_model=16, n_heads=1, head_dim=16, causal=False)
    q, k = (v.expand(1, 1, 40, 16) for v in torch.randn(2, 16))
    q, k = encoding.rotate(q, k)
    scores = (q @ k.transpose(-1, -2))[0, 0]

    for offset in range(-39, 40):
        diagonal = scores.diagonal(offset)
        torch.testing.assert_close(diagonal, diagonal[:1].expand_as(diagonal), atol=1e-5, rtol=0)
    assert scores.std() > 0.1


def test_the_two_rotary_conventions_are_a_permutation_apart():
    """Interleaving the halves of q and k makes one convention's scores the other's."""
    half, interleaved = (
        POSITIONAL[pe](seq_len=9, d_model=16, n_heads=2, head_dim=8, causal=False)
        for pe in ("rotary", "rotary_interleaved")
    )
    q, k = torch.randn(2, 3, 2, 9, 8)
    order = [0, 2, 4, 6, 1, 3, 5, 7]
    a, b = half.rotate(q[..., order], k[..., order])
    c, d = interleaved.rotate(q, k)

    torch.testing.assert_close(a @ b.transpose(-1, -2), c @ d.transpose(-1, -2))


@pytest.mark.parametrize("pe", POSITIONAL)
@pytest.mark.parametrize("attention", ["sdpa", "math"])
def test_no_encoding_looks_ahead(pe, attention):
    """Under a causal mask the gradient of token t is zero at every later token and non-zero up to t."""
    x = tokens().requires_grad_()
    encoded(stack(pe, causal=True, attention=attention), x)[0, 5].sum().backward()
    reach = x.grad[0].abs().sum(-1)

    assert (reach[6:] == 0).all()
    assert (reach[:6] > 0).all()


@pytest.mark.parametrize("pe", POSITIONAL)
@pytest.mark.parametrize("causal", [False, True])
def test_backends_agree(pe, causal):
    """Sdpa and math give the same outputs and the same gradients of every parameter."""
    fused, written = (stack(pe, causal=causal, attention=name) for name in ("sdpa", "math"))
    outputs = [encoded(model, tokens()) for model in (fused, written)]
    for y in outputs:
        y.square().sum().backward()

    torch.testing.assert_close(*outputs)
    for (name, p), q in zip(fused.stack.named_parameters(), written.stack.parameters(), strict=True):
        assert p.grad is not None, name
        torch.testing.assert_close(p.grad, q.grad)


@pytest.mark.parametrize("pe", POSITIONAL)
def test_which_encodings_ride_the_fused_kernel(pe):
    """All do without gradients; in training those that learn no bias do."""
    model, batch = build_model(StackConfig(pe=pe, seq_len=16)), torch.zeros(2, 16, dtype=torch.int64)

    def train():
        model(batch).sum().backward()

    def evaluate():
        with torch.no_grad():
            model(batch)

    assert (FUSED in operators(train)) == (pe in RIDING)
    assert FUSED in operators(evaluate)
