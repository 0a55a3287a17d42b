"""Multi-head self-attention with one fused projection, interchangeable backends and initialisations."""

import math
from collections.abc import Callable
from functools import cache, lru_cache, partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from attnlib.errors import message
from attnlib.model.config import StackConfig, choose
from attnlib.model.own_attention import own_attention
from attnlib.model.positional import PositionalEncoding
from attnlib.model.positional.base import at_least_float32
from attnlib.model.registry import Registry, fits


def causal_mask(seq_len: int, device: torch.device) -> Tensor:
    """Positions that may not be seen: bool ``[T, T]``, true where key > query."""
    return torch.ones(seq_len, seq_len, dtype=torch.bool, device=device).triu(1)


def hidden_pairs(config: StackConfig, seq_len: int, device: torch.device) -> Tensor | None:
    """Return the pairs that causal mask and window hide: bool ``[T, T]``, true where not to be seen; None for none."""
    hidden = causal_mask(seq_len, device) if config.causal else None
    if config.window is None:
        return hidden
    far = torch.ones(seq_len, seq_len, dtype=torch.bool, device=device).triu(config.window)  # later by window or more
    if config.causal:
        return causal_mask(seq_len, device) | far.T
    return far | far.T


def with_mask(config: StackConfig, bias: Tensor | None, x: Tensor) -> Tensor | None:
    """Return what is added to the scores: the bias, -inf for hidden pairs, and 0 for the key that is a sink.

    Args:
        config: the stack.
        bias: ``[H, T, T]`` or ``[B, H, T, T]``, or None.
        x: the layer's input ``[B, T, D]``.

    Returns:
        ``[1 or B, 1 or H, T, T]`` in the dtype of ``x``, with one more key for a sink; None if nothing is to be added,
        or only a causal mask, which attention applies by itself.
    """
    if bias is None and not config.masked_by_bias:
        return None
    T = x.shape[1]
    if bias is None:
        bias = x.new_zeros(1, T, T)
    if (hidden := hidden_pairs(config, T, x.device)) is not None:
        bias = bias.masked_fill(hidden, -math.inf)  # the mask [T, T] is the same for all sequences and heads
    if config.sink:
        bias = F.pad(bias, (0, 1))  # [..., T, T + 1]
    bias = bias.to(x.dtype)
    return bias if bias.dim() == 4 else bias[None]  # torch's fused kernel on a CPU refuses three dimensions


def sdpa(q: Tensor, k: Tensor, v: Tensor, bias: Tensor | None, causal: bool) -> Tensor:
    """Attention by torch's fused kernels: ``[B, H, T, K]``. A causal ``bias`` already carries its mask."""
    return F.scaled_dot_product_attention(q, k, v, attn_mask=bias, is_causal=causal and bias is None)


def math_attention(q: Tensor, k: Tensor, v: Tensor, bias: Tensor | None, causal: bool) -> Tensor:
    """softmax(Q K^T / sqrt(K) + bias) V written out: ``[B, H, T, K]``, with the ``[B, H, T, T]`` scores in memory.

    In float32 or wider, and rounded at the end, as torch's own math kernel does it.
    """
    dtype = q.dtype
    q, k, v = (at_least_float32(x) for x in (q, k, v))
    # scaling queries instead of scores takes T K divisions a head instead of T^2
    scores = (q / math.sqrt(q.shape[-1])) @ k.transpose(-2, -1)  # [B, H, T, T]
    if bias is not None:
        scores = scores + bias
    elif causal:
        scores = scores.masked_fill(causal_mask(q.shape[-2], q.device), -math.inf)
    return (scores.softmax(-1) @ v).to(dtype)  # [B, H, T, K]


def flex(q: Tensor, k: Tensor, v: Tensor, bias: Tensor | None, causal: bool, window: int | None = None) -> Tensor:
    """FlexAttention (arXiv 2412.05496): scores one by one in a compiled kernel: ``[B, H, T, K]``.

    Its ``bias`` has a value for each distance and not for each pair: ``[H, 2T - 1]``, see
    ``PositionalEncoding.by_distance``. Blocks of pairs that a mask or the window hides are not computed. One key more
    than there are queries is a sink, which all see. Torch has no backward pass of it on a CPU.
    """
    T, keys = q.shape[-2], k.shape[-2]

    def add(score: Tensor, _batch: Tensor, head: Tensor, query: Tensor, key: Tensor) -> Tensor:
        if bias is None:
            return score
        # distance 1 - T has index 0; a sink's may be past the end, and its score stays as it is
        distance = torch.clamp(key - query + T - 1, max=2 * T - 2)
        return torch.where(key < T, score + bias[head, distance], score)

    mask = blocks_seen(T, keys, causal, window, q.device) if causal or window is not None else None
    grouped = k.shape[1] != q.shape[1]
    y: Tensor = compiled_flex()(q, k, v, score_mod=None if bias is None else add, block_mask=mask, enable_gqa=grouped)
    return y


@cache
def compiled_flex() -> Callable[..., Any]:
    """FlexAttention through torch's compiler, imported by the first one who asks: it takes a second."""
    from torch.nn.attention.flex_attention import flex_attention

    return torch.compile(flex_attention, dynamic=False)


@lru_cache(maxsize=4)
def blocks_seen(seq_len: int, keys: int, causal: bool, window: int | None, device: torch.device) -> Any:
    """Return FlexAttention's block mask of causal mask and window, made once for a length, by way of all pairs."""
    from torch.nn.attention.flex_attention import create_block_mask

    def seen(_batch: Tensor, _head: Tensor, query: Tensor, key: Tensor) -> Tensor:
        visible = query >= key if causal else query >= 0
        if window is not None:
            visible = visible & (query - key < window) & (key - query < window)
        return visible | (key >= seq_len)

    return create_block_mask(seen, None, None, seq_len, keys, device=str(device))


SOFTMAXES = {  # what each is
    "usual": "exp(s_j) / sum exp(s): each query's weights sum to 1 (arXiv 1706.03762)",
    "plus_one": "exp(s_j) / (1 + sum exp(s)): a head may attend to nothing (evanmiller.org, Attention is off by one)",
}
GATES = {
    "none": "what the heads give goes to the output projection (arXiv 1706.03762)",
    "sigmoid": "what the heads give is multiplied by sigmoid(W x) of the layer's input (arXiv 2505.06708)",
}
QK_EPS = 1e-6  # as transformers' Qwen3 and OLMo 2

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
def init_unit(*linears: nn.Linear) -> None:
    """Unit gain: weights normal with variance 1/fan_in, biases 0, so that V and out keep a signal's norm."""
    for linear in linears:
        nn.init.normal_(linear.weight, std=linear.in_features**-0.5)
        nn.init.zeros_(linear.bias)


def own_init(made: Any, name: str) -> Callable[[nn.Linear, nn.Linear], None]:
    """Return somebody else's initialisation, a function of the projections ``qkv`` and ``out``.

    Raises:
        ValueError: it is no such function.
    """
    wrong = f"init {name!r} must be a function of two projections, qkv and out"
    if not callable(made):
        raise ValueError(message(wrong, type(made)))
    if why := fits(made, None, None):
        raise ValueError(message(f"{wrong}: {why}"))
    initialise: Callable[[nn.Linear, nn.Linear], None] = torch.no_grad()(made)
    return initialise


INITS: Registry[Callable[[nn.Linear, nn.Linear], None]] = Registry(
    "init", {"torch_mha": init_torch_mha, "linear": init_linear, "unit": init_unit}, own_init
)


class Projection(nn.Linear):
    """A Linear that is drawn once, by the attention's initialisation, and not before."""

    def reset_parameters(self) -> None:
        """Leave weight and bias as they are."""


class FirstValues:
    """Values of a stack's first layer ``[B, G, T, K]`` during one forward pass, for the layers after it."""

    values: Tensor | None = None


class MultiHeadSelfAttention(nn.Module):
    """softmax(Q K^T / sqrt(K)) V over H heads of width K, then an output projection (arXiv 1706.03762).

    Queries, keys and values come from one fused product D -> (H + 2G) K, and K need not be D / H. Its switches:

    - ``kv_heads``: H / G heads of queries share a head of keys and values (arXiv 2305.13245); both are repeated to H
      heads before the scores, so that the attention kernel is the same as without.
    - ``qk_norm``: each head's queries and keys are divided by their root mean square and multiplied by a learned gain
      (arXiv 2010.04245), before an encoding turns them.
    - ``window``: key j is hidden from query i if abs(i - j) >= window (arXiv 2004.05150).
    - ``softmax="plus_one"``: exp(s_j) / (1 + sum exp(s)), as if each query saw one more key and value, of zeros
      (evanmiller.org, "Attention is off by one").
    - ``gate="sigmoid"``: what the heads give is multiplied by sigmoid(W x), element by element (arXiv 2505.06708).
    - ``value_residual``: from the second layer on values are (V + V of the first layer) / 2 (arXiv 2410.17897).

    Args:
        config: the stack; see ``StackConfig``.
        index: number of the layer, 0 for the first.

    Raises:
        ValueError: a name in ``config`` is unknown.

    Notation used for tensor shapes: B batch, T sequence length, D model width, H heads, G heads of keys, K head width.
    """

    def __init__(self, config: StackConfig, index: int = 0) -> None:
        super().__init__()
        self.config, self.index = config, index
        D, K, HK, GK = config.d_model, config.head_width, config.inner, config.kv_inner
        self.by_distance = config.attention == "flex"  # whether it takes a bias of distances
        self.attend = choose("attention", config.attention, ATTENTION)
        if self.by_distance:
            self.attend = partial(flex, window=config.window)
        self.qkv = Projection(D, HK + 2 * GK)
        self.out = Projection(HK, D)
        self.dropout = nn.Dropout(config.dropout) if config.dropout else nn.Identity()
        choose("init", config.init, INITS)(self.qkv, self.out)
        choose("gate", config.gate, GATES)
        choose("softmax", config.softmax, SOFTMAXES)
        # as the feed-forward: torch.nn.Linear's defaults but for unit
        self.gate = nn.Linear(D, HK) if config.gate == "sigmoid" else None
        if self.gate is not None and config.init == "unit":
            init_unit(self.gate)
        self.q_norm, self.k_norm = (nn.RMSNorm(K, eps=QK_EPS) if config.qk_norm else nn.Identity() for _ in "qk")

    def by_role(self, fused: Tensor) -> dict[str, Tensor]:
        """Return views of the fused projection's weight, bias or gradient: ``q`` (HK rows), ``k`` and ``v`` (GK)."""
        GK = self.config.kv_inner
        return dict(zip("qkv", fused.split([self.config.inner, GK, GK]), strict=True))

    def forward(
        self,
        x: Tensor,
        encoding: PositionalEncoding,
        bias: Tensor | None = None,
        first: FirstValues | None = None,
    ) -> Tensor:
        """Attend within each sequence.

        Args:
            x: ``[B, T, D]``.
            encoding: turns queries and keys, and may bias the scores of these queries.
            bias: added to the scores; what ``with_mask`` gave, or with ``flex`` the encoding's ``by_distance``.
            first: the first layer puts its values there, and the others take them from there.

        Returns:
            ``[B, T, D]``.
        """
        B, T, _ = x.shape
        H, G, K = self.config.n_heads, self.config.groups, self.config.head_width
        heads = self.qkv(x).view(B, T, H + 2 * G, K).transpose(1, 2)  # [B, H + 2G, T, K]
        q, k, v = heads.split([H, G, G], 1)  # [B, H, T, K], and [B, G, T, K] twice
        v = self.mix_values(v, first)
        q, k = encoding.rotate(self.q_norm(q), self.k_norm(k))
        if G != H and not self.by_distance:
            k, v = (heads.repeat_interleave(H // G, 1) for heads in (k, v))  # [B, H, T, K]
        if not self.by_distance:
            bias = self.biased(x, encoding.pair_bias(q, k), bias)
        if self.config.sink:
            k, v = (F.pad(heads, (0, 0, 0, 1)) for heads in (k, v))  # [B, H, T + 1, K], of which the last key is 0
        y = self.attend(q, k, v, bias, self.config.causal)  # [B, H, T, K]
        y = y.transpose(1, 2).reshape(B, T, H * K)
        if self.gate is not None:
            y = y * self.gate(x).sigmoid()  # [B, T, HK]
        z: Tensor = self.dropout(self.out(y))  # [B, T, D]
        return z

    def biased(self, x: Tensor, own: Tensor | None, bias: Tensor | None) -> Tensor | None:
        """Return the sum of an encoding's bias of these queries ``[B, H, T, T]`` and of what ``with_mask`` gave.

        Either may be None; a mask that neither has is added.
        """
        if own is None:
            return with_mask(self.config, None, x) if bias is None else bias
        if bias is None:
            return with_mask(self.config, own, x)
        return (F.pad(own, (0, 1)) if self.config.sink else own) + bias

    def mix_values(self, v: Tensor, first: FirstValues | None) -> Tensor:
        """Return the mean of these values ``[B, G, T, K]`` and the first layer's; there, keep and return them."""
        if first is None or first.values is None or self.index == 0:
            if first is not None:
                first.values = v
            return v
        return (v + first.values) / 2
