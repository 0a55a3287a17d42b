"""Blocks and the whole classifier."""

from dataclasses import replace

import pytest
import torch
from torch import nn

from attnlib.model.blocks import BLOCKS
from attnlib.model.classifier import build_model
from attnlib.model.config import StackConfig
from attnlib.model.data import random_texts
from attnlib.model.positional import POSITIONAL

SMALL = StackConfig(seq_len=12, d_model=16, n_heads=4, depth=2)


def tokens(n_texts=3):
    return random_texts(n_texts=n_texts, seq_len=12, vocab_size=52, n_classes=2, seed=0, device="cpu")[0]


@pytest.mark.parametrize("pe", POSITIONAL)
@pytest.mark.parametrize("block", BLOCKS)
@pytest.mark.parametrize("pooling", ["mean", "last"])
def test_logits_have_a_class_each(pe, block, pooling):
    """Every combination gives finite [B, n_classes] logits."""
    model = build_model(replace(SMALL, pe=pe, block=block, pooling=pooling, n_classes=5, ffn_mult=2))
    logits = model(tokens())

    assert logits.shape == (3, 5)
    assert logits.isfinite().all()


@pytest.mark.parametrize(("block", "norm_first"), [("post_ln", False), ("pre_ln", True)])
@pytest.mark.parametrize("seq_len", [1, 12])
def test_normed_blocks_equal_torch_encoder_layers(block, norm_first, seq_len):
    """With the same weights a layer is torch.nn.TransformerEncoderLayer."""
    model = build_model(replace(SMALL, block=block, ffn_mult=4)).double()
    ours = model.stack.layers[0]
    theirs = nn.TransformerEncoderLayer(16, 4, 64, 0.0, batch_first=True, norm_first=norm_first, dtype=torch.float64)
    names = {
        "self_attn.in_proj_": ours.attention.qkv,
        "self_attn.out_proj.": ours.attention.out,
        "linear1.": ours.feed_forward[0],
        "linear2.": ours.feed_forward[2],
        "norm1.": ours.norms[0],
        "norm2.": ours.norms[1],
    }
    theirs.load_state_dict({n + part: getattr(m, part) for n, m in names.items() for part in ("weight", "bias")})
    x = torch.randn(2, seq_len, 16, dtype=torch.float64)

    torch.testing.assert_close(ours(x, model.stack.encoding, None), theirs(x))


def test_residual_adds_what_plain_computes():
    """A residual layer is its input plus the plain layer."""
    plain, residual = (build_model(replace(SMALL, block=b, depth=1)) for b in ("plain", "residual"))
    residual.load_state_dict(plain.state_dict())
    x = torch.randn(1, 12, 16)

    torch.testing.assert_close(residual.stack(x), x + plain.stack(x))


def test_rezero_is_the_identity_until_its_gate_opens():
    """At initialisation the stack returns its input to the bit; with the gates at 1 it is the residual stack."""
    rezero, residual = (build_model(replace(SMALL, block=b, ffn_mult=2)) for b in ("rezero", "residual"))
    x = torch.randn(1, 12, 16)
    assert torch.equal(rezero.stack(x), x)
    residual.load_state_dict({k: v for k, v in rezero.state_dict().items() if not k.endswith("gate")})
    for layer in rezero.stack.layers:
        layer.gate.data.fill_(1.0)

    torch.testing.assert_close(rezero.stack(x), residual.stack(x))


def test_peri_ln_normalises_on_both_sides():
    """A layer is x + LN(F(LN(x))) for attention, then for the feed-forward, each norm its own."""
    model = build_model(replace(SMALL, block="peri_ln", ffn_mult=2, depth=1)).double()
    layer, x = model.stack.layers[0], torch.randn(1, 12, 16, dtype=torch.float64)
    for norm in layer.norms:
        nn.init.normal_(norm.weight)
    one, two, three, four = layer.norms
    y = x + two(layer.attention(one(x), model.stack.encoding))
    y = y + four(layer.feed_forward(three(y)))

    torch.testing.assert_close(layer(x, model.stack.encoding, None), y)
    assert isinstance(model.stack.norm, nn.LayerNorm)


def test_deepnorm_enlarges_the_skip_and_shrinks_the_branch():
    """A layer is LN((2L)^(1/4) x + F(x)); V, out and feed-forward start (8L)^(-1/4) as large, Q and K do not."""
    models = []
    for block in ("post_ln", "deepnorm"):
        torch.manual_seed(0)
        models.append(build_model(replace(SMALL, block=block, ffn_mult=2, depth=8)).double())
    post, deep = (model.stack.layers[0] for model in models)
    wanted = post.attention.by_role(post.attention.qkv.weight)
    found = deep.attention.by_role(deep.attention.qkv.weight)
    x = torch.randn(1, 12, 16, dtype=torch.float64)
    y = deep.norms[0](16**0.25 * x + deep.attention(x, models[1].stack.encoding))
    y = deep.norms[1](16**0.25 * y + deep.feed_forward(y))

    torch.testing.assert_close(deep(x, models[1].stack.encoding, None), y)
    for role, scale in (("q", 1), ("k", 1), ("v", 64**-0.25)):
        torch.testing.assert_close(found[role], wanted[role] * scale)
    for name in ("attention.out.weight", "feed_forward.0.weight", "feed_forward.2.weight"):
        torch.testing.assert_close(deep.get_parameter(name), post.get_parameter(name) * 64**-0.25)


def test_depth_zero_is_the_identity():
    """A stack without layers returns its input."""
    x = torch.randn(1, 12, 16)

    assert torch.equal(build_model(replace(SMALL, depth=0)).stack(x), x)


def test_checkpointing_changes_no_gradient():
    """Recomputing blocks gives the same gradients."""
    plain, recomputed = (build_model(replace(SMALL, checkpoint=c, pe="learned")) for c in (False, True))
    recomputed.load_state_dict(plain.state_dict())
    for model in (plain, recomputed):
        model(tokens()).square().sum().backward()

    for p, q in zip(plain.parameters(), recomputed.parameters(), strict=True):
        torch.testing.assert_close(p.grad, q.grad)


def test_embedding_scale_is_a_factor_on_the_tokens():
    """Scale 2 is a token table twice as large: the original's 2x + PE."""
    one, two = (build_model(replace(SMALL, embedding_scale=s, pe="sinusoidal")) for s in (1.0, 2.0))
    two.load_state_dict(one.state_dict())
    one.token_embedding.weight.data *= 2

    torch.testing.assert_close(one(tokens()), two(tokens()))


def test_unknown_names_are_refused_with_choices():
    """Each registry answers for its own names."""
    for field, text in (("pe", "none, sinusoidal"), ("block", "plain, residual"), ("pooling", "mean, last")):
        with pytest.raises(ValueError, match=f"unknown {field} 'nope'; choose from {text}"):
            build_model(replace(SMALL, **{field: "nope"}))


def test_texts_are_seeded_with_fixed_labels():
    """The same seed gives the same texts and labels; another seed does not; a single logit has two labels."""
    draw = {"n_texts": 200, "seq_len": 9, "vocab_size": 52, "n_classes": 1, "device": "cpu"}
    (texts, labels), (again, same), (other, _) = (random_texts(seed=s, **draw) for s in (1, 1, 2))

    assert torch.equal(texts, again)
    assert torch.equal(labels, same)
    assert not torch.equal(texts, other)
    assert set(labels.tolist()) == {0, 1}
    assert set(texts.unique().tolist()) == set(range(52))
