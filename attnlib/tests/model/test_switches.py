"""Switches of a stack against independent implementations, alone and in pairs, on every backend."""

import importlib
import math
import warnings
from dataclasses import replace
from itertools import combinations

import pytest
import torch
from torch import nn
from torch.nn import functional

from attnlib.cases.case import Case, unsupported
from attnlib.model.attention import MultiHeadSelfAttention, blocks_seen
from attnlib.model.blocks import FeedForward
from attnlib.model.classifier import build_model
from attnlib.model.config import StackConfig
from attnlib.model.positional import POSITIONAL, PositionalEncoding

SHAPES = [(1, 16, 4), (7, 24, 2), (33, 64, 8)]  # T, D, H
DTYPES = {torch.float64: 1e-10, torch.float32: 2e-5, torch.bfloat16: 4e-2}
IN_LAYER = {  # switches of attention, by name
    "kv_heads": {"kv_heads": 1},
    "qk_norm": {"qk_norm": True},
    "window": {"window": 3},
    "plus_one": {"softmax": "plus_one"},
    "gate": {"gate": "sigmoid"},
    "causal": {"causal": True},
    "rotary": {"pe": "rotary_yarn"},
    "alibi": {"pe": "alibi"},
    "shaw": {"pe": "shaw"},
    "cope": {"pe": "cope"},
}
ALONE_AND_PAIRS = [*((name,) for name in IN_LAYER), *combinations(IN_LAYER, 2)]


def oracle(module):
    """A package to compare with; its own warnings are not our failures."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return importlib.import_module(module)


def config_of(names, **fields):
    """The configuration with these switches; None where two of them set the same field, or do not go together."""
    changed = [IN_LAYER[name] for name in names]
    if len(set().union(*changed)) < sum(map(len, changed)):
        return None
    case = Case(phase="forward", **{key: value for one in changed for key, value in one.items()} | fields)
    return None if unsupported(case) else case


def layer_and_encoding(config, dtype):
    torch.manual_seed(0)
    layer = MultiHeadSelfAttention(config)
    encoding = POSITIONAL[config.pe](
        seq_len=64,
        d_model=config.d_model,
        n_heads=config.n_heads,
        head_dim=config.head_width,
        causal=config.causal,
    )
    with torch.no_grad():  # biases and gains that are not 0 and 1
        for parameter in [layer.qkv.bias, layer.out.bias, *layer.q_norm.parameters(), *layer.k_norm.parameters()]:
            parameter += 0.1 * torch.randn_like(parameter)
    return layer.to(dtype), encoding.to(dtype)


def written_out(layer, encoding, config, x):
    """One layer of attention, query by query and head by head, in float64."""
    layer, encoding, x = layer.double(), encoding.double(), x.double()
    (B, T, _), H, G, K = x.shape, config.n_heads, config.kv_heads or config.n_heads, config.head_width
    q, k, v = functional.linear(x, layer.qkv.weight, layer.qkv.bias).split([H * K, G * K, G * K], -1)
    q, k, v = (heads.view(B, T, -1, K).transpose(1, 2) for heads in (q, k, v))
    if config.qk_norm:
        q, k = (
            heads / (heads.square().mean(-1, keepdim=True) + 1e-6).sqrt() * norm.weight
            for heads, norm in ((q, layer.q_norm), (k, layer.k_norm))
        )
    q, k = encoding.rotate(q, k)
    k, v = (heads[:, [h // (H // G) for h in range(H)]] for heads in (k, v))
    scores = q @ k.mT / math.sqrt(K)
    for bias in (encoding.bias(T), encoding.pair_bias(q, k)):
        scores = scores if bias is None else scores + bias
    y = torch.zeros_like(q)
    for i in range(T):
        first = 0 if config.window is None else max(0, i - config.window + 1)
        last = T - 1 if config.window is None else min(T - 1, i + config.window - 1)
        last = min(i, last) if config.causal else last
        own = scores[:, :, i, first : last + 1]
        most = own.amax(-1, keepdim=True)
        most = most.clamp(min=0.0) if config.softmax == "plus_one" else most
        weights = (own - most).exp()
        total = weights.sum(-1, keepdim=True) + ((-most).exp() if config.softmax == "plus_one" else 0.0)
        y[:, :, i] = (weights / total).unsqueeze(-2).matmul(v[:, :, first : last + 1]).squeeze(-2)
    y = y.transpose(1, 2).reshape(B, T, H * K)
    if config.gate == "sigmoid":
        y = y / (1 + (-functional.linear(x, layer.gate.weight, layer.gate.bias)).exp())
    return functional.linear(y, layer.out.weight, layer.out.bias)


@pytest.mark.parametrize("names", ALONE_AND_PAIRS, ids="+".join)
@pytest.mark.parametrize("attention", ["sdpa", "math"])
def test_switches_alone_and_in_pairs(names, attention):
    """Outputs are those of attention written out, in three dtypes and shapes; and at inputs 30 times as large."""
    for (T, D, H), (dtype, tolerance), scale in [
        *((shape, known, 1.0) for shape in SHAPES for known in DTYPES.items()),
        *((SHAPES[-1], known, 30.0) for known in list(DTYPES.items())[:2]),
    ]:
        config = config_of(names, seq_len=T, d_model=D, n_heads=H, attention=attention)
        if config is None:
            pytest.skip("they do not go together")
        layer, encoding = layer_and_encoding(config, dtype)
        x = (scale * torch.randn(2, T, D, dtype=torch.float64)).to(dtype)
        y = layer(x, encoding, None if encoding.bias(T) is None else with_own_mask(config, encoding, x))
        expected = written_out(layer, encoding, config, x)

        assert y.dtype == dtype
        assert ((y.double() - expected).abs().max() / expected.abs().max()).item() < tolerance * (1 + 9 * (scale > 1))


def with_own_mask(config, encoding, x):
    """Return what a stack adds to the scores of its layers."""
    model = build_model(replace(config, depth=0))
    model.stack.encoding = encoding
    return model.stack.bias(x)


@pytest.mark.parametrize("names", [(), *ALONE_AND_PAIRS], ids=lambda names: "+".join(names) or "none")
def test_a_sink_is_not_ignored(names):
    """With a softmax of one more, outputs differ in every dtype: an implementation that forgets it gives the same."""
    for dtype in DTYPES:
        config = config_of(("plus_one", *names)) if "plus_one" not in names else None
        if config is None:
            pytest.skip("they do not go together")
        layer, encoding = layer_and_encoding(config, dtype)
        plain, _ = layer_and_encoding(replace(config, softmax="usual"), dtype)
        x = torch.randn(2, 9, 64).to(dtype)
        without = plain(x, encoding, with_own_mask(replace(config, softmax="usual"), encoding, x))

        assert not torch.equal(layer(x, encoding, with_own_mask(config, encoding, x)), without)


@pytest.mark.parametrize("seq_len", [33, 200])  # in one block of 128 keys, and in several
@pytest.mark.parametrize(
    "names",  # each compiles for some seconds, pairs for half a minute
    [pytest.param(names, marks=[pytest.mark.faults] * (names != ("window",))) for names in ALONE_AND_PAIRS],
    ids="+".join,
)
def test_flex_with_switches(names, seq_len):
    """FlexAttention's forward pass is that of the unfused kernel, where it runs at all."""
    torch.compiler.reset()  # after eight of them it would run uncompiled
    blocks_seen.cache_clear()
    if seq_len > 33 and not {"window", "plus_one"} & set(names):
        pytest.skip("no block of theirs ends at another place")
    config = config_of(names, seq_len=seq_len, attention="flex")
    if config is None:
        pytest.skip("FlexAttention has no such bias, or they do not go together")
    tokens = torch.randint(52, (2, seq_len))
    torch.manual_seed(0)
    flexible = build_model(config)
    plain = build_model(replace(config, attention="math"))
    plain.load_state_dict(flexible.state_dict())
    with torch.no_grad():
        torch.testing.assert_close(flexible(tokens), plain(tokens), atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("causal", [False, True])
def test_grouped_heads_equal_torchs(shape, causal):
    """With fewer heads of keys and values it is ``scaled_dot_product_attention(..., enable_gqa=True)``."""
    T, D, H = shape
    config = StackConfig(d_model=D, n_heads=H, kv_heads=H // 2, causal=causal)
    layer, encoding = layer_and_encoding(config, torch.float64)
    x, K = torch.randn(2, T, D, dtype=torch.float64), D // H
    q, k, v = (
        functional.linear(x, weight, bias).view(2, T, -1, K).transpose(1, 2)
        for weight, bias in zip(*(layer.by_role(p).values() for p in (layer.qkv.weight, layer.qkv.bias)), strict=True)
    )
    heads = functional.scaled_dot_product_attention(q, k, v, is_causal=causal, enable_gqa=True)

    torch.testing.assert_close(layer(x, encoding), layer.out(heads.transpose(1, 2).reshape(2, T, D)))


def x_transformers_attention(layer, config, **options):
    """Their attention with our weights; theirs has no biases, so ours are set to 0."""
    theirs = (
        oracle("x_transformers.x_transformers")
        .Attention(
            dim=config.d_model,
            heads=config.n_heads,
            kv_heads=config.groups,
            dim_head=config.head_width,
            causal=config.causal,
            flash=False,
            **options,
        )
        .double()
    )
    with torch.no_grad():
        layer.qkv.bias.zero_()
        layer.out.bias.zero_()
        for role, weight in layer.by_role(layer.qkv.weight).items():
            getattr(theirs, f"to_{role}").weight.copy_(weight)
        theirs.to_out.weight.copy_(layer.out.weight)
        if config.qk_norm:  # they divide by the norm, we by the root mean square
            theirs.qk_norm_q_scale.copy_((layer.q_norm.weight * config.head_width**0.5).expand(config.n_heads, 1, -1))
            theirs.qk_norm_k_scale.copy_((layer.k_norm.weight * config.head_width**0.5).expand(config.groups, 1, -1))
    return theirs


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize(
    ("fields", "options"),
    [
        ({"kv_heads": 1}, {}),
        ({"qk_norm": True}, {"qk_norm": True, "qk_norm_dim_scale": True}),
        ({"softmax": "plus_one"}, {"add_zero_kv": True}),
        ({"softmax": "plus_one"}, {"head_learned_sink": True}),  # whose logit starts at 0
    ],
)
def test_attention_equals_x_transformers(shape, causal, fields, options):
    """A shared head (they lay several out in another order), normalised queries and keys, a sink: x-transformers'."""
    T, D, H = shape
    config = StackConfig(d_model=D, n_heads=H, causal=causal, **fields)
    layer, encoding = layer_and_encoding(config, torch.float64)
    theirs = x_transformers_attention(layer, config, **options)
    x = torch.randn(2, T, D, dtype=torch.float64)

    torch.testing.assert_close(layer(x, encoding), theirs(x), rtol=1e-4, atol=1e-6)  # they have no epsilon


def test_value_residual_equals_x_transformers():
    """The second layer's values are half its own and half the first layer's."""
    config = StackConfig(d_model=32, n_heads=4, kv_heads=1, depth=2, value_residual=True)
    model = build_model(config).double()
    x = torch.randn(2, 9, 32, dtype=torch.float64)
    one, two = (x_transformers_attention(layer.attention, config) for layer in model.stack.layers)
    first, between = one(x, return_intermediates=True)
    second = two(first, value_residual=between.values)

    torch.testing.assert_close(model.stack(x), second)


@pytest.mark.parametrize("switch", [{"value_residual": True}, {"softmax": "plus_one", "causal": True}, {"kv_heads": 1}])
def test_checkpointing_changes_no_gradient(switch):
    """Recomputed layers take the first layer's values and masks as before."""
    tokens = torch.randint(52, (2, 12))
    plain, again = (build_model(StackConfig(depth=3, checkpoint=c, **switch)) for c in (False, True))
    again.load_state_dict(plain.state_dict())
    for model in (plain, again):
        model(tokens).square().sum().backward()

    for p, q in zip(plain.parameters(), again.parameters(), strict=True):
        torch.testing.assert_close(p.grad, q.grad)


@pytest.mark.parametrize("block", ["pre_ln", "post_ln", "peri_ln", "deepnorm", "lns"])
def test_rms_norms_are_torchs(block):
    """Every norm of a stack is torch.nn.RMSNorm: x / sqrt(mean x^2 + eps) times a gain."""
    stack = build_model(StackConfig(block=block, norm="rms", ffn_mult=2)).stack
    norms = [*stack.layers[0].norms, *([stack.norm] if block in ("pre_ln", "peri_ln", "lns") else [])]
    x = torch.randn(3, 64)

    assert norms
    for norm in norms:
        torch.testing.assert_close(norm(x), x / (x.square().mean(-1, keepdim=True) + 1e-5).sqrt())
    assert not any(isinstance(module, nn.LayerNorm) for module in stack.modules())


def test_lns_divides_by_the_root_of_the_layers_number():
    """Layer l is x + F(LN(x) / sqrt(l)), for attention and feed-forward, and the last norm is not scaled."""
    stack = build_model(StackConfig(block="lns", ffn_mult=2, depth=3)).double().stack
    x = torch.randn(2, 9, 64, dtype=torch.float64)
    y = x
    for number, layer in enumerate(stack.layers, 1):
        y = y + layer.attention(layer.norms[0](y) / number**0.5, stack.encoding)
        y = y + layer.feed_forward(layer.norms[1](y) / number**0.5)

    torch.testing.assert_close(stack(x), stack.norm(y))


def test_gpt2_scale_is_that_of_transformers():
    """The last weights of both branches start at 1 / sqrt(2L) of what they would, as in transformers' GPT2."""
    gpt2 = oracle("transformers.models.gpt2.modeling_gpt2")
    theirs = gpt2.GPT2Model(gpt2.GPT2Config(n_layer=8, n_embd=64, n_head=4, vocab_size=8, n_positions=8)).h[0]
    stacks = []
    for scale in ("none", "gpt2"):
        torch.manual_seed(0)
        stacks.append(build_model(StackConfig(block="pre_ln", ffn_mult=4, depth=8, depth_scale=scale)).stack.layers[0])
    usual, scaled = stacks

    assert (theirs.mlp.c_proj.weight.std() / theirs.mlp.c_fc.weight.std()).item() == pytest.approx(1 / 4, rel=0.05)
    for name in ("attention.out.weight", "feed_forward.2.weight"):
        torch.testing.assert_close(scaled.get_parameter(name), usual.get_parameter(name) / 4)
    for name in ("attention.qkv.weight", "feed_forward.0.weight"):
        assert torch.equal(scaled.get_parameter(name), usual.get_parameter(name))


def test_depth_mup_multiplies_branches():
    """Branches are multiplied by 1 / sqrt(N), N of them, and keep the weights that they would have."""
    models = []
    for scale in ("none", "depth_mup"):
        torch.manual_seed(0)
        models.append(build_model(StackConfig(block="residual", depth=9, depth_scale=scale)).double())
    usual, scaled = (model.stack.layers[0] for model in models)
    x = torch.randn(2, 9, 64, dtype=torch.float64)
    none = models[0].stack.encoding

    torch.testing.assert_close(scaled(x, none, None), x + (usual(x, none, None) - x) / 3)


@pytest.mark.parametrize("mult", [1, 2, 4])
def test_feed_forwards_equal_those_of_others(mult):
    """ReLU and GELU are torch's layer; SwiGLU and GeGLU are Llama's and Gemma's, with two thirds of the width."""
    llama, gemma = (oracle(f"transformers.models.{m}.modeling_{m}") for m in ("llama", "gemma"))
    x = torch.randn(2, 5, 24)
    for name, function in (("relu", functional.relu), ("gelu", functional.gelu)):
        ours = FeedForward(StackConfig(d_model=24, n_heads=4, ffn_mult=mult, activation=name))
        torch.testing.assert_close(ours(x), ours[2](function(ours[0](x))))
    for name, theirs, kind in (
        ("swiglu", llama.LlamaMLP, llama.LlamaConfig),
        ("geglu", gemma.GemmaMLP, gemma.GemmaConfig),
    ):
        ours = FeedForward(StackConfig(d_model=24, n_heads=4, ffn_mult=mult, activation=name))
        size = {"hidden_size": 24, "intermediate_size": 2 * mult * 24 // 3}
        act = {"hidden_act": "silu"} if name == "swiglu" else {"hidden_act": "gelu", "hidden_activation": "gelu"}
        other = theirs(kind(num_attention_heads=4, num_key_value_heads=4, head_dim=6, **size, **act))
        gate, up = ours[0].weight.chunk(2)
        other.load_state_dict({"gate_proj.weight": gate, "up_proj.weight": up, "down_proj.weight": ours[2].weight})
        nn.init.zeros_(ours[0].bias)
        nn.init.zeros_(ours[2].bias)
        torch.testing.assert_close(ours(x), other(x))


def test_a_gated_feed_forward_has_as_many_parameters():
    """A third matrix and two thirds of the width: as many weights, where three divides."""
    plain, gated = (FeedForward(StackConfig(d_model=48, ffn_mult=4, activation=a)) for a in ("relu", "swiglu"))

    assert sum(p.numel() for p in gated.parameters() if p.dim() == 2) == sum(
        p.numel() for p in plain.parameters() if p.dim() == 2
    )


@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("dtype", DTYPES)
def test_cope_equals_x_transformers(causal, shape, dtype):
    """The bias is that of x-transformers, whose queries and scores are scaled by 1 / sqrt(K) here as in the paper."""
    T, D, H = shape
    encoding = POSITIONAL["cope"](seq_len=64, d_model=D, n_heads=H, head_dim=D // H, causal=causal).to(dtype)
    theirs = oracle("x_transformers.x_transformers").CoPE(D // H, H, len(encoding.table)).double()
    theirs.pos_emb.data.copy_(encoding.table.detach())
    q, k = torch.randn(2, 2, H, T, D // H).to(dtype)
    scaled = q.double() / (D // H) ** 0.5
    scores = scaled @ k.double().mT
    if causal:
        scores = scores.masked_fill(torch.ones(T, T, dtype=torch.bool).triu(1), -math.inf)
    y, expected = encoding.pair_bias(q, k), theirs(scaled, scores)

    visible = torch.ones(T, T).tril().bool() if causal else torch.ones(T, T).bool()
    assert y.dtype == dtype
    torch.testing.assert_close(y.double()[..., visible], expected[..., visible], atol=DTYPES[dtype], rtol=DTYPES[dtype])


def test_copes_gates_learn():
    """The bias has a gradient in queries, keys and table."""
    encoding = POSITIONAL["cope"](seq_len=16, d_model=16, n_heads=2, head_dim=8, causal=True)
    q, k = torch.randn(2, 1, 2, 16, 8).requires_grad_().unbind(0)
    found = torch.autograd.grad(encoding.pair_bias(q, k).square().sum(), [q, k, encoding.table])

    assert all(bool(gradient.any()) for gradient in found)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"norm": "rms"}, "norm rms would change nothing: block plain has no norm"),
        ({"activation": "gelu"}, "activation gelu would change nothing: ffn_mult=0 is no feed-forward"),
        ({"depth_scale": "gpt2"}, "depth_scale gpt2 is of branches beside a skip connection"),
        (
            {"depth_scale": "gpt2", "block": "peri_ln"},
            "would change nothing: block peri_ln normalises what each branch",
        ),
        ({"depth_scale": "gpt2", "block": "pre_ln", "depth": 1}, "would change nothing: there is one branch"),
        ({"value_residual": True, "depth": 1}, "value_residual would change nothing: there is one layer"),
        ({"window": 8, "pe": "cope"}, "cope counts keys up to the query, and a window hides some of them"),
        ({"softmax": "plus_one", "attention": "attnlib.model.attention:sdpa"}, "gives attention a key more"),
    ],
)
def test_switches_that_would_do_nothing_are_refused(fields, message):
    """A case whose switch would be silently ignored is unsupported, with the reason."""
    assert message in unsupported(Case(phase="forward", **fields))


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"kv_heads": 3}, "kv_heads=3 does not divide n_heads=4"),
        ({"kv_heads": 0}, "kv_heads must be an integer of at least 1, not 0"),
        ({"window": 0}, "window must be an integer of at least 1, not 0"),
        ({"qk_norm": 1}, "qk_norm must be true or false, not 1"),
    ],
)
def test_sizes_that_do_not_fit_are_refused(fields, message):
    """One line with the value."""
    with pytest.raises(ValueError, match=message):
        StackConfig(**fields)


@pytest.mark.parametrize(
    ("field", "choices"),
    [
        ("norm", "layer, rms"),
        ("activation", "relu, gelu, swiglu, geglu"),
        ("gate", "none, sigmoid"),
        ("softmax", "usual, plus_one"),
        ("depth_scale", "none, gpt2, depth_mup"),
    ],
)
def test_unknown_names_are_refused(field, choices):
    """The message names the choices."""
    with pytest.raises(ValueError, match=f"unknown {field} 'nope'; choose from {choices}"):
        build_model(replace(StackConfig(block="pre_ln", ffn_mult=1), **{field: "nope"}))


def test_a_window_as_long_as_the_text_hides_nothing():
    """Outputs are those without it, to the bit of the unfused kernel."""
    x = torch.randn(2, 9, 64)
    layers = []
    for window in (None, 9, 100):
        torch.manual_seed(0)
        layers.append(MultiHeadSelfAttention(StackConfig(window=window, attention="math")))
    none = PositionalEncoding(seq_len=9, d_model=64, n_heads=4, head_dim=16, causal=False)

    assert torch.equal(layers[0](x, none), layers[1](x, none))
    assert torch.equal(layers[0](x, none), layers[2](x, none))


@pytest.mark.parametrize("switch", [{"value_residual": True}, {"softmax": "plus_one", "causal": True}, {"kv_heads": 1}])
def test_compiled_switches(switch):
    """One graph without breaks, and the same logits."""
    torch.compiler.reset()
    model, tokens = build_model(StackConfig(depth=3, **switch)), torch.randint(52, (2, 12))
    compiled = torch.compile(model, fullgraph=True)
    with torch.no_grad():
        torch.testing.assert_close(compiled(tokens), model(tokens), atol=1e-5, rtol=1e-4)
