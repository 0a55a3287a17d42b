"""The one description of a stack: frozen, scalar fields only, so that it saves, hashes and prints as it is."""

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import TypeVar

from attnlib.errors import message, shown

Entry = TypeVar("Entry")


LISTED = (  # kinds of names that ``attnlib list`` describes
    *("pe", "block", "attention", "init", "model", "norm", "activation", "softmax", "gate", "depth_scale"),
    *("preset", "stack"),
)


def choose(kind: str, name: str, registry: Mapping[str, Entry]) -> Entry:
    """Return ``registry[name]``.

    Raises:
        ValueError: **name** is not registered; the message names it and the choices.
    """
    if name not in registry:  # a registry of parts has names by place too, and says itself why one does not fit
        more = "attnlib list says what they are" if kind in LISTED else ""
        raise ValueError(message(f"unknown {kind} {shown(name)}", choices=registry, do=more))
    return registry[name]


@dataclass(frozen=True)
class StackConfig:
    """Everything that defines a stack of self-attention layers and its classifier.

    Raises:
        ValueError: a size is not a positive integer, **or** a switch such as ``causal`` is not true or false, **or**
            ``n_heads`` does not divide ``d_model`` while ``head_dim`` is None, **or** ``kv_heads`` does not divide
            ``n_heads``, **or** ``dropout`` lies outside [0, 1).
    """

    vocab_size: int = 52  # the letters a-z and A-Z, as in the original experiment
    seq_len: int = 64  # T: also the length of a learned table; longer inputs are refused
    d_model: int = 64  # D: small enough for a laptop, large enough for the theory's finite-width term
    n_heads: int = 4  # H
    head_dim: int | None = None  # K: None is d_model // n_heads; the original experiment used 512 with D = 512
    depth: int = 2  # L: 0 is the identity, which tests use
    pe: str = "none"  # a name in attnlib.model.positional.POSITIONAL
    block: str = "plain"  # attention alone is the original question; a name in attnlib.model.blocks.BLOCKS
    attention: str = "sdpa"  # the fused kernel is what people run; a name in attnlib.model.attention.ATTENTION
    init: str = "torch_mha"  # torch.nn.MultiheadAttention's own; a name in attnlib.model.attention.INITS
    ffn_mult: int = 0  # feed-forward width over d_model; 0 is no feed-forward, as in the original experiment
    pooling: str = "mean"  # a name in attnlib.model.classifier.POOLING
    causal: bool = False  # an encoder by default
    dropout: float = 0.0  # after the output projection; 0 keeps timed steps deterministic
    n_classes: int = 2  # 1 is a single logit with binary cross-entropy
    embedding_scale: float = 1.0  # factor on the token embedding: 2 is the original's "x added twice"
    checkpoint: bool = False  # recompute each block in the backward pass: time for memory
    norm: str = "layer"  # of blocks that normalise; a name in attnlib.model.blocks.NORMS
    kv_heads: int | None = None  # G: heads of keys and values, each shared by H / G heads of queries; None is H
    qk_norm: bool = False  # normalise each head's queries and keys by their root mean square
    window: int | None = None  # keys that a query sees on each side, its own included; None is all
    softmax: str = "usual"  # or plus_one: the denominator has one more, so that a head may attend to nothing
    gate: str = "none"  # or sigmoid: of the layer's input, times what the heads give
    value_residual: bool = False  # values are the mean of the layer's own and the first layer's
    activation: str = "relu"  # of the feed-forward; a name in attnlib.model.blocks.ACTIVATIONS
    depth_scale: str = "none"  # what the branches of deep stacks shrink by; a name in attnlib.model.blocks.SCALES

    def __post_init__(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            if field.type in (int, int | None) and value is not None:
                least = 0 if field.name in ("depth", "ffn_mult", "seed") else 1
                if not isinstance(value, int) or isinstance(value, bool) or value < least:
                    raise ValueError(message(f"{field.name} must be an integer of at least {least}", value))
            if field.type is bool and not isinstance(value, bool):
                raise ValueError(message(f"{field.name} must be true or false", value))
        if self.head_dim is None and self.d_model % self.n_heads:
            wrong = f"n_heads={self.n_heads} does not divide d_model={self.d_model}"
            raise ValueError(message(wrong, do="give head_dim"))
        if self.n_heads % self.groups:
            fitting = [count for count in range(1, self.n_heads + 1) if self.n_heads % count == 0]
            wrong = f"kv_heads={self.kv_heads} does not divide n_heads={self.n_heads}"
            raise ValueError(message(wrong, choices=fitting))
        if not 0 <= self.dropout < 1:
            raise ValueError(message("dropout must lie in [0, 1)", self.dropout))

    @property
    def head_width(self) -> int:
        """K: ``head_dim`` if given, else ``d_model // n_heads``."""
        return self.head_dim or self.d_model // self.n_heads

    @property
    def inner(self) -> int:
        """HK, the width of all heads together."""
        return self.n_heads * self.head_width

    @property
    def groups(self) -> int:
        """G: ``kv_heads`` if given, else ``n_heads``."""
        return self.kv_heads or self.n_heads

    @property
    def kv_inner(self) -> int:
        """GK, the width of all keys of a token together, or of its values."""
        return self.groups * self.head_width

    @property
    def hidden(self) -> int:
        """Hidden width of the feed-forward: ``ffn_mult`` D; two thirds of that if gated, which has a third matrix."""
        wide = self.ffn_mult * self.d_model
        return 2 * wide // 3 if self.gated else wide

    @property
    def gated(self) -> bool:
        """True if the feed-forward's activation multiplies two projections (arXiv 2002.05202)."""
        return self.activation.endswith("glu")

    @property
    def sink(self) -> bool:
        """True if each query also sees a key and a value of zeros, which is what ``plus_one`` amounts to."""
        return self.softmax == "plus_one"

    @property
    def masked_by_bias(self) -> bool:
        """True if the mask is added to the scores: torch's kernels know a causal mask, but of T keys only."""
        return self.window is not None or (self.causal and self.sink)
