"""Encodings that are added to the embeddings, once: sinusoidal, learned, and learned with random offsets."""

import torch
from torch import Tensor, nn

from attnlib.model.positional.base import PositionalEncoding, table_dtype


class Sinusoidal(PositionalEncoding):
    """PE(p, 2i) = sin(p / 10000^(2i/D)), PE(p, 2i+1) = cos of the same (arXiv 1706.03762, section 3.5).

    No parameters; one ``[T, D]`` table, added once: T D additions a sequence. An odd D leaves out the last cosine.

    Raises:
        ValueError: the input is longer than ``seq_len``.
    """

    def __init__(self, *, seq_len: int, d_model: int, n_heads: int, head_dim: int, causal: bool) -> None:
        super().__init__(seq_len=seq_len, d_model=d_model, n_heads=n_heads, head_dim=head_dim, causal=causal)
        # in float64 and on the CPU whatever the model's dtype, so that positions beyond 2**11 stay exact
        position = torch.arange(seq_len, dtype=torch.float64)[:, None]  # [T, 1]
        frequency = 10000.0 ** (-torch.arange(0, d_model, 2, dtype=torch.float64) / d_model)  # [D/2]
        table = torch.stack([(position * frequency).sin(), (position * frequency).cos()], dim=-1)  # [T, D/2, 2]
        table = table.flatten(1)[:, :d_model].to(table_dtype())  # [T, D], sine and cosine by turns
        self.register_buffer("table", table, persistent=False)  # [T, D]

    def embed(self, x: Tensor) -> Tensor:
        """Add the table: ``[B, T, D]``."""
        self.check_length(x.shape[1])
        return (x + self.get_buffer("table")[: x.shape[1]]).to(x.dtype)


class Learned(PositionalEncoding):
    """A table of ``seq_len`` vectors learned by backpropagation (arXiv 1705.03122): T x D parameters, N(0, scale^2).

    T D additions a sequence. How small it starts can decide what is learned (arXiv 2406.08272).

    Args:
        seq_len: T.
        d_model: D.
        n_heads: H; not used.
        head_dim: K; not used.
        causal: not used.
        scale: standard deviation of the first values: 1, torch.nn.Embedding's own, unless said otherwise.

    Raises:
        ValueError: the input is longer than ``seq_len``.
    """

    def __init__(
        self, *, seq_len: int, d_model: int, n_heads: int, head_dim: int, causal: bool, scale: float = 1.0
    ) -> None:
        super().__init__(seq_len=seq_len, d_model=d_model, n_heads=n_heads, head_dim=head_dim, causal=causal)
        self.table = nn.Embedding(seq_len, d_model)
        with torch.no_grad():
            self.table.weight *= scale

    def embed(self, x: Tensor) -> Tensor:
        """Add the first T rows of the table: ``[B, T, D]``."""
        self.check_length(x.shape[1])
        return x + self.table.weight[: x.shape[1]]


class LearnedOffset(Learned):
    """Learned table that shifts each training sequence by a random number of positions (arXiv 2410.02140).

    So training on short sequences reaches every row of a table that is made for longer ones. In evaluation mode, and
    where T is the table's length, it equals ``learned``. T D additions a sequence, and in training a copy of the T rows
    that are added. Offsets are uniform and come from torch's global generator.

    Raises:
        ValueError: the input is longer than ``seq_len``.
    """

    def embed(self, x: Tensor) -> Tensor:
        """Add T rows of the table, from a random one on in training mode: ``[B, T, D]``."""
        room = self.seq_len - x.shape[1]
        if room <= 0 or not self.training:
            return super().embed(x)
        first = torch.randint(room + 1, (len(x), 1), device=x.device)
        rows: Tensor = self.table(first + torch.arange(x.shape[1], device=x.device))  # [B, T, D]
        return x + rows
