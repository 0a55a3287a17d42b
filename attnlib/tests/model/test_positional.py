"""Encodings against independent implementations."""

import importlib
import math
import warnings

import pytest
import torch
from positional_encodings.torch_encodings import PositionalEncoding1D
from torch.nn import functional

from attnlib.model.attention import MultiHeadSelfAttention
from attnlib.model.config import StackConfig
from attnlib.model.positional import POSITIONAL
from attnlib.model.positional.alibi import alibi_slopes
from attnlib.model.positional.rotary import yarn_frequencies
from attnlib.model.positional.t5 import t5_bucket

SIZES = [(1, 2), (7, 16), (64, 64), (300, 128), (33, 48)]
ROTARY = [(1, 8), (7, 16), (64, 64), (300, 128), (33, 48)]  # x-transformers has no heads of width 2
HEADS = [1, 2, 3, 4, 6, 8, 12, 16, 20]


def oracle(module):
    """A package to compare with; its own warnings are not our failures."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return importlib.import_module(module)


def make(name, seq_len, d_model, n_heads=2, causal=False, **options):
    width = {"d_model": d_model, "n_heads": n_heads, "head_dim": max(2, d_model // n_heads)}
    return POSITIONAL[name](seq_len=seq_len, causal=causal, **width, **options)


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


def test_sinusoidal_stays_exact_far_out():
    """Position 100,000 is computed in float64: error below float32's rounding."""
    table = make("sinusoidal", 100_001, 4).table
    expected = torch.sin(torch.tensor(100_000.0, dtype=torch.float64)).float()

    assert table[-1, 0] == expected


# theirs rounds angles to float32, as above
CLOSE = {"atol": 2e-4, "rtol": 0}


@pytest.mark.parametrize(("seq_len", "d_model"), ROTARY)
@pytest.mark.parametrize("base", [10000.0, 500.0])
def test_interleaved_rotary_equals_two_packages(seq_len, d_model, base):
    """Turned queries and keys are those of x-transformers and of rotary-embedding-torch."""
    theirs = oracle("x_transformers.x_transformers")
    encoding = make("rotary_interleaved", seq_len, d_model, base=base)
    q, k = torch.randn(2, 2, 2, seq_len, encoding.head_dim)
    frequencies, scale = theirs.RotaryEmbedding(encoding.head_dim, base=base).forward_from_seq_len(seq_len)
    other = oracle("rotary_embedding_torch").RotaryEmbedding(encoding.head_dim, theta=base)

    for x, y in zip((q, k), encoding.rotate(q, k), strict=True):
        torch.testing.assert_close(y, theirs.apply_rotary_pos_emb(x, frequencies, scale), **CLOSE)
        torch.testing.assert_close(y, other.rotate_queries_or_keys(x), **CLOSE)


@pytest.mark.parametrize(("seq_len", "d_model"), ROTARY)
@pytest.mark.parametrize("base", [10000.0, 500.0])
def test_half_split_rotary_equals_transformers_llama(seq_len, d_model, base):
    """Turned queries and keys are those of transformers' Llama."""
    llama = oracle("transformers.models.llama.modeling_llama")
    encoding = make("rotary", seq_len, d_model, base=base)
    q, k = torch.randn(2, 2, 2, seq_len, encoding.head_dim)
    config = llama.LlamaConfig(
        hidden_size=2 * encoding.head_dim, num_attention_heads=2, rope_theta=base, max_position_embeddings=seq_len
    )
    cos, sin = llama.LlamaRotaryEmbedding(config)(q, torch.arange(seq_len)[None])

    for y, expected in zip(encoding.rotate(q, k), llama.apply_rotary_pos_emb(q, k, cos, sin), strict=True):
        torch.testing.assert_close(y, expected, **CLOSE)


def test_rotary_refuses_an_odd_head_width():
    """Pairs need an even width; the message names it."""
    with pytest.raises(ValueError, match="the head width must be even, not 7"):
        make("rotary", 8, 14)


@pytest.mark.parametrize("n_heads", HEADS)
def test_alibi_slopes_equal_three_packages(n_heads):
    """Slopes and their order are those of x-transformers, BLOOM and MPT, for any number of heads."""
    theirs = oracle("x_transformers.x_transformers").AlibiPositionalBias._get_slopes(n_heads)
    mask = torch.ones(1, 2, dtype=torch.int64)
    bloom = oracle("transformers.models.bloom.modeling_bloom").build_alibi_tensor(mask, n_heads, torch.float32)
    mpt = oracle("transformers.models.mpt.modeling_mpt").build_mpt_alibi_tensor(n_heads, 2)

    assert alibi_slopes(n_heads) == pytest.approx(theirs)
    assert alibi_slopes(n_heads) == pytest.approx(bloom[:, 0, 1].tolist(), rel=1e-5)
    assert alibi_slopes(n_heads) == pytest.approx((-mpt[:, 0, 0]).tolist(), rel=1e-5)


@pytest.mark.parametrize("n_heads", HEADS)
@pytest.mark.parametrize("seq_len", [1, 9, 64])
def test_alibi_bias_equals_x_transformers(n_heads, seq_len):
    """The symmetric bias is that of x-transformers."""
    expected = oracle("x_transformers.x_transformers").AlibiPositionalBias(n_heads)(seq_len, seq_len)

    torch.testing.assert_close(make("alibi", seq_len, 4 * n_heads, n_heads).bias(seq_len), expected)


@pytest.mark.parametrize("n_heads", [2, 6])
def test_causal_alibi_attends_as_bloom(n_heads):
    """Under a causal mask attention is BLOOM's, whose bias knows the key's position only."""
    bloom = oracle("transformers.models.bloom.modeling_bloom")
    mask = torch.full((9, 9), -math.inf).triu(1)
    ours = make("alibi", 9, 4 * n_heads, n_heads, causal=True).bias(9)
    theirs = bloom.build_alibi_tensor(torch.ones(1, 9, dtype=torch.int64), n_heads, torch.float32)

    torch.testing.assert_close((ours + mask).softmax(-1), (theirs + mask).softmax(-1))


@pytest.mark.parametrize("n_heads", [8, 12])
def test_alibi_keeps_long_distances_apart_in_bfloat16(n_heads):
    """A model in bfloat16 leaves slope and product in float32."""
    encoding = make("alibi", 1024, 4 * n_heads, n_heads).to(torch.bfloat16)
    exact = make("alibi", 1024, 4 * n_heads, n_heads).bias(1024)

    assert torch.equal(encoding.bias(1024), exact)


@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize(("n_buckets", "max_distance"), [(32, 128), (16, 64), (8, 20), (64, 512)])
def test_t5_buckets_equal_transformers(causal, n_buckets, max_distance):
    """Every distance up to 2000 falls into the bucket of transformers' T5."""
    theirs = oracle("transformers.models.t5.modeling_t5").T5Attention._relative_position_bucket
    relative = torch.arange(-2000, 2001)
    expected = theirs(relative, bidirectional=not causal, num_buckets=n_buckets, max_distance=max_distance)

    assert torch.equal(t5_bucket(relative, n_buckets=n_buckets, max_distance=max_distance, causal=causal), expected)


@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize(("seq_len", "n_heads"), [(1, 1), (9, 3), (200, 8)])
def test_t5_bias_equals_two_packages(causal, seq_len, n_heads):
    """With the same table, bias and gradient are those of transformers' T5, the bias that of x-transformers too."""
    encoding = make("t5", seq_len, 16 * n_heads, n_heads, causal=causal).double()
    t5 = oracle("transformers.models.t5.modeling_t5")
    config = t5.T5Config(d_model=16 * n_heads, num_heads=n_heads, d_kv=16, is_decoder=causal, use_cache=False)
    attention = t5.T5Attention(config, has_relative_attention_bias=True).double()
    other = oracle("x_transformers.x_transformers").RelativePositionBias(1, causal=causal, heads=n_heads).double()
    for table in (attention.relative_attention_bias, other.relative_attention_bias):
        table.load_state_dict(encoding.table.state_dict())
    y, expected = encoding.bias(seq_len), attention.compute_bias(seq_len, seq_len)[0]
    for bias in (y, expected):
        bias.square().sum().backward()

    torch.testing.assert_close(y, expected)
    torch.testing.assert_close(y, other(seq_len, seq_len))
    torch.testing.assert_close(encoding.table.weight.grad, attention.relative_attention_bias.weight.grad)


@pytest.mark.parametrize(("seq_len", "n_heads", "max_distance"), [(1, 1, 4), (9, 2, 16), (40, 4, 16), (33, 3, 5)])
def test_shaw_attention_equals_transformers_bert(seq_len, n_heads, max_distance):
    """A layer with Shaw's keys is transformers' BERT self-attention with relative keys, whose table has no clipping."""
    bert = oracle("transformers.models.bert.modeling_bert")
    d_model = 8 * n_heads
    encoding = make("shaw", seq_len, d_model, n_heads, max_distance=max_distance)
    ours = MultiHeadSelfAttention(StackConfig(d_model=d_model, n_heads=n_heads))
    config = bert.BertConfig(
        hidden_size=d_model,
        num_attention_heads=n_heads,
        max_position_embeddings=seq_len,
        position_embedding_type="relative_key",
        attention_probs_dropout_prob=0.0,
    )
    theirs = bert.BertSelfAttention(config)
    for name, part in (("query", "q"), ("key", "k"), ("value", "v")):
        getattr(theirs, name).weight.data = ours.by_role(ours.qkv.weight)[part]
        getattr(theirs, name).bias.data = ours.by_role(ours.qkv.bias)[part]
    distance = torch.arange(1 - seq_len, seq_len)  # theirs is query minus key
    theirs.distance_embedding.weight.data = encoding.table[
        (-distance).clamp(-max_distance, max_distance) + max_distance
    ]
    x = torch.randn(2, seq_len, d_model)

    torch.testing.assert_close(ours(x, encoding), ours.out(theirs(x)[0]))


def test_shorter_inputs_take_the_first_positions():
    """The first rows of the table serve a shorter input."""
    for name in ("sinusoidal", "learned"):
        encoding, x = make(name, 32, 8), torch.zeros(1, 32, 8)
        assert torch.equal(encoding.embed(x[:, :5]), encoding.embed(x)[:, :5])
    q = torch.randn(1, 2, 32, 4)
    assert torch.equal(make("rotary", 32, 8).turn(q[:, :, :5]), make("rotary", 32, 8).turn(q)[:, :, :5])


@pytest.mark.parametrize("name", ["sinusoidal", "learned", "rotary"])
def test_longer_inputs_are_refused(name):
    """T above the table is one clear error."""
    encoding = make(name, 8, 4)
    with pytest.raises(ValueError, match=r"seq_len=9 exceeds the .* table of 8 positions"):
        encoding.rotate(torch.zeros(1, 2, 9, 2), encoding.embed(torch.zeros(1, 9, 4)))


def test_none_changes_nothing():
    """The base encoding returns its arguments themselves and no bias."""
    encoding, x = make("none", 8, 4), torch.randn(1, 8, 4)

    assert encoding.embed(x) is x
    assert encoding.rotate(x, x) == (x, x)
    assert encoding.bias(8) is None
    assert encoding.query_bias(x) is None


@pytest.mark.parametrize(
    ("name", "parameters"),
    [
        ("none", 0),
        ("sinusoidal", 0),
        ("learned", 20 * 16),
        ("rotary", 0),
        ("alibi", 0),
        ("t5", 32 * 4),
        ("shaw", 33 * 4),
        ("kerple", 2 * 4),
        ("fire", 2 * 32 + 32 * 4 + 2),
    ],
)
def test_parameters_are_as_documented(name, parameters):
    """T=20, D=16, H=4: the number of parameters that the class states."""
    assert sum(p.numel() for p in make(name, 20, 16, 4).parameters()) == parameters


YARN = [(16, 64), (64, 64), (1024, 128), (4096, 64)]  # T, D with two heads


@pytest.mark.parametrize(("seq_len", "d_model"), YARN)
def test_yarn_equals_transformers(seq_len, d_model):
    """Frequencies and the factor on queries and keys are transformers' for a stack trained on T / 4 tokens."""
    rope = oracle("transformers.modeling_rope_utils")
    llama = oracle("transformers.models.llama.modeling_llama")
    scaling = {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": seq_len // 4}
    config = llama.LlamaConfig(
        hidden_size=d_model, num_attention_heads=2, max_position_embeddings=seq_len, rope_scaling=scaling
    )
    expected, factor = rope.ROPE_INIT_FUNCTIONS["yarn"](config, "cpu")
    found, ours = yarn_frequencies(10000.0, d_model // 2, seq_len)

    torch.testing.assert_close(found.float(), expected, rtol=1e-5, atol=0)
    assert ours == pytest.approx(factor)


def test_yarns_temperature_scales_the_logits_only():
    """Turned queries and keys have 0.1 ln 4 + 1 times the norm, so that scores have its square; nothing is added."""
    encoding = make("rotary_yarn", 64, 64)
    q, k = torch.randn(2, 2, 2, 64, 32)
    factor = 0.1 * math.log(4) + 1
    for x, y in zip((q, k), encoding.rotate(q, k), strict=True):
        torch.testing.assert_close(y.norm(dim=-1), factor * x.norm(dim=-1))

    assert not encoding.biases


@pytest.mark.parametrize(("seq_len", "d_model"), ROTARY)
def test_ntk_equals_rotary_embedding_torch(seq_len, d_model):
    """Turned queries are those of a base rescaled for inputs four times as long, up to the order of the dimensions."""
    encoding = make("rotary_ntk", seq_len, d_model)
    other = oracle("rotary_embedding_torch").RotaryEmbedding(encoding.head_dim, theta_rescale_factor=4.0)
    q, k = torch.randn(2, 2, 2, seq_len, encoding.head_dim)
    paired = torch.arange(encoding.head_dim).view(2, -1).T.flatten()  # our halves as their neighbours
    for x, y in zip((q, k), encoding.rotate(q, k), strict=True):
        torch.testing.assert_close(y[..., paired], other.rotate_queries_or_keys(x[..., paired]), **CLOSE)


@pytest.mark.parametrize(("seq_len", "d_model"), ROTARY)
def test_partial_rotary_turns_three_quarters(seq_len, d_model):
    """The faster three quarters of the pairs turn as in rotary, and the slowest stay as they are."""
    usual, partial = (make(name, seq_len, d_model) for name in ("rotary", "rotary_partial"))
    pairs = usual.head_dim // 2
    turned = math.ceil(0.75 * pairs)
    q, k = torch.randn(2, 2, 2, seq_len, usual.head_dim)
    for x, whole, found in zip((q, k), usual.rotate(q, k), partial.rotate(q, k), strict=True):
        whole, found, x = (y.unflatten(-1, (2, pairs)) for y in (whole, found, x))
        torch.testing.assert_close(found[..., :turned], whole[..., :turned])
        assert torch.equal(found[..., turned:], x[..., turned:])


def test_ntk_of_a_single_pair_is_rotary():
    """A head of width 2 has one pair, the fastest, which scaling leaves as it is."""
    assert torch.equal(make("rotary_ntk", 9, 4).cos, make("rotary", 9, 4).cos)
