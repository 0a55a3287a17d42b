"""Parameters and FLOPs of a stack, by component and direction, counted from its configuration."""

from collections.abc import Mapping
from typing import NamedTuple

from attnlib.cases.case import Case, meta_encoding, meta_model
from attnlib.model.blocks import BLOCKS
from attnlib.model.config import StackConfig, choose
from attnlib.predict.choice import MATH
from attnlib.predict.kernels import scored_pairs


class Flops(NamedTuple):
    """FLOPs of matrix products; a multiplication and an addition count as two, elementwise operations as none."""

    forward: int
    backward: int


Components = dict[str, Flops]


def parameters(case: Case) -> int:
    """Return the number of trainable parameters, counted on a model without storage."""
    return sum(p.numel() for p in meta_model(case).parameters())


def forward_flops(config: StackConfig, batch_size: int, pairs: int) -> dict[str, int]:
    """Return the FLOPs of one forward pass by component.

    In each layer a token costs 4 D (HK + GK) in the four projections, 2 D HK more with a gate, and 4 D F in a
    feed-forward of hidden width F, 6 D F if that is gated; and a pair of query and key costs 4 HK in score and weighted
    sum, where each head computes ``pairs`` of them in a sequence. A sequence costs 2 D C in the classifier. The
    encoding counts its own. An embedding is a lookup, without products.
    """
    D, inner, tokens = config.d_model, config.inner, batch_size * config.seq_len
    gate = 2 * inner * (config.gate != "none")
    return {
        "projections": config.depth * tokens * D * (4 * (inner + config.kv_inner) + gate),
        "scores": 4 * config.depth * batch_size * pairs * inner,
        "feed_forward": 2 * config.depth * tokens * D * config.hidden * (2 + config.gated),
        "encoding": meta_encoding(config).flops(seq_len=config.seq_len, batch_size=batch_size, depth=config.depth),
        "embedding": 0,
        "head": 2 * batch_size * D * config.n_classes,
    }


def visible_pairs(config: StackConfig) -> int:
    """Return the number of pairs of a query and a key that causal mask and window leave in a sequence."""
    T = config.seq_len
    sees = min(T, config.window or T)  # keys up to the query's own
    before = sees * (sees + 1) // 2 + (T - sees) * sees
    return before if config.causal else 2 * before - T


def algorithmic_flops(config: StackConfig, batch_size: int) -> Components:
    """Return the FLOPs that the algorithm needs, without recomputation and of the pairs that are not hidden.

    Each product of the forward pass needs two in the backward pass, but for those of an encoding in a stack without
    layers, which no gradient depends on.
    """
    forward = forward_flops(config, batch_size, visible_pairs(config))
    return {name: Flops(flops, _needed_back(config, name) * flops) for name, flops in forward.items()}


def executed_flops(config: StackConfig, batch_size: int, kernel: str) -> Components:
    """Return the FLOPs that the kernels execute, as a counter in torch's dispatcher sees them.

    A fused kernel recomputes the scores in the backward pass: five products of the size of Q K^T, against two in the
    forward pass. With ``checkpoint`` the backward pass runs each layer forward again, as far as it needs the results:
    the layer's last product only if the block uses its output further.

    Args:
        config: the stack.
        batch_size: B.
        kernel: attention kernel, as ``attnlib.predict.choice.attention_kernel`` names it; ``math`` is the unfused one.
    """
    encoding = meta_encoding(config)
    # with a bias the kernel gets the mask in it, and computes all pairs
    skips = config.causal and not encoding.biases and not config.masked_by_bias
    pairs = scored_pairs(config.seq_len, config.seq_len + config.sink, kernel, causal=skips)
    forward = forward_flops(config, batch_size, pairs)
    backward = {name: _needed_back(config, name) * flops for name, flops in forward.items()}
    if kernel not in (MATH, "math"):
        backward["scores"] += forward["scores"] // 2
    if config.checkpoint:
        recomputed = ["projections", "scores", "feed_forward"]
        recomputed += ["encoding"] if encoding.by_content else []
        for name in recomputed:
            backward[name] += forward[name]
        if not choose("block", config.block, BLOCKS).needs_output:
            last, width = "projections", config.inner
            if config.ffn_mult:
                last, width = "feed_forward", config.hidden
            backward[last] -= 2 * config.depth * batch_size * config.seq_len * width * config.d_model
    return {name: Flops(forward[name], backward[name]) for name in forward}


def _needed_back(config: StackConfig, name: str) -> int:
    """Return the products in the backward pass for each in the forward pass."""
    return 0 if name == "encoding" and config.depth == 0 else 2


def total(components: Mapping[str, Flops], phase: str) -> int:
    """Return the FLOPs of one step of a phase: ``forward``, ``backward``, or ``train_step`` for both."""
    forward, backward = (sum(flops[i] for flops in components.values()) for i in (0, 1))
    return {"forward": forward, "backward": backward, "train_step": forward + backward}[phase]
