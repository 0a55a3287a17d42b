"""What a stack should cost, counted from its configuration: parameters and FLOPs."""

import torch

from attnlib.model.blocks import BLOCKS
from attnlib.model.classifier import build_encoding, build_model
from attnlib.model.config import StackConfig, choose
from attnlib.model.positional import PositionalEncoding


def parameters(config: StackConfig) -> int:
    """Number of trainable numbers, counted on a model without storage."""
    with torch.device("meta"):
        return sum(p.numel() for p in build_model(config).parameters())


def encoding(config: StackConfig) -> PositionalEncoding:
    """The encoding without storage."""
    with torch.device("meta"):
        return build_encoding(config)


def layer_flops(config: StackConfig, batch_size: int) -> int:
    """FLOPs of one layer's matrix products in a forward pass.

    A token costs 8 D HK in projections, 4 T HK in attention and 4 f D^2 in a feed-forward of width f D.
    """
    D, T, inner = config.d_model, config.seq_len, config.inner
    return batch_size * T * (8 * D * inner + 4 * T * inner + 4 * config.ffn_mult * D**2)


def forward_flops(config: StackConfig, batch_size: int) -> int:
    """FLOPs of the matrix products of one forward pass (a multiply and an add are two).

    ``layer_flops`` in each layer, 2 D C a sequence in the head, and what the encoding's ``flops`` says. A causal mask
    is counted as if it saved nothing, as the math backend does.
    """
    own = encoding(config).flops(seq_len=config.seq_len, batch_size=batch_size, depth=config.depth)
    head = 2 * batch_size * config.d_model * config.n_classes
    return config.depth * layer_flops(config, batch_size) + head + own


def train_flops(config: StackConfig, batch_size: int, *, fused: bool) -> int:
    """FLOPs of one forward and backward pass: a product needs two in the backward pass.

    A fused attention kernel recomputes the scores, one product more: five products of the size of QK^T backward to two
    forward. With ``checkpoint`` each layer runs forward once more, up to the last thing that its backward pass needs:
    that is its last product only where the block goes on with the product's output.

    Args:
        config: the stack.
        batch_size: B.
        fused: whether a fused kernel runs, which depends on the device.
    """
    flops = 3 * forward_flops(config, batch_size)
    tokens = batch_size * config.seq_len
    if fused:
        flops += 2 * config.seq_len * config.inner * config.depth * tokens
    if config.checkpoint:
        flops += config.depth * layer_flops(config, batch_size)
        if encoding(config).overrides("query_bias"):
            flops += encoding(config).flops(seq_len=config.seq_len, batch_size=batch_size, depth=config.depth)
        if not choose("block", config.block, BLOCKS).needs_output:
            last = config.ffn_mult * config.d_model if config.ffn_mult else config.inner
            flops -= 2 * config.depth * tokens * config.d_model * last
    return flops
