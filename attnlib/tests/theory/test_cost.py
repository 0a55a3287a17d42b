"""Counted costs against torch's counters and against measured bytes."""

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode, sdpa_backward_flop_count, sdpa_flop_count

from attnlib.model.blocks import BLOCKS
from attnlib.model.classifier import build_model
from attnlib.model.config import StackConfig
from attnlib.theory import cost

CONFIGS = [
    StackConfig(depth=3, seq_len=32, attention="math"),
    StackConfig(depth=2, seq_len=48, head_dim=40, attention="math", n_classes=1),
    StackConfig(depth=2, seq_len=16, ffn_mult=4, block="pre_ln", pe="learned", attention="math"),
    StackConfig(depth=3, seq_len=24, pe="shaw", attention="math"),
    StackConfig(depth=2, seq_len=24, pe="fire", attention="math"),
    StackConfig(depth=2, seq_len=24, pe="t5", attention="math"),
    *(StackConfig(depth=3, seq_len=24, pe=pe, attention="math", checkpoint=True) for pe in ("none", "shaw", "fire")),
    *(
        StackConfig(depth=3, seq_len=24, block=block, ffn_mult=mult, attention="math", checkpoint=True)
        for block in BLOCKS
        for mult in (0, 2)
    ),
]


@pytest.mark.parametrize("config", CONFIGS)
def test_flops_are_those_of_torchs_counter(config):
    """FLOPs of a forward pass, and of forward and backward together, equal torch.utils.flop_counter's."""
    model = build_model(config)
    tokens = torch.zeros(2, config.seq_len, dtype=torch.int64)
    with FlopCounterMode(display=False) as forward:
        model(tokens)
    with FlopCounterMode(display=False) as both:
        model(tokens).sum().backward()

    assert cost.forward_flops(config, 2) == forward.get_total_flops()
    assert cost.train_flops(config, 2, fused=False) == both.get_total_flops()


def test_fused_attention_costs_one_more_product_backward():
    """The fused backward pass is counted as torch counts it: five products to the forward pass's two."""
    config = StackConfig(depth=3, seq_len=32)
    heads = (2, 4, 32, 16)  # [B, H, T, K]
    forward, backward = sdpa_flop_count(heads, heads, heads), sdpa_backward_flop_count(heads, heads, heads, heads)

    fused, written = (cost.train_flops(config, 2, fused=kind) for kind in (True, False))

    assert fused - written == 3 * (backward - 2 * forward)


@pytest.mark.parametrize("config", CONFIGS)
def test_parameters_are_those_of_the_built_model(config):
    """Counting without storage counts the same."""
    assert cost.parameters(config) == sum(p.numel() for p in build_model(config).parameters())
