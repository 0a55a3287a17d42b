"""The one description of a stack: frozen, scalar fields only, so that it saves, hashes and prints as it is."""

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import TypeVar

Entry = TypeVar("Entry")


LISTED = ("pe", "block", "attention", "init", "model", "preset")  # kinds of names that ``attnlib list`` describes


def choose(kind: str, name: str, registry: Mapping[str, Entry]) -> Entry:
    """Return ``registry[name]``.

    Raises:
        ValueError: **name** is not registered; the message names it and the choices.
    """
    if name not in registry:  # a registry of parts has names by place too, and says itself why one does not fit
        more = "; attnlib list says what they are" if kind in LISTED else ""
        raise ValueError(f"unknown {kind} {name!r}; choose from {', '.join(registry)}{more}")
    return registry[name]


@dataclass(frozen=True)
class StackConfig:
    """Everything that defines a stack of self-attention layers and its classifier.

    Raises:
        ValueError: a size is not a positive integer, **or** ``causal`` or ``checkpoint`` is not true or false, **or**
            ``n_heads`` does not divide ``d_model`` while ``head_dim`` is None, **or** ``dropout`` lies outside [0, 1).
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

    def __post_init__(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            if field.type in (int, int | None) and value is not None:
                least = 0 if field.name in ("depth", "ffn_mult", "seed") else 1
                if not isinstance(value, int) or isinstance(value, bool) or value < least:
                    raise ValueError(f"{field.name} must be an integer of at least {least}, not {value!r}")
            if field.type is bool and not isinstance(value, bool):
                raise ValueError(f"{field.name} must be true or false, not {value!r}")
        if self.head_dim is None and self.d_model % self.n_heads:
            raise ValueError(f"n_heads={self.n_heads} does not divide d_model={self.d_model}; give head_dim")
        if not 0 <= self.dropout < 1:
            raise ValueError(f"dropout must lie in [0, 1), not {self.dropout!r}")

    @property
    def head_width(self) -> int:
        """K: ``head_dim`` if given, else ``d_model // n_heads``."""
        return self.head_dim or self.d_model // self.n_heads

    @property
    def inner(self) -> int:
        """HK, the width of all heads together."""
        return self.n_heads * self.head_width
