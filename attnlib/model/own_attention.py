"""Somebody else's attention: a function of (q, k, v, bias, causal), or one that follows transformers' interface."""

import inspect
import math
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor, nn

from attnlib.errors import message
from attnlib.model.registry import fits

ARGUMENTS = ("q", "k", "v", "bias", "causal")
TRANSFORMERS = ("module", "query", "key", "value", "attention_mask")


def own_attention(made: Any, name: str) -> Callable[[Tensor, Tensor, Tensor, Tensor | None, bool], Tensor]:
    """Return somebody else's attention as a function of (q, k, v, bias, causal), each ``[B, H, T, K]``.

    Raises:
        ValueError: it is neither such a function nor one of transformers' attention interface.
    """
    if not callable(made):
        raise ValueError(message(f"attention {name!r} must be a function", type(made)))
    if isinstance(made, nn.Module) and any(True for _ in made.parameters()):
        wrong = f"attention {name!r} is a module with parameters, which all layers would share"
        raise ValueError(message(wrong, do="give a function"))
    try:
        parameters = list(inspect.signature(made).parameters)
    except ValueError:  # a built-in without a signature
        parameters = []
    if tuple(parameters[: len(TRANSFORMERS)]) == TRANSFORMERS:
        return of_transformers(made, "is_causal" in parameters)
    if why := fits(made, *ARGUMENTS):
        wrong = f"attention {name!r} must take ({', '.join(ARGUMENTS)}), or begin with ({', '.join(TRANSFORMERS)})"
        raise ValueError(message(f"{wrong} as in transformers: {why}"))
    own: Callable[[Tensor, Tensor, Tensor, Tensor | None, bool], Tensor] = made
    return own


def of_transformers(made: Callable[..., Any], knows_causal: bool) -> Callable[..., Tensor]:
    """Return a function of transformers' attention interface as one of (q, k, v, bias, causal).

    It gets ``[B, H, T, K]`` and gives ``[B, T, H, K]``, alone or first in a tuple.

    Args:
        made: the function.
        knows_causal: whether it takes ``is_causal``; one that does not gets the causal mask added to the scores.
    """

    def attend(q: Tensor, k: Tensor, v: Tensor, bias: Tensor | None, causal: bool) -> Tensor:
        """Attend: ``[B, H, T, K]`` each to ``[B, H, T, K]``."""
        T = q.shape[-2]
        if causal and bias is None and not knows_causal:
            bias = q.new_full((T, T), -math.inf).triu(1)[None, None]  # [1, 1, T, T]
        layer = SimpleNamespace(  # what such functions read of the module that they are called by
            is_causal=causal,
            num_key_value_groups=1,
            head_dim=q.shape[-1],
            training=torch.is_grad_enabled(),
            layer_idx=0,
        )
        own = {"is_causal": causal and bias is None} if knows_causal else {}
        out = made(layer, q, k, v, bias, scaling=q.shape[-1] ** -0.5, dropout=0.0, **own)
        heads: Tensor = out[0] if isinstance(out, tuple) else out  # [B, T, H, K]
        return heads.transpose(1, 2)

    return attend
