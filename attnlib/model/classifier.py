"""From configuration to modules: tokens, encoding, stack, pooling, head. ``build_model`` is the only way."""

import math
from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from attnlib.model.attention import FirstValues, MultiHeadSelfAttention, with_mask
from attnlib.model.blocks import BLOCKS, NORMS, FeedForward, Plain
from attnlib.model.config import StackConfig, choose
from attnlib.model.positional import POSITIONAL, PositionalEncoding


def pool_mean(x: Tensor) -> Tensor:
    """Mean over the tokens: ``[B, T, D]`` to ``[B, D]``."""
    return x.mean(1)


def pool_last(x: Tensor) -> Tensor:
    """The last token, as in the original experiment: ``[B, T, D]`` to ``[B, D]``."""
    return x[:, -1]


def pool_none(x: Tensor) -> Tensor:
    """Every token by itself, for next-token prediction: ``[B, T, D]`` as it is."""
    return x


class PoolAttention(nn.Module):
    """Mean over the tokens with the weights of a learned query q: softmax(x q / sqrt(D)), ``[B, T, D]`` to ``[B, D]``.

    q starts at 0, which is the plain mean.

    Args:
        d_model: width D.
    """

    def __init__(self, d_model: int) -> None:
        super().__init__()
        self.query = nn.Parameter(torch.zeros(d_model))

    def forward(self, x: Tensor) -> Tensor:
        """Return the weighted mean."""
        weights = ((x * self.query).sum(-1) / math.sqrt(x.shape[-1])).softmax(-1)  # [B, T]
        return (weights[..., None] * x).sum(1)


# each is made from the width D
POOLING: dict[str, Callable[[int], Callable[[Tensor], Tensor]]] = {
    "mean": lambda _: pool_mean,
    "last": lambda _: pool_last,
    "attention": PoolAttention,
    "none": lambda _: pool_none,
}


class AttentionStack(nn.Module):
    """Layers one after another, sharing one encoding.

    Args:
        config: the stack; with its ``checkpoint`` only the input of each layer is stored, and the rest is recomputed
            in the backward pass (arXiv 1604.06174).
        layers: the blocks, first to last; none at all is the identity.
        encoding: turns queries and keys, and biases scores, in every layer.
        norm: after the last layer (pre-LN's final LayerNorm), or the identity.
    """

    def __init__(
        self, config: StackConfig, *, layers: list[Plain], encoding: PositionalEncoding, norm: nn.Module
    ) -> None:
        super().__init__()
        self.config = config
        self.layers = nn.ModuleList(layers)
        self.encoding = encoding
        self.norm = norm
        self.by_distance = any(layer.attention.by_distance for layer in layers)
        self.draws = any(isinstance(module, nn.Dropout) for module in self.layers.modules())  # whether again, the same

    def forward(self, x: Tensor) -> Tensor:
        """``[B, T, D]`` to ``[B, T, D]``."""
        shared = (self.encoding, self.bias(x), *([FirstValues()] if self.config.value_residual else []))
        for layer in self.layers:
            if self.config.checkpoint and self.training:
                x = checkpoint(layer, x, *shared, use_reentrant=False, preserve_rng_state=self.draws)
            else:
                x = layer(x, *shared)
        y: Tensor = self.norm(x)
        return y

    def bias(self, x: Tensor) -> Tensor | None:
        """Return what all layers add to their scores, made once a pass: see ``MultiHeadSelfAttention.forward``."""
        if self.by_distance:
            bias = self.encoding.by_distance(x.shape[1])
            return None if bias is None else bias.to(x.dtype)
        return with_mask(self.config, self.encoding.bias(x.shape[1]), x)


def build_encoding(config: StackConfig) -> PositionalEncoding:
    """Build the encoding that ``config`` names.

    Raises:
        ValueError: the name is not registered, **or** the encoding refuses the head width.
    """
    return choose("pe", config.pe, POSITIONAL)(
        seq_len=config.seq_len,
        d_model=config.d_model,
        n_heads=config.n_heads,
        head_dim=config.head_width,
        causal=config.causal,
    )


class SequenceClassifier(nn.Module):
    """Token embedding, positional encoding, attention stack, pooling and a linear head.

    Args:
        config: the whole stack; see ``StackConfig``.

    Raises:
        ValueError: a name in ``config`` is not in its registry.
    """

    def __init__(self, config: StackConfig) -> None:
        super().__init__()
        encoding = build_encoding(config)
        block = choose("block", config.block, BLOCKS)
        self.pool = choose("pooling", config.pooling, POOLING)(config.d_model)
        self.embedding_scale = config.embedding_scale
        self.token_embedding = nn.Embedding(config.vocab_size, config.d_model)
        layers = [
            block(
                attention=MultiHeadSelfAttention(config, index),
                feed_forward=FeedForward(config) if config.ffn_mult else None,
                config=config,
                index=index,
            )
            for index in range(config.depth)
        ]
        norm = choose("norm", config.norm, NORMS)(config.d_model) if block.final_norm else nn.Identity()
        self.stack = AttentionStack(config, layers=layers, encoding=encoding, norm=norm)
        self.head = nn.Linear(config.d_model, config.n_classes)

    def forward(self, tokens: Tensor) -> Tensor:
        """Classify sequences: int64 ``[B, T]`` to logits ``[B, n_classes]``; ``[B, T, n_classes]`` without pooling.

        Raises:
            ValueError: T exceeds the encoding's table.
        """
        x = self.token_embedding(tokens)
        if self.embedding_scale != 1.0:
            x = x * self.embedding_scale
        logits: Tensor = self.head(self.pool(self.stack(self.stack.encoding.embed(x))))
        return logits


def build_model(config: StackConfig) -> SequenceClassifier:
    """Build the classifier that ``config`` describes, drawn from torch's global generator."""
    return SequenceClassifier(config)
