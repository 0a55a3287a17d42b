"""Somebody else's model, made from a ``StackConfig``: from tokens ``[B, T]`` to logits ``[B, n_classes]``."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any
from weakref import WeakSet

import torch
from torch import Tensor, nn

from attnlib.errors import message
from attnlib.model.classifier import build_model
from attnlib.model.config import StackConfig
from attnlib.model.registry import Registry, called, fits


def tensor_of(output: Any) -> Any:
    """Return the logits or hidden states in a model's output: a tensor, a tuple, or transformers' output object."""
    for name in ("logits", "last_hidden_state"):
        if isinstance(getattr(output, name, None), Tensor):
            return getattr(output, name)
    return output[0] if isinstance(output, tuple) and output else output


@contextmanager
def evaluating(model: nn.Module) -> Iterator[None]:
    """Put a model into evaluation mode for a while: no dropout, and running means stay as they are."""
    modes = [(module, module.training) for module in model.modules()]
    model.eval()
    try:
        yield
    finally:
        for module, training in modes:  # each its own: somebody may have switched off a part for good
            module.training = training


class OwnModel(nn.Module):
    """Somebody else's model as a classifier of sequences.

    Hidden states ``[B, T, D]`` are averaged over the tokens and put through a linear head; logits ``[B, n_classes]``
    are taken as they are.

    Args:
        own: the model.
        config: sizes that it was made for.

    Raises:
        ValueError: it gives neither hidden states nor logits for tokens ``[2, T]``.
    """

    def __init__(self, own: nn.Module, config: StackConfig) -> None:
        super().__init__()
        self.own = own
        tokens = torch.zeros(2, config.seq_len, dtype=torch.long)
        with evaluating(own), torch.no_grad():
            out = tensor_of(own(tokens))
        shape = list(out.shape) if isinstance(out, Tensor) else type(out)
        hidden = isinstance(out, Tensor) and out.dim() == 3 and out.shape[:2] == tokens.shape
        if not hidden and shape != [2, config.n_classes]:
            wanted = f"logits [2, {config.n_classes}] or hidden states [2, {config.seq_len}, D]"
            raise ValueError(message(f"for tokens {list(tokens.shape)} it must return {wanted}", shape))
        self.head = nn.Linear(out.shape[-1], config.n_classes) if hidden else None

    def forward(self, tokens: Tensor) -> Tensor:
        """Classify sequences: int64 ``[B, T]`` to logits ``[B, n_classes]``."""
        out: Tensor = tensor_of(self.own(tokens))
        return out if self.head is None else self.head(out.mean(1))


def own_model(made: Any, name: str) -> Callable[[StackConfig], nn.Module]:
    """Return what builds somebody else's model from a ``StackConfig``.

    Raises:
        ValueError: it cannot be called with one argument; when it is called, if it makes no module, or one that does
            not fit; see ``OwnModel``.
    """
    wrong = f"model {name!r} must be a function of a StackConfig"
    if not callable(made):
        raise ValueError(message(wrong, type(made)))
    if why := fits(made, None):
        raise ValueError(message(f"{wrong}: {why}"))

    given: WeakSet[nn.Module] = WeakSet()

    def make(config: StackConfig) -> nn.Module:
        """Build the model."""
        own = made(config)
        if not isinstance(own, nn.Module):
            raise ValueError(message("it must return a torch.nn.Module", type(own)))
        if own in given:
            raise ValueError(message("it returned this module before", do="make a new one in each call"))
        given.add(own)
        return OwnModel(own, config)

    return partial(called, f"model {name!r}", make)


MODELS: Registry[Callable[[StackConfig], nn.Module]] = Registry("model", {"stack": build_model}, own_model)
