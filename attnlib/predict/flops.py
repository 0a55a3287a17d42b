"""What a stack should cost, counted from its configuration: parameters, and FLOPs by component and direction."""

from collections.abc import Mapping
from typing import NamedTuple

import torch

from attnlib.cases.case import Case, meta_encoding
from attnlib.model.blocks import BLOCKS
from attnlib.model.config import StackConfig, choose
from attnlib.model.own_model import MODELS
from attnlib.predict.kernels import MATH, scored_pairs


class Flops(NamedTuple):
    """FLOPs of matrix products, a multiply and an add counting as two; elementwise work is not counted."""

    forward: int
    backward: int


Components = dict[str, Flops]


def parameters(case: Case) -> int:
    """Return the number of trainable numbers, counted on a model without storage."""
    try:
        with torch.device("meta"):
            model = MODELS[case.model](case)
    except (RuntimeError, NotImplementedError):  # it reads a number of a tensor that has none
        if not case.own_parts:
            raise
        model = MODELS[case.model](case)
    return sum(p.numel() for p in model.parameters())


def forward_flops(config: StackConfig, batch_size: int, pairs: int) -> dict[str, int]:
    """FLOPs of one forward pass by component, attention computing the scores of ``pairs`` pairs a head.

    In each layer a token costs 8 D HK in projections and 4 f D^2 in a feed-forward of width f D, and a pair 4 HK in
    scores and weighted sum; a sequence costs 2 D C in the head; the encoding says its own. A lookup of an embedding
    has no product.
    """
    D, inner, tokens = config.d_model, config.inner, batch_size * config.seq_len
    return {
        "projections": 8 * config.depth * tokens * D * inner,
        "scores": 4 * config.depth * batch_size * pairs * inner,
        "feed_forward": 4 * config.depth * tokens * config.ffn_mult * D**2,
        "encoding": meta_encoding(config).flops(seq_len=config.seq_len, batch_size=batch_size, depth=config.depth),
        "embedding": 0,
        "head": 2 * batch_size * D * config.n_classes,
    }


def algorithmic_flops(config: StackConfig, batch_size: int) -> Components:
    """What the mathematics needs: nothing twice, and under a causal mask the T (T + 1) / 2 pairs that it leaves.

    A product needs two in the backward pass. What an encoding computes without layers goes into no gradient.
    """
    T = config.seq_len
    forward = forward_flops(config, batch_size, T * (T + 1) // 2 if config.causal else T**2)
    return {name: Flops(flops, _needed_back(config, name) * flops) for name, flops in forward.items()}


def executed_flops(config: StackConfig, batch_size: int, kernel: str) -> Components:
    """What the kernels do, as a counter in torch's dispatcher sees it.

    A fused kernel computes the scores once more in the backward pass: five products of the size of Q K^T to the forward
    pass's two. With ``checkpoint`` each layer runs forward once more, up to the last thing that its backward pass
    needs: that is its last product only where the block goes on with the product's output.

    Args:
        config: the stack.
        batch_size: B.
        kernel: of attention, as ``attnlib.predict.kernels.attention_kernel`` names it; ``math`` is the written-out one.
    """
    fused = kernel not in (MATH, "math")
    forward = forward_flops(config, batch_size, scored_pairs(config.seq_len, kernel, causal=config.causal))
    backward = {name: _needed_back(config, name) * flops for name, flops in forward.items()}
    if fused:
        backward["scores"] += forward["scores"] // 2
    if config.checkpoint:
        again = ["projections", "scores", "feed_forward"]
        again += ["encoding"] if meta_encoding(config).overrides("query_bias") else []
        for name in again:
            backward[name] += forward[name]
        if not choose("block", config.block, BLOCKS).needs_output:
            last, width = ("feed_forward", config.ffn_mult * config.d_model) if config.ffn_mult else ("projections", 0)
            backward[last] -= 2 * config.depth * batch_size * config.seq_len * config.d_model * (width or config.inner)
    return {name: Flops(forward[name], backward[name]) for name in forward}


def _needed_back(config: StackConfig, name: str) -> int:
    """Products of the backward pass to one of the forward pass."""
    return 0 if name == "encoding" and config.depth == 0 else 2


def total(components: Mapping[str, Flops], phase: str) -> int:
    """FLOPs of one step of a phase: ``forward``, ``backward`` or ``train_step``, which is both."""
    forward, backward = (sum(flops[i] for flops in components.values()) for i in (0, 1))
    return {"forward": forward, "backward": backward, "train_step": forward + backward}[phase]
