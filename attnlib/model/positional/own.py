"""Somebody else's encoding, which need not know of this package: each method that it lacks is the identity."""

import inspect
from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from attnlib.errors import message
from attnlib.model.positional.base import PositionalEncoding
from attnlib.model.registry import called, check_theory, fits

METHODS = {
    "embed": 1,
    "rotate": 2,
    "bias": 1,
    "by_distance": 1,
    "query_bias": 1,
    "pair_bias": 2,
}  # and how many arguments each takes
SIZES = ("seq_len", "d_model", "n_heads", "head_dim", "causal")


class OwnEncoding(PositionalEncoding):
    """An encoding made by somebody else's class.

    Args:
        made: the class; called with the keywords of ``PositionalEncoding``.
        sizes: those keywords.
    """

    def __init__(self, made: Callable[..., Any], **sizes: Any) -> None:
        super().__init__(**sizes)
        self.made_on = torch.get_default_device()
        self.own = made(**sizes)
        # an attribute of that name that is no method, such as a parameter called bias, is the class's own business
        self.methods = {name for name in (*METHODS, "flops") if inspect.isroutine(getattr(self.own, name, None))}
        if not self.overrides(*METHODS):
            raise TypeError(message(f"it has none of the methods {', '.join(METHODS)}", do="define one"))

    def embed(self, x: Tensor) -> Tensor:
        """Add positions to token embeddings: ``[B, T, D]`` to ``[B, T, D]``."""
        y: Tensor = self.own.embed(x) if "embed" in self.methods else x
        return y

    def rotate(self, q: Tensor, k: Tensor) -> tuple[Tensor, Tensor]:
        """Turn queries and keys by their positions: two ``[B, H, T, K]``."""
        turned: tuple[Tensor, Tensor] = self.own.rotate(q, k) if "rotate" in self.methods else (q, k)
        return turned

    def bias(self, seq_len: int) -> Tensor | None:
        """Return the bias of the scores, ``[H, T, T]``; that of ``by_distance`` where there is no ``bias``."""
        values: Tensor | None = self.own.bias(seq_len) if "bias" in self.methods else super().bias(seq_len)
        return values

    def by_distance(self, seq_len: int) -> Tensor | None:
        """Return the bias of each distance, ``[H, 2T - 1]``, or None."""
        values: Tensor | None = self.own.by_distance(seq_len) if "by_distance" in self.methods else None
        return values

    def query_bias(self, q: Tensor) -> Tensor | None:
        """Return the bias of the scores of these queries, ``[B, H, T, T]``, or None."""
        values: Tensor | None = self.own.query_bias(q) if "query_bias" in self.methods else None
        return values

    def pair_bias(self, q: Tensor, k: Tensor) -> Tensor | None:
        """Return the bias of the scores of these queries and keys, ``[B, H, T, T]``, or None."""
        values: Tensor | None = self.own.pair_bias(q, k) if "pair_bias" in self.methods else self.query_bias(q)
        return values

    def overrides(self, *methods: str) -> bool:
        """Return True if the class has one of these methods."""
        return bool(self.methods.intersection(methods))

    def flops(self, *, seq_len: int, batch_size: int, depth: int) -> int:
        """Return the FLOPs of its matrix products in one forward pass: its own count, or else torch's."""
        if "flops" in self.methods:
            return int(self.own.flops(seq_len=seq_len, batch_size=batch_size, depth=depth))
        device = next((tensor.device for tensor in [*self.parameters(), *self.buffers()]), self.made_on)
        x = torch.empty(batch_size, seq_len, self.d_model, device=device)
        q = torch.empty(batch_size, self.n_heads, seq_len, self.head_dim, device=device)
        with torch.device(device), torch.no_grad(), FlopCounterMode(display=False) as once:
            self.embed(x)
            self.bias(seq_len)
        with torch.device(device), torch.no_grad(), FlopCounterMode(display=False) as each:
            self.pair_bias(*self.rotate(q, q))
        return int(once.get_total_flops() + depth * each.get_total_flops())


def own_encoding(made: Any, name: str) -> Callable[..., PositionalEncoding]:
    """Return what makes somebody else's encoding.

    Args:
        made: a class, or a function that makes one; a subclass of ``PositionalEncoding`` is taken as it is.
        name: of it, for messages.

    Raises:
        ValueError: it cannot be called with the five keywords, **or** has none of the methods.
    """
    if not callable(made):
        raise ValueError(message(f"pe {name!r} must be a class, or a function that makes one", type(made)))
    if why := fits(made, **dict.fromkeys(SIZES)):
        raise ValueError(message(f"pe {name!r} must take the keywords {', '.join(SIZES)}: {why}"))
    if isinstance(made, type):
        if not any(hasattr(made, method) for method in METHODS):
            wrong = f"pe {name!r} has none of the methods {', '.join(METHODS)}"
            raise ValueError(message(wrong, do="define one"))
        for method, count in METHODS.items():
            own = getattr(made, method, None)
            if own is not None and (why := fits(own, *[None] * (count + 1))):
                wrong = f"pe {name!r}: {method} must take {count} argument{'s' * (count > 1)} beside self"
                raise ValueError(message(f"{wrong}: {why}"))
    check_theory(made, f"pe {name!r}")
    ours = isinstance(made, type) and issubclass(made, PositionalEncoding)
    return partial(called, f"pe {name!r}", made if ours else partial(OwnEncoding, made))
