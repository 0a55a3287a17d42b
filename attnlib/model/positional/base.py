"""The interface of every encoding: what to add to embeddings, how to turn q and k, what to add to scores."""

from collections.abc import Callable

import torch
from torch import Tensor, nn

from attnlib.errors import message


class PositionalEncoding(nn.Module):
    """No positions at all: the encoding ``none``, and the interface that every other one overrides in part.

    An encoding belongs to the whole stack, so tables and biases are shared by its layers. Subclasses override what
    they need and set nothing outside ``__init__``: time and memory must not depend on what ran before. What they add or
    turn is computed in float32 or wider and rounded once; tables, which are buffers, stay in float32 or wider whatever
    dtype the model gets.

    Args:
        seq_len: the longest input, T.
        d_model: width of a token, D.
        n_heads: H.
        head_dim: width of a head, K.
        causal: whether the layers are masked, for encodings that differ then.
    """

    def __init__(self, *, seq_len: int, d_model: int, n_heads: int, head_dim: int, causal: bool) -> None:
        super().__init__()
        self.seq_len, self.d_model = seq_len, d_model
        self.n_heads, self.head_dim, self.causal = n_heads, head_dim, causal

    def embed(self, x: Tensor) -> Tensor:
        """Add positions to token embeddings: ``[B, T, D]`` to ``[B, T, D]``, once, before the first layer."""
        return x

    def rotate(self, q: Tensor, k: Tensor) -> tuple[Tensor, Tensor]:
        """Turn queries ``[B, H, T, K]`` and keys ``[B, G, T, K]`` by their positions, in every layer."""
        return q, k

    def bias(self, seq_len: int) -> Tensor | None:
        """Return the bias of the scores before the softmax, ``[H, T, T]``, once a forward pass; None for none.

        In float32 or wider: the stack rounds it to its own dtype.
        """
        values = self.by_distance(seq_len)
        return None if values is None else spread_over_pairs(values)

    def by_distance(self, seq_len: int) -> Tensor | None:
        """Return a bias that depends on j - i only: its values for j - i = -(T - 1) .. T - 1, ``[H, 2T - 1]``, or None.

        A backend that computes scores one by one takes these instead of ``[H, T, T]``.
        """
        return None

    def query_bias(self, q: Tensor) -> Tensor | None:
        """Return the bias of the scores of queries ``[B, H, T, K]``: ``[B, H, T, T]`` in every layer, or None."""
        return None

    def pair_bias(self, q: Tensor, k: Tensor) -> Tensor | None:
        """Return the bias of the scores of queries and keys, each ``[B, H, T, K]``: ``[B, H, T, T]`` or None.

        It is ``query_bias`` for an encoding to which the keys do not matter.
        """
        return self.query_bias(q)

    def flops(self, *, seq_len: int, batch_size: int, depth: int) -> int:
        """FLOPs of its own matrix products in one forward pass of a stack; elementwise work is not counted."""
        return 0

    def overrides(self, *methods: str) -> bool:
        """Return True if this encoding's class overrides one of these methods; tells how it acts without a run."""
        return any(getattr(type(self), name) is not getattr(PositionalEncoding, name) for name in methods)

    @property
    def biases(self) -> bool:
        """True if the encoding adds a bias to the scores."""
        return self.overrides("bias", "by_distance") or self.by_content

    @property
    def by_content(self) -> bool:
        """True if the bias depends on queries or keys, so that every layer has its own."""
        return self.overrides("query_bias", "pair_bias")

    @property
    def learns_bias(self) -> bool:
        """True if the bias of the scores needs a gradient, which not every fused kernel computes."""
        learned = any(parameter.requires_grad for parameter in self.parameters())
        return learned and self.biases

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> "PositionalEncoding":
        """Apply a function such as that of ``.to`` to all tensors, but keep tables in float32 at least."""
        tables = {name: table for name, table in self.named_buffers(recurse=False) if table.is_floating_point()}
        super()._apply(fn, recurse)  # type: ignore[no-untyped-call]
        for name, table in tables.items():
            moved = self.get_buffer(name)
            if torch.finfo(moved.dtype).bits < 32:
                setattr(self, name, at_least_float32(table).to(moved.device))
        return self

    def check_length(self, seq_len: int) -> None:
        """Refuse inputs longer than the tables.

        Raises:
            ValueError: ``seq_len`` exceeds the length that the encoding was built for.
        """
        if seq_len > self.seq_len:
            wrong = f"seq_len={seq_len} exceeds the {type(self).__name__} table of {self.seq_len} positions"
            raise ValueError(message(wrong, do="make it with a larger seq_len"))


def relative_positions(seq_len: int, device: torch.device) -> Tensor:
    """Key minus query position, j - i: int64 ``[T, T]``."""
    position = torch.arange(seq_len, device=device)
    return position - position[:, None]  # row i is query i, column j is key j


def spread_over_pairs(values: Tensor) -> Tensor:
    """Lay one value for each of j - i = -(T - 1) .. T - 1 over all pairs: ``[H, 2T - 1]`` to ``[H, T, T]``.

    So that what a bias costs to compute, and to go back through, grows with T and only its copy with T^2.
    """
    seq_len = (values.shape[-1] + 1) // 2
    index = relative_positions(seq_len, values.device) + seq_len - 1  # [T, T]: distance 1 - T stands at 0
    return values.index_select(-1, index.flatten()).view(-1, seq_len, seq_len)


def at_least_float32(x: Tensor) -> Tensor:
    """``x`` in float32 or wider: a gradient that sums over many pairs is lost in 8 or 11 bits."""
    return x.to(torch.promote_types(x.dtype, torch.float32))


def table_dtype() -> torch.dtype:
    """The dtype of new tables: torch's default, but no narrower than float32."""
    return torch.promote_types(torch.get_default_dtype(), torch.float32)
