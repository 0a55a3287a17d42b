"""How a sublayer is wrapped into a layer: the difference between a stack that dies and one that learns."""

from collections.abc import Callable

from torch import Tensor, nn

from attnlib.attention import MultiHeadSelfAttention
from attnlib.positional import PositionalEncoding


class FeedForward(nn.Sequential):
    """Linear(D -> mult * D), ReLU, Linear(mult * D -> D), token by token (arXiv 1706.03762, section 3.3)."""

    def __init__(self, *, d_model: int, mult: int) -> None:
        super().__init__(nn.Linear(d_model, mult * d_model), nn.ReLU(), nn.Linear(mult * d_model, d_model))


class Plain(nn.Module):
    """x <- F(x) for the attention and, where there is one, the feed-forward: the original question.

    The other blocks override ``sublayer`` and say which norms they use.

    Args:
        attention: the layer's attention.
        feed_forward: the layer's feed-forward, or None.
        d_model: D, for the norms.
    """

    normed = False  # one LayerNorm a sublayer
    final_norm = False  # one more after the last layer

    def __init__(self, *, attention: MultiHeadSelfAttention, feed_forward: FeedForward | None, d_model: int) -> None:
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

    normed = True

    def sublayer(self, x: Tensor, function: Callable[[Tensor], Tensor], index: int) -> Tensor:
        """Add, then normalise."""
        y: Tensor = self.norms[index](x + function(x))
        return y


class PreNorm(Plain):
    """x <- x + F(LN(x)), with one more LN after the last layer (arXiv 2002.04745)."""

    normed = True
    final_norm = True

    def sublayer(self, x: Tensor, function: Callable[[Tensor], Tensor], index: int) -> Tensor:
        """Normalise, then add."""
        return x + function(self.norms[index](x))


BLOCKS: dict[str, type[Plain]] = {
    "plain": Plain,
    "residual": Residual,
    "post_ln": PostNorm,
    "pre_ln": PreNorm,
}
