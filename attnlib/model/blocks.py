"""Blocks: how skip connections and norms wrap a sublayer, which decides whether deep stacks can learn."""

import inspect
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from attnlib.model.attention import MultiHeadSelfAttention, init_unit
from attnlib.model.positional import PositionalEncoding
from attnlib.model.registry import Registry, called, check_theory, fits


class FeedForward(nn.Sequential):
    """Linear(D -> mult * D), ReLU, Linear(mult * D -> D), token by token (arXiv 1706.03762, section 3.3).

    Args:
        d_model: D.
        mult: hidden width over D.
        init: ``unit`` draws as ``attnlib.model.attention.init_unit``; the others keep torch.nn.Linear's defaults, as
            torch.nn.TransformerEncoderLayer does.
    """

    def __init__(self, *, d_model: int, mult: int, init: str = "torch_mha") -> None:
        first, second = nn.Linear(d_model, mult * d_model), nn.Linear(mult * d_model, d_model)
        super().__init__(first, nn.ReLU(), second)
        if init == "unit":
            init_unit(first, second)


class Plain(nn.Module):
    """x <- F(x) for the attention and, where there is one, the feed-forward: the original question.

    The other blocks override ``sublayer`` and say which norms they use.

    Args:
        attention: the layer's attention.
        feed_forward: the layer's feed-forward, or None.
        d_model: D, for the norms.
        depth: L, for blocks that scale with it.
    """

    normed = 0  # LayerNorms a sublayer
    needs_output = False  # whether the backward pass needs what a sublayer gives, and not only what it was given
    final_norm = False  # one more after the last layer

    def __init__(
        self, *, attention: MultiHeadSelfAttention, feed_forward: FeedForward | None, d_model: int, depth: int
    ) -> None:
        super().__init__()
        self.attention = attention
        self.feed_forward = feed_forward
        self.norms = nn.ModuleList(nn.LayerNorm(d_model) for _ in range(self.normed * (1 + (feed_forward is not None))))

    def sublayer(self, x: Tensor, function: Callable[[Tensor], Tensor], index: int) -> Tensor:
        """Wrap ``function``, the sublayer number ``index``: ``[B, T, D]`` to ``[B, T, D]``."""
        return function(x)

    def forward(self, x: Tensor, encoding: PositionalEncoding, bias: Tensor | None) -> Tensor:
        """One layer: ``[B, T, D]`` to ``[B, T, D]``."""
        x = self.sublayer(x, lambda y: self.attention(y, encoding, bias), 0)
        if self.feed_forward is not None:
            x = self.sublayer(x, self.feed_forward, 1)
        return x


class Residual(Plain):
    """x <- x + F(x) (arXiv 1512.03385)."""

    def sublayer(self, x: Tensor, function: Callable[[Tensor], Tensor], index: int) -> Tensor:
        """Add the sublayer to its input."""
        return x + function(x)


class PostNorm(Plain):
    """x <- LN(x + F(x)) (arXiv 1706.03762)."""

    normed = 1
    needs_output = True

    def sublayer(self, x: Tensor, function: Callable[[Tensor], Tensor], index: int) -> Tensor:
        """Add, then normalise."""
        y: Tensor = self.norms[index](x + function(x))
        return y


class PreNorm(Plain):
    """x <- x + F(LN(x)), with one more LN after the last layer (arXiv 2002.04745)."""

    normed = 1
    final_norm = True

    def sublayer(self, x: Tensor, function: Callable[[Tensor], Tensor], index: int) -> Tensor:
        """Normalise, then add."""
        return x + function(self.norms[index](x))


class PeriNorm(Plain):
    """x <- x + LN(F(LN(x))), with one more LN after the last layer (Peri-LN, arXiv 2502.02732)."""

    normed = 2
    needs_output = True
    final_norm = True

    def sublayer(self, x: Tensor, function: Callable[[Tensor], Tensor], index: int) -> Tensor:
        """Normalise before and after, then add."""
        before, after = self.norms[2 * index], self.norms[2 * index + 1]
        y: Tensor = x + after(function(before(x)))
        return y


class ReZero(Plain):
    """x <- x + a F(x) with one scalar a a layer, learned from 0: the identity at initialisation (arXiv 2003.04887)."""

    needs_output = True

    def __init__(
        self, *, attention: MultiHeadSelfAttention, feed_forward: FeedForward | None, d_model: int, depth: int
    ) -> None:
        super().__init__(attention=attention, feed_forward=feed_forward, d_model=d_model, depth=depth)
        self.gate = nn.Parameter(torch.zeros(()))

    def sublayer(self, x: Tensor, function: Callable[[Tensor], Tensor], index: int) -> Tensor:
        """Add the sublayer times the gate."""
        return x + self.gate * function(x)


class DeepNorm(Plain):
    """x <- LN(a x + F(x)), a = (2L)^(1/4); V, out and feed-forward start (8L)^(-1/4) as large (arXiv 2203.00555).

    These are the paper's constants for encoder-only and decoder-only stacks.
    """

    normed = 1
    needs_output = True

    def __init__(
        self, *, attention: MultiHeadSelfAttention, feed_forward: FeedForward | None, d_model: int, depth: int
    ) -> None:
        super().__init__(attention=attention, feed_forward=feed_forward, d_model=d_model, depth=depth)
        self.skip = (2 * depth) ** 0.25
        weights = [attention.by_role(attention.qkv.weight)["v"], attention.out.weight]
        weights += [linear.weight for linear in feed_forward or () if isinstance(linear, nn.Linear)]
        with torch.no_grad():
            for weight in weights:
                weight *= (8 * depth) ** -0.25

    def sublayer(self, x: Tensor, function: Callable[[Tensor], Tensor], index: int) -> Tensor:
        """Add the sublayer to the enlarged skip, then normalise."""
        y: Tensor = self.norms[index](self.skip * x + function(x))
        return y


def own_block(made: Any, name: str) -> type[Plain]:
    """Return somebody else's block as one of ours: a class whose method ``sublayer(x, function, index)`` wraps.

    Its constructor is called with those of the keywords ``d_model``, ``depth`` and ``sublayers`` (how many a layer has)
    that it takes. A subclass of ``Plain`` is taken as it is.

    Raises:
        ValueError: it is no class, **or** has no such method, **or** needs other arguments.
    """
    if not isinstance(made, type) or not hasattr(made, "sublayer"):
        raise ValueError(f"block {name!r} must be a class with a method sublayer(x, function, index)")
    if why := fits(made.sublayer, *[None] * 4):
        raise ValueError(f"block {name!r}: sublayer takes x, function and index: {why}")
    check_theory(made, f"block {name!r}")
    if issubclass(made, Plain):
        return made
    taken = inspect.signature(made).parameters
    if why := fits(made, **{key: None for key in ("d_model", "depth", "sublayers") if key in taken}):
        raise ValueError(f"block {name!r} may only need the keywords d_model, depth and sublayers: {why}")

    class OwnBlock(Plain):
        """A layer whose sublayers somebody else's class wraps."""

        needs_output = True
        final_norm = bool(getattr(made, "final_norm", False))

        def __init__(
            self, *, attention: MultiHeadSelfAttention, feed_forward: FeedForward | None, d_model: int, depth: int
        ) -> None:
            super().__init__(attention=attention, feed_forward=feed_forward, d_model=d_model, depth=depth)
            offered = {"d_model": d_model, "depth": depth, "sublayers": 1 + (feed_forward is not None)}
            self.own = called(f"block {name!r}", made, **{key: offered[key] for key in offered if key in taken})

        def sublayer(self, x: Tensor, function: Callable[[Tensor], Tensor], index: int) -> Tensor:
            """Wrap a sublayer: ``[B, T, D]`` to ``[B, T, D]``."""
            y: Tensor = self.own.sublayer(x, function, index)
            return y

    return OwnBlock


BUILT_IN: dict[str, type[Plain]] = {
    "plain": Plain,
    "residual": Residual,
    "post_ln": PostNorm,
    "pre_ln": PreNorm,
    "peri_ln": PeriNorm,
    "rezero": ReZero,
    "deepnorm": DeepNorm,
}
BLOCKS = Registry("block", BUILT_IN, own_block, "attnlib.blocks")
