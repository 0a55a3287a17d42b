"""Blocks: how skip connections and norms wrap a sublayer, which decides whether deep stacks can learn."""

import inspect
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from attnlib.errors import message
from attnlib.model.attention import FirstValues, MultiHeadSelfAttention, init_unit
from attnlib.model.config import StackConfig, choose
from attnlib.model.positional import PositionalEncoding
from attnlib.model.registry import Registry, called, check_theory, fits

EPS = 1e-5  # of both norms: torch.nn.LayerNorm's own


def layer_norm(width: int) -> nn.Module:
    """Subtract the mean, divide by sqrt(variance + eps), times a gain, plus a bias: LayerNorm (arXiv 1607.06450)."""
    return nn.LayerNorm(width, eps=EPS)


def rms_norm(width: int) -> nn.Module:
    """Divide by sqrt(mean x^2 + eps), times a gain: RMSNorm (arXiv 1910.07467)."""
    return nn.RMSNorm(width, eps=EPS)


NORMS: dict[str, Callable[[int], nn.Module]] = {"layer": layer_norm, "rms": rms_norm}


class Gated(nn.Module):
    """f(a) b of the halves a, b of the input's last dimension (arXiv 2002.05202): ``[..., 2 F]`` to ``[..., F]``.

    Args:
        function: f.
    """

    def __init__(self, function: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.function = function

    def forward(self, x: Tensor) -> Tensor:
        """Multiply one half's activation by the other half."""
        a, b = x.chunk(2, -1)
        return self.function(a) * b


def relu() -> nn.Module:
    """Return max(x, 0) (arXiv 1706.03762)."""
    return nn.ReLU()


def gelu() -> nn.Module:
    """Return x times the normal distribution function of x (arXiv 1606.08415)."""
    return nn.GELU()


def swiglu() -> nn.Module:
    """Return silu(a) b of two projections a, b (arXiv 2002.05202)."""
    return Gated(F.silu)


def geglu() -> nn.Module:
    """Return gelu(a) b of two projections a, b (arXiv 2002.05202)."""
    return Gated(F.gelu)


ACTIVATIONS: dict[str, Callable[[], nn.Module]] = {"relu": relu, "gelu": gelu, "swiglu": swiglu, "geglu": geglu}


class FeedForward(nn.Sequential):
    """Linear(D -> F), activation, Linear(F -> D), token by token (arXiv 1706.03762, section 3.3).

    F = ``ffn_mult`` D. A gated activation has two projections of the input, fused in one of width 2 F, and F is two
    thirds as large, so that the number of parameters stays (arXiv 2002.05202).

    Args:
        config: the stack. With its init ``unit`` both are drawn as ``attnlib.model.attention.init_unit`` does; the
            others keep torch.nn.Linear's defaults, as torch.nn.TransformerEncoderLayer does.

    Raises:
        ValueError: the activation is unknown.
    """

    def __init__(self, config: StackConfig) -> None:
        activation = choose("activation", config.activation, ACTIVATIONS)
        first = nn.Linear(config.d_model, config.hidden * (1 + config.gated))
        second = nn.Linear(config.hidden, config.d_model)
        super().__init__(first, activation(), second)
        if config.init == "unit":
            init_unit(first, second)


# Factors of a branch beside a skip connection, among N of the stack: on its last weights, once, and on its output.


def no_scale(branches: int) -> tuple[float, float]:  # noqa: ARG001 - as the others
    """Branches are added as they are, whatever the depth (arXiv 1512.03385)."""
    return 1.0, 1.0


def gpt2_scale(branches: int) -> tuple[float, float]:
    """The last weights of each of N branches start at 1/sqrt(N) of what they would (GPT-2, section 2.3)."""
    return branches**-0.5, 1.0


def depth_mup_scale(branches: int) -> tuple[float, float]:
    """The output of each of N branches is multiplied by 1/sqrt(N), always (arXiv 2310.02244)."""
    return 1.0, branches**-0.5


SCALES = {"none": no_scale, "gpt2": gpt2_scale, "depth_mup": depth_mup_scale}


class Plain(nn.Module):
    """x <- F(x) for the attention and, where there is one, the feed-forward: the original question.

    The other blocks override ``sublayer`` and say which norms they use.

    Args:
        attention: the layer's attention.
        feed_forward: the layer's feed-forward, or None.
        config: the stack, for the norms' width and kind, and for what grows with its depth.
        index: number of the layer, 0 for the first.

    Raises:
        ValueError: norm or ``depth_scale`` is unknown.
    """

    normed = 0  # norms a sublayer
    needs_output = False  # whether the backward pass needs what a sublayer gives, and not only what it was given
    final_norm = False  # one more after the last layer

    def __init__(
        self,
        *,
        attention: MultiHeadSelfAttention,
        feed_forward: FeedForward | None,
        config: StackConfig,
        index: int = 0,
    ) -> None:
        super().__init__()
        self.attention = attention
        self.feed_forward = feed_forward
        self.index = index
        sublayers = 1 + (feed_forward is not None)
        norm = choose("norm", config.norm, NORMS)
        self.norms = nn.ModuleList(norm(config.d_model) for _ in range(self.normed * sublayers))
        scale = choose("depth_scale", config.depth_scale, SCALES)
        weights, self.branch_scale = scale(max(1, config.depth * sublayers))
        if weights != 1:
            with torch.no_grad():
                for last in [
                    attention.out.weight,
                    *([] if feed_forward is None else [feed_forward.get_parameter("2.weight")]),
                ]:
                    last *= weights

    def sublayer(self, x: Tensor, function: Callable[[Tensor], Tensor], index: int) -> Tensor:
        """Wrap ``function``, the sublayer number ``index``: ``[B, T, D]`` to ``[B, T, D]``."""
        return function(x)

    def forward(
        self, x: Tensor, encoding: PositionalEncoding, bias: Tensor | None, first: FirstValues | None = None
    ) -> Tensor:
        """One layer: ``[B, T, D]`` to ``[B, T, D]``; see ``MultiHeadSelfAttention.forward``."""
        x = self.sublayer(x, lambda y: self.scaled(self.attention(y, encoding, bias, first)), 0)
        if (feed_forward := self.feed_forward) is not None:
            x = self.sublayer(x, lambda y: self.scaled(feed_forward(y)), 1)
        return x

    def scaled(self, branch: Tensor) -> Tensor:
        """Multiply a branch's output by ``branch_scale``."""
        return branch if self.branch_scale == 1 else branch * self.branch_scale


class Residual(Plain):
    """x <- x + F(x) (arXiv 1512.03385)."""

    def sublayer(self, x: Tensor, function: Callable[[Tensor], Tensor], index: int) -> Tensor:
        """Add the sublayer to its input."""
        return x + function(x)


class PostNorm(Plain):
    """x <- LN(x + F(x)) (arXiv 1706.03762); LN is the norm that the configuration names."""

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


class ScaledPreNorm(PreNorm):
    """x <- x + F(LN(x) / sqrt(l)) in layer l = 1, 2, ...: LayerNorm Scaling (arXiv 2502.05795)."""

    def sublayer(self, x: Tensor, function: Callable[[Tensor], Tensor], index: int) -> Tensor:
        """Normalise, divide by the root of the layer's number, then add."""
        return x + function(self.norms[index](x) * (self.index + 1) ** -0.5)


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
        self,
        *,
        attention: MultiHeadSelfAttention,
        feed_forward: FeedForward | None,
        config: StackConfig,
        index: int = 0,
    ) -> None:
        super().__init__(attention=attention, feed_forward=feed_forward, config=config, index=index)
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
        self,
        *,
        attention: MultiHeadSelfAttention,
        feed_forward: FeedForward | None,
        config: StackConfig,
        index: int = 0,
    ) -> None:
        super().__init__(attention=attention, feed_forward=feed_forward, config=config, index=index)
        self.skip = (2 * config.depth) ** 0.25
        weights = [attention.by_role(attention.qkv.weight)["v"], attention.out.weight]
        weights += [linear.weight for linear in feed_forward or () if isinstance(linear, nn.Linear)]
        with torch.no_grad():
            for weight in weights:
                weight *= (8 * config.depth) ** -0.25

    def sublayer(self, x: Tensor, function: Callable[[Tensor], Tensor], index: int) -> Tensor:
        """Add the sublayer to the enlarged skip, then normalise."""
        y: Tensor = self.norms[index](self.skip * x + function(x))
        return y


OFFERED = ("d_model", "depth", "sublayers", "index")


def own_block(made: Any, name: str) -> type[Plain]:
    """Return somebody else's block as one of ours: a class whose method ``sublayer(x, function, index)`` wraps.

    Its constructor is called with those of the keywords ``d_model``, ``depth``, ``sublayers`` (how many a layer has)
    and ``index`` (of the layer, 0 for the first) that it takes. A subclass of ``Plain`` is taken as it is.

    Raises:
        ValueError: it is no class, **or** has no such method, **or** needs other arguments.
    """
    if not isinstance(made, type) or not hasattr(made, "sublayer"):
        raise ValueError(message(f"block {name!r} must be a class with a method sublayer(x, function, index)"))
    if why := fits(made.sublayer, *[None] * 4):
        raise ValueError(message(f"block {name!r}: sublayer must take x, function and index: {why}"))
    check_theory(made, f"block {name!r}")
    if issubclass(made, Plain):
        if why := fits(made, attention=None, feed_forward=None, config=None, index=None):
            wrong = f"block {name!r} must take the keywords attention, feed_forward, config and index"
            raise ValueError(message(f"{wrong}: {why}"))
        return made
    taken = inspect.signature(made).parameters
    if why := fits(made, **{key: None for key in OFFERED if key in taken}):
        raise ValueError(message(f"block {name!r} must need no keywords but {', '.join(OFFERED)}: {why}"))

    class OwnBlock(Plain):
        """A layer whose sublayers somebody else's class wraps."""

        needs_output = True
        final_norm = bool(getattr(made, "final_norm", False))

        def __init__(
            self,
            *,
            attention: MultiHeadSelfAttention,
            feed_forward: FeedForward | None,
            config: StackConfig,
            index: int = 0,
        ) -> None:
            super().__init__(attention=attention, feed_forward=feed_forward, config=config, index=index)
            sublayers = 1 + (feed_forward is not None)
            offered = {"d_model": config.d_model, "depth": config.depth, "sublayers": sublayers, "index": index}
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
    "lns": ScaledPreNorm,
}
BLOCKS = Registry("block", BUILT_IN, own_block, "attnlib.blocks")
