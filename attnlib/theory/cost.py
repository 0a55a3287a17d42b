"""What a stack should cost, counted from its configuration: parameters and FLOPs."""

import torch

from attnlib.model.classifier import build_encoding, build_model
from attnlib.model.config import StackConfig
from attnlib.model.positional import PositionalEncoding


def parameters(config: StackConfig) -> int:
    """Number of trainable numbers, counted on a model without storage."""
    with torch.device("meta"):
        return sum(p.numel() for p in build_model(config).parameters())


def encoding(config: StackConfig) -> PositionalEncoding:
    """The encoding without storage."""
    with torch.device("meta"):
        return build_encoding(config)


def forward_flops(config: StackConfig, batch_size: int) -> int:
    """FLOPs of the matrix products of one forward pass (a multiply and an add are two).

    A token costs 8 D HK in projections, 4 T HK in attention and 4 f D^2 in a feed-forward of width f D, in each
    layer; the head costs 2 D C a sequence, and an encoding what its ``flops`` says. A causal mask is counted as if it
    saved nothing, as the math backend does.
    """
    D, T, inner = config.d_model, config.seq_len, config.inner
    layer = T * (8 * D * inner + 4 * T * inner + 4 * config.ffn_mult * D**2)
    own = encoding(config).flops(seq_len=T, batch_size=batch_size, depth=config.depth)
    return batch_size * (config.depth * layer + 2 * D * config.n_classes) + own


def train_flops(config: StackConfig, batch_size: int) -> int:
    """FLOPs of one forward and backward pass: a product needs two in the backward pass.

    The fused kernel recomputes the scores, one product more: five products of the size of QK^T backward to two forward.
    It is counted for ``sdpa`` unless the encoding learns a bias, with which a CPU runs the written-out kernel.
    """
    extra = 2 * config.seq_len**2 * config.inner * config.depth * batch_size
    fused = config.attention == "sdpa" and not encoding(config).learns_bias
    return 3 * forward_flops(config, batch_size) + (extra if fused else 0)
