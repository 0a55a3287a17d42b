"""Counted costs against torch's counter, which sees every operator that a step really calls."""

from dataclasses import asdict, replace
from itertools import combinations

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode, sdpa_backward_flop_count, sdpa_flop_count

from attnlib.cases.case import Case, meta_encoding
from attnlib.model.attention import hidden_pairs
from attnlib.model.blocks import BLOCKS
from attnlib.model.classifier import build_model
from attnlib.model.config import StackConfig
from attnlib.model.positional import POSITIONAL
from attnlib.predict.choice import FLASH, FLASH_CPU, MATH, Wanted, attention_kernel
from attnlib.predict.flops import algorithmic_flops, executed_flops, parameters, total, visible_pairs
from attnlib.predict.kernels import FLOPS, scored_pairs

SWITCHED = {  # switches by name, in stacks that they belong to
    "kv_heads": {"kv_heads": 1},
    "qk_norm": {"qk_norm": True},
    "window": {"window": 5},
    "plus_one": {"softmax": "plus_one"},
    "gate": {"gate": "sigmoid"},
    "value_residual": {"value_residual": True},
    "causal": {"causal": True},
    "rms": {"block": "pre_ln", "norm": "rms"},
    "gelu": {"ffn_mult": 2, "activation": "gelu"},
    "swiglu": {"ffn_mult": 3, "activation": "swiglu"},
    "lns": {"block": "lns", "ffn_mult": 2},
    "depth_mup": {"block": "residual", "depth_scale": "depth_mup"},
    "cope": {"pe": "cope"},
    "checkpoint": {"checkpoint": True},
}
PAIRS = [{**one, **other} for one, other in combinations(SWITCHED.values(), 2) if not one.keys() & other.keys()]
SMALL = StackConfig(depth=3, seq_len=24)
CONFIGS = [
    StackConfig(depth=2, seq_len=48, head_dim=40, n_classes=1, pooling="last", dropout=0.1),
    StackConfig(depth=1, seq_len=1030, d_model=8, n_heads=2, causal=True),
    StackConfig(depth=0, seq_len=8, pe="fire"),
    *(StackConfig(depth=3, seq_len=24, pe=pe, causal=c, checkpoint=not c) for pe in POSITIONAL for c in (True, False)),
    *(
        StackConfig(depth=3, seq_len=24, block=block, ffn_mult=mult, checkpoint=again)
        for block in BLOCKS
        for mult in (0, 2)
        for again in (False, True)
    ),
    *(StackConfig(depth=3, seq_len=24, **fields) for fields in (*SWITCHED.values(), *PAIRS)),
    *(
        StackConfig(depth=1, seq_len=1030, d_model=8, n_heads=2, causal=True, **f)
        for f in ({"window": 9}, {"pe": "alibi"})
    ),
]


def counted(step):
    """FLOPs that torch's counter sees in a step, the CPU's fused kernel counted by our formula."""
    with FlopCounterMode(display=False, custom_mapping=FLOPS) as counter:
        step()
    return counter.get_total_flops()


def kernel(config, dtype, *, training):
    encoding = meta_encoding(config)
    biased = encoding.biases or config.masked_by_bias
    wanted = Wanted(dtype, config.head_width, biased, training and encoding.learns_bias, training)
    return attention_kernel("cpu", wanted).kernel


@pytest.mark.parametrize("attention", ["sdpa", "math"])
@pytest.mark.parametrize(
    ("config", "dtype"),
    [*((config, torch.float32) for config in CONFIGS), *((config, torch.bfloat16) for config in CONFIGS[1::3])],
)
def test_executed_flops_are_those_of_torchs_counter(config, attention, dtype):
    """To the last one, forward without gradients and both ways, for encodings, blocks, masks, kernels and dtypes."""
    config = StackConfig(**config.__dict__ | {"attention": attention})
    model = build_model(config).to(dtype)
    tokens = torch.zeros(2, config.seq_len, dtype=torch.int64)

    def executed(training):
        name = "math" if attention == "math" else kernel(config, dtype, training=training)
        return executed_flops(config, 2, name)

    with torch.no_grad():
        assert total(executed(False), "forward") == counted(lambda: model(tokens))
    assert total(executed(True), "train_step") == counted(lambda: model(tokens).sum().backward())


def test_a_fused_kernel_counts_as_torch_counts_others():
    """Without a mask the CPU's fused kernel has the products that torch's own formulas give those of CUDA."""
    heads = (2, 4, 24, 16)  # [B, H, T, K]
    scores = executed_flops(SMALL, 2, FLASH_CPU)["scores"]

    assert scores.forward == 3 * sdpa_flop_count(heads, heads, heads)
    assert scores.backward == 3 * sdpa_backward_flop_count(heads, heads, heads, heads)


def test_the_mathematics_needs_no_more_than_is_executed():
    """Nothing twice: backward is twice forward, half the pairs under a mask, and the same whether recomputed or not."""
    free, masked, again = (StackConfig(depth=3, seq_len=24, **f) for f in ({}, {"causal": True}, {"checkpoint": True}))
    needed, half = algorithmic_flops(free, 2), algorithmic_flops(masked, 2)

    assert algorithmic_flops(again, 2) == needed
    assert all(flops.backward == 2 * flops.forward for flops in needed.values())
    assert half["scores"].forward * 2 * 24 == needed["scores"].forward * 25
    assert {**half, "scores": None} == {**needed, "scores": None}
    assert total(needed, "train_step") < total(executed_flops(free, 2, FLASH_CPU), "train_step")
    assert total(executed_flops(free, 2, "math"), "train_step") == total(needed, "train_step")
    assert needed["embedding"] == (0, 0)


@pytest.mark.parametrize("seq_len", [1, 31, 32, 200, 512, 513, 1024, 3000])
def test_blocks_behind_the_mask_are_left_out(seq_len):
    """Every pair that a causal mask leaves is scored, and of the others less than a block of keys a query."""
    pairs, needed = scored_pairs(seq_len, seq_len, FLASH_CPU, causal=True), seq_len * (seq_len + 1) // 2

    assert needed <= pairs < needed + 768 * seq_len
    assert pairs <= seq_len**2
    for kernel, causal in ((FLASH_CPU, False), (FLASH, True), (MATH, True)):
        assert scored_pairs(seq_len, seq_len, kernel, causal=causal) == seq_len**2
        assert scored_pairs(seq_len, seq_len + 1, kernel, causal=causal) == seq_len * (seq_len + 1)


@pytest.mark.parametrize(
    ("causal", "window"), [(False, None), (True, None), (True, 5), (False, 5), (True, 99), (False, 1)]
)
def test_only_visible_pairs_are_needed(causal, window):
    """The pairs that the algorithm needs are those that the mask leaves."""
    config = StackConfig(seq_len=24, causal=causal, window=window)
    hidden = hidden_pairs(config, 24, torch.device("cpu"))

    assert visible_pairs(config) == 24**2 - (0 if hidden is None else int(hidden.sum()))


def test_a_sink_needs_no_product():
    """Its key and value are 0: kernels compute T + 1 scores a query, the mathematics needs T."""
    config = StackConfig(seq_len=24, softmax="plus_one")
    plain = replace(config, softmax="usual")

    assert algorithmic_flops(config, 2) == algorithmic_flops(plain, 2)
    assert (
        executed_flops(config, 2, MATH)["scores"].forward * 24 == executed_flops(plain, 2, MATH)["scores"].forward * 25
    )


@pytest.mark.parametrize("config", CONFIGS)
def test_parameters_are_those_of_the_built_model(config):
    """Counting without storage counts the same."""
    assert parameters(Case(**asdict(config))) == sum(p.numel() for p in build_model(config).parameters())
