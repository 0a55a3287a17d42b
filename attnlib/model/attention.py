"""Multi-head self-attention with one fused projection, interchangeable backends and initialisations."""

import math
from collections.abc import Callable
from functools import cache, lru_cache
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from attnlib.model.config import choose
from attnlib.model.own_attention import own_attention
from attnlib.model.positional import PositionalEncoding
from attnlib.model.positional.base import at_least_float32
from attnlib.model.registry import Registry, fits


def causal_mask(seq_len: int, device: torch.device) -> Tensor:
    """Positions that may not be seen: bool ``[T, T]``, true where key > query."""
    return torch.ones(seq_len, seq_len, dtype=torch.bool, device=device).triu(1)


def sdpa(q: Tensor, k: Tensor, v: Tensor, bias: Tensor | None, causal: bool) -> Tensor:
    """Attention by torch's fused kernels: ``[B, H, T, K]``. A causal ``bias`` already carries its mask."""
    return F.scaled_dot_product_attention(q, k, v, attn_mask=bias, is_causal=causal and bias is None)


def math_attention(q: Tensor, k: Tensor, v: Tensor, bias: Tensor | None, causal: bool) -> Tensor:
    """softmax(Q K^T / sqrt(K) + bias) V written out: ``[B, H, T, K]``, with the ``[B, H, T, T]`` scores in memory.

    In float32 or wider, and rounded at the end, as torch's own math kernel does it.
    """
    dtype = q.dtype
    q, k, v = (at_least_float32(x) for x in (q, k, v))
    scores = (q / math.sqrt(q.shape[-1])) @ k.transpose(-2, -1)
    if bias is not None:
        scores = scores + bias
    elif causal:
        scores = scores.masked_fill(causal_mask(q.shape[-2], q.device), -math.inf)
    return (scores.softmax(-1) @ v).to(dtype)


def flex(q: Tensor, k: Tensor, v: Tensor, bias: Tensor | None, causal: bool) -> Tensor:
    """FlexAttention (arXiv 2412.05496): scores one by one in a compiled kernel: ``[B, H, T, K]``.

    Its ``bias`` has a value for each distance and not for each pair: ``[H, 2T - 1]``, see
    ``PositionalEncoding.by_distance``. Torch has no backward pass of it on a CPU.
    """
    T = q.shape[-2]

    def add(score: Tensor, _batch: Tensor, head: Tensor, query: Tensor, key: Tensor) -> Tensor:
        return score if bias is None else score + bias[head, key - query + T - 1]

    mask = blocks_seen(T, q.device) if causal else None
    y: Tensor = compiled_flex()(q, k, v, score_mod=None if bias is None else add, block_mask=mask)
    return y


@cache
def compiled_flex() -> Callable[..., Any]:
    """FlexAttention through torch's compiler, imported by the first one who asks: it takes a second."""
    from torch.nn.attention.flex_attention import flex_attention

    return torch.compile(flex_attention, dynamic=False)


@lru_cache(maxsize=4)
def blocks_seen(seq_len: int, device: torch.device) -> Any:
    """Return FlexAttention's block mask of a causal mask, made once for a length, by way of all T^2 pairs."""
    from torch.nn.attention.flex_attention import create_block_mask

    def seen(_batch: Tensor, _head: Tensor, query: Tensor, key: Tensor) -> Tensor:
        return query >= key

    return create_block_mask(seen, None, None, seq_len, seq_len, device=str(device))


Attend = Callable[[Tensor, Tensor, Tensor, Tensor | None, bool], Tensor]
ATTENTION: Registry[Attend] = Registry(
    "attention", {"sdpa": sdpa, "math": math_attention, "flex": flex}, own_attention, "attnlib.attentions"
)


@torch.no_grad()
def init_torch_mha(qkv: nn.Linear, out: nn.Linear) -> None:
    """Initialise as ``torch.nn.MultiheadAttention``: Xavier for the fused block, Kaiming (a = sqrt 5) out, biases 0."""
    nn.init.xavier_uniform_(qkv.weight)
    nn.init.kaiming_uniform_(out.weight, a=math.sqrt(5))
    nn.init.zeros_(qkv.bias)
    nn.init.zeros_(out.bias)


@torch.no_grad()
def init_linear(qkv: nn.Linear, out: nn.Linear) -> None:
    """Initialise as four ``torch.nn.Linear`` at their defaults: weights and biases uniform in +-1/sqrt(fan_in)."""
    for linear in (qkv, out):
        nn.Linear.reset_parameters(linear)


@torch.no_grad()
def init_unit(qkv: nn.Linear, out: nn.Linear) -> None:
    """Unit gain: weights normal with variance 1/fan_in, biases 0, so that V and out keep a signal's norm."""
    for linear in (qkv, out):
        nn.init.normal_(linear.weight, std=linear.in_features**-0.5)
        nn.init.zeros_(linear.bias)


def own_init(made: Any, name: str) -> Callable[[nn.Linear, nn.Linear], None]:
    """Return somebody else's initialisation, a function of the projections ``qkv`` and ``out``.

    Raises:
        ValueError: it is no such function.
    """
    why = fits(made, None, None) if callable(made) else f"it is of type {type(made).__name__}"
    if why:
        raise ValueError(f"init {name!r} must be a function of two projections, qkv and out: {why}")
    initialise: Callable[[nn.Linear, nn.Linear], None] = torch.no_grad()(made)
    return initialise


INITS: Registry[Callable[[nn.Linear, nn.Linear], None]] = Registry(
    "init", {"torch_mha": init_torch_mha, "linear": init_linear, "unit": init_unit}, own_init
)


class Projection(nn.Linear):
    """A Linear that is drawn once, by the attention's initialisation, and not before."""

    def reset_parameters(self) -> None:
        """Leave weight and bias as they are."""


class MultiHeadSelfAttention(nn.Module):
    """softmax(Q K^T / sqrt(K)) V over H heads of width K, then an output projection (arXiv 1706.03762).

    Queries, keys and values come from one fused product D -> 3HK, and K need not be D / H.

    Args:
        d_model: D.
        n_heads: H.
        head_dim: K.
        attention: backend, a name in ``ATTENTION``.
        init: initialisation, a name in ``INITS``.
        causal: let no query see later keys.
        dropout: probability after the output projection.

    Raises:
        ValueError: ``attention`` or ``init`` is unknown.

    Notation used for tensor shapes: B batch, T sequence length, D model width, H heads, K head width.
    """

    def __init__(
        self,
        *,
        d_model: int,
        n_heads: int,
        head_dim: int,
        attention: str = "sdpa",
        init: str = "torch_mha",
        causal: bool = False,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        self.n_heads, self.head_dim, self.causal = n_heads, head_dim, causal
        self.by_distance = attention == "flex"  # whether it takes a bias of distances
        self.attend = choose("attention", attention, ATTENTION)
        self.qkv = Projection(d_model, 3 * n_heads * head_dim)
        self.out = Projection(n_heads * head_dim, d_model)
        self.dropout = nn.Dropout(dropout) if dropout else nn.Identity()
        choose("init", init, INITS)(self.qkv, self.out)

    def by_role(self, fused: Tensor) -> dict[str, Tensor]:
        """Views of the fused projection's weight or bias, or of a gradient, as ``q``, ``k`` and ``v``: HK rows each."""
        return dict(zip("qkv", fused.chunk(3), strict=True))

    def forward(self, x: Tensor, encoding: PositionalEncoding, bias: Tensor | None = None) -> Tensor:
        """Attend within each sequence.

        Args:
            x: ``[B, T, D]``.
            encoding: turns queries and keys, and may bias the scores of these queries.
            bias: added to the scores, broadcast to ``[B, H, T, T]``; -inf hides a key. With ``causal`` it has the mask.
                Of ``flex`` what ``by_distance`` gave.

        Returns:
            ``[B, T, D]``.
        """
        B, T, _ = x.shape
        qkv = self.qkv(x).view(B, T, 3, self.n_heads, self.head_dim)
        q, k, v = qkv.permute(2, 0, 3, 1, 4).unbind(0)  # each [B, H, T, K]
        q, k = encoding.rotate(q, k)
        if (own := encoding.query_bias(q)) is not None:
            if bias is not None:
                own = own + bias
            elif self.causal:
                own = own.masked_fill(causal_mask(T, x.device), -math.inf)
            bias = own
        heads = self.attend(q, k, v, bias, self.causal)  # [B, H, T, K]
        y: Tensor = self.dropout(self.out(heads.transpose(1, 2).reshape(B, T, -1)))
        return y
