"""Positional encodings behind one interface: what to add to embeddings, how to turn q and k, what to add to scores."""

import torch
from torch import Tensor, nn


class PositionalEncoding(nn.Module):
    """The interface of every encoding, and by itself the encoding ``none``: all answers are "nothing".

    An encoding belongs to the whole stack, so tables and biases are shared by its layers. Subclasses override what
    they need and set nothing outside ``__init__``: time and memory must not depend on what ran before.

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
        """Turn queries and keys by their positions: two ``[B, H, T, K]``, in every layer."""
        return q, k

    def bias(self, seq_len: int) -> Tensor | None:
        """What is added to the scores before the softmax, ``[H, T, T]``, once a forward pass; None for nothing."""
        return None

    def check_length(self, seq_len: int) -> None:
        """Refuse inputs longer than the tables.

        Raises:
            ValueError: ``seq_len`` exceeds the length that the encoding was built for.
        """
        if seq_len > self.seq_len:
            raise ValueError(f"seq_len={seq_len} exceeds the {type(self).__name__} table of {self.seq_len} positions")


class Sinusoidal(PositionalEncoding):
    """PE(p, 2i) = sin(p / 10000^(2i/D)), PE(p, 2i+1) = cos of the same (arXiv 1706.03762, section 3.5).

    No parameters; one ``[T, D]`` table, added once. An odd D leaves out the last cosine.

    Raises:
        ValueError: the input is longer than ``seq_len``.
    """

    def __init__(self, *, seq_len: int, d_model: int, n_heads: int, head_dim: int, causal: bool) -> None:
        super().__init__(seq_len=seq_len, d_model=d_model, n_heads=n_heads, head_dim=head_dim, causal=causal)
        # in float64 and on the CPU whatever the model's dtype, so that positions beyond 2**11 stay exact
        position = torch.arange(seq_len, dtype=torch.float64)[:, None]
        frequency = 10000.0 ** (-torch.arange(0, d_model, 2, dtype=torch.float64) / d_model)
        table = torch.stack([(position * frequency).sin(), (position * frequency).cos()], dim=-1)
        table = table.flatten(1)[:, :d_model].to(torch.get_default_dtype())
        self.register_buffer("table", table, persistent=False)  # [T, D]

    def embed(self, x: Tensor) -> Tensor:
        """Add the table: ``[B, T, D]``."""
        self.check_length(x.shape[1])
        return x + self.get_buffer("table")[: x.shape[1]]


class Learned(PositionalEncoding):
    """A table of ``seq_len`` vectors learned by backpropagation (arXiv 1705.03122): T x D parameters, N(0, 1).

    Raises:
        ValueError: the input is longer than ``seq_len``.
    """

    def __init__(self, *, seq_len: int, d_model: int, n_heads: int, head_dim: int, causal: bool) -> None:
        super().__init__(seq_len=seq_len, d_model=d_model, n_heads=n_heads, head_dim=head_dim, causal=causal)
        self.table = nn.Embedding(seq_len, d_model)

    def embed(self, x: Tensor) -> Tensor:
        """Add the first T rows of the table: ``[B, T, D]``."""
        self.check_length(x.shape[1])
        return x + self.table.weight[: x.shape[1]]


POSITIONAL: dict[str, type[PositionalEncoding]] = {
    "none": PositionalEncoding,
    "sinusoidal": Sinusoidal,
    "learned": Learned,
}
