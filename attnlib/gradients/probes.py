"""Probes of one forward and backward pass: signals and gradients as numbers, without changing the pass.

``Recorder`` hooks into the pass inside its block; the functions read parameter gradients afterwards. Readings are
scalars, computed in float64 so that deep stacks do not underflow in them; no activation is kept.
"""

from collections.abc import Iterable
from contextlib import ExitStack
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from attnlib.errors import message
from attnlib.gradients.closed_forms import key_bias_is_idle
from attnlib.model.blocks import Plain
from attnlib.model.classifier import SequenceClassifier

INTEGERS = {2: torch.int16, 4: torch.int32, 8: torch.int64}  # integer of the same width, by bytes of a float
KINDS = ("zero", "subnormal", "nonfinite")
Summary = dict[str, Any]
Roles = dict[str, list[Tensor]]


def wide(x: Tensor) -> Tensor:
    """Return ``x`` detached, in float64 (float32 on MPS, which has no float64)."""
    return x.detach().to(torch.float32 if x.device.type == "mps" else torch.float64)


def rank1_residual(x: Tensor) -> Tensor:
    """Return the relative rank-1 residual |x - token mean| / |x|, a mean over B; ``[B, T, D]``, 0 for equal tokens.

    |.| is sqrt(|.|_1 |.|_inf), the geometric mean of the largest column and the largest row sum of absolute values
    (Dong et al., arXiv 2103.03404, whose published code takes the token mean as the rank-1 part).
    """
    absolute = torch.stack([x - x.mean(1, keepdim=True), x]).abs()  # [2, B, T, D]: the residual and the whole
    columns, rows = absolute.sum(2).amax(-1), absolute.sum(3).amax(-1)  # largest sums, each [2, B]
    residual, whole = columns.sqrt() * rows.sqrt()  # each [B]; roots first, so that the product does not underflow
    mean: Tensor = (residual / whole).mean()
    return mean


def cosine_gap(x: Tensor) -> Tensor:
    """Return 1 - mean cosine of two different tokens of a sequence ``[B, T, D]``, a mean over B; NaN at T = 1.

    Computed from the spread of the unit vectors u, T / (T - 1) mean |u_i - mean u|^2, which stays exact where the
    cosine itself rounds to 1.
    """
    unit = x / x.norm(dim=-1, keepdim=True)  # [B, T, D]
    spread = (unit - unit.mean(1, keepdim=True)).square().sum(-1).mean()  # mean over [B, T]
    gap: Tensor = spread * (x.shape[1] / (x.shape[1] - 1) if x.shape[1] > 1 else float("nan"))
    return gap


def float_kinds(x: Tensor) -> Tensor:
    """Return how many numbers of ``x`` are zero, subnormal and not finite: int64 ``[3]``.

    Read from the bits, since arithmetic that flushes subnormal numbers would count them as zeros.
    """
    limits = torch.finfo(x.dtype)
    integers = INTEGERS[x.element_size()]
    # without the sign bit, a float's bits read as an integer are in the order of its absolute value
    bits = x.detach().contiguous().view(integers) & torch.iinfo(integers).max
    tiny, infinite = torch.tensor([limits.tiny, float("inf")], dtype=x.dtype).view(integers).tolist()
    zero = (bits == 0).sum()
    return torch.stack([zero, (bits < tiny).sum() - zero, (bits >= infinite).sum()])


def gradient_summary(gradients: Iterable[Tensor]) -> Summary:
    """Summarise several gradients as one vector g of n numbers.

    Returns:
        ``norm``: Euclidean norm of g; ``mean_abs``: mean of abs(g_i), the original experiment's quantity; both null
        if not finite; ``numbers``: n; ``zero``, ``subnormal``, ``nonfinite``: counts of such numbers.
    """
    gradients = list(gradients)
    flat = torch.cat([wide(g).flatten() for g in gradients]).abs()  # [n]
    kinds = torch.stack([float_kinds(g) for g in gradients]).sum(0).tolist()
    return {
        "norm": finite(flat.norm()),
        "mean_abs": finite(flat.mean()),
        "numbers": flat.numel(),
        **dict(zip(KINDS, kinds, strict=True)),
    }


def finite(x: Tensor) -> float | None:
    """Return a 0-dimensional tensor as a number, or None for NaN and infinity, which JSON cannot hold."""
    return float(x) if bool(x.isfinite()) else None


def gradient_of(parameter: Tensor, place: str) -> Tensor:
    """Return the gradient of a parameter at a place in the model, such as ``stack.layers.0.attention.qkv``.

    Raises:
        ValueError: it has none, as before a backward pass, **or** it is frozen; the message names the place.
    """
    if parameter.grad is None:
        advice = "run a backward pass before probing" if parameter.requires_grad else "it is frozen: set requires_grad"
        raise ValueError(message(f"{place} has no gradient", do=advice))
    return parameter.grad


def layers_of(model: nn.Module) -> list[Plain]:
    """Return the layers of a stack, first to last; none of somebody else's model."""
    layers = model.stack.layers if isinstance(model, SequenceClassifier) else ()
    return [layer for layer in layers if isinstance(layer, Plain)]


def layer_gradients(layer: Plain, index: int) -> Roles:
    """Return the gradients of a layer by role; the fused projection of q, k and v is split.

    Args:
        layer: the layer.
        index: its place in the stack, 0 for the first.

    Returns:
        ``q``, ``k``, ``v``, ``out``, and if they exist ``feed_forward``, ``norm`` (gains), ``q_norm``, ``k_norm``,
        ``attention_gate``, and ``gate`` of a ReZero block; the biases are ``q_bias`` and so on.

    Raises:
        ValueError: see ``gradient_of``.
    """
    attention, roles, place = layer.attention, Roles(), f"stack.layers.{index}"
    for ending, fused, out in (
        ("", attention.qkv.weight, attention.out.weight),
        ("_bias", attention.qkv.bias, attention.out.bias),
    ):
        # rows of the fused weight by role
        parts = attention.by_role(gradient_of(fused, f"{place}.attention.qkv"))
        parts |= {"out": gradient_of(out, f"{place}.attention.out")}
        roles |= {role + ending: [gradient] for role, gradient in parts.items()}
    roles |= module_gradients("attention_gate", attention.gate, f"{place}.attention.gate")
    roles |= module_gradients("q_norm", attention.q_norm, f"{place}.attention.q_norm")
    roles |= module_gradients("k_norm", attention.k_norm, f"{place}.attention.k_norm")
    roles |= module_gradients("feed_forward", layer.feed_forward, f"{place}.feed_forward")
    roles |= module_gradients("norm", layer.norms, f"{place}.norms")
    own = layer.named_parameters(recurse=False)
    return roles | {name: [gradient_of(parameter, f"{place}.{name}")] for name, parameter in own}


def module_gradients(role: str, module: nn.Module | None, place: str) -> Roles:
    """Return the gradients of a module's weights as ``role`` and of its biases as ``role_bias``, if it has any."""
    roles = Roles()
    for name, parameter in module.named_parameters() if module is not None else ():
        gradient = gradient_of(parameter, f"{place}.{name}")
        roles.setdefault(f"{role}_bias" if name.endswith("bias") else role, []).append(gradient)
    return roles


def outer_gradients(model: SequenceClassifier) -> Roles:
    """Return the gradients outside the layers: ``token_embedding``, ``positional``, the last ``norm`` and ``head``.

    The biases of the last two are ``norm_bias`` and ``head_bias``.

    Raises:
        ValueError: see ``gradient_of``.
    """
    # in a model without layers, parameters of an encoding that acts inside layers have no gradient, rightly
    used = [p for p in model.stack.encoding.parameters() if layers_of(model) or p.grad is not None]
    positional = [gradient_of(parameter, "stack.encoding") for parameter in used]
    return (
        module_gradients("token_embedding", model.token_embedding, "token_embedding")
        | ({"positional": positional} if positional else {})
        | module_gradients("norm", model.stack.norm, "stack.norm")
        | module_gradients("head", model.head, "head")
    )


def gradient_by_place(model: SequenceClassifier) -> dict[str, Summary]:
    """Return the summaries of gradients that the original experiment read, by place.

    Returns:
        ``token_embedding``, ``positional`` (if the encoding has parameters) and ``first_layer`` (if there is a layer;
        without its biases, as in the original), each to its ``gradient_summary``.

    Raises:
        ValueError: see ``gradient_of``.
    """
    outer = outer_gradients(model)
    places: Roles = {name: outer[name] for name in ("token_embedding", "positional") if name in outer}
    if len(model.stack.layers):
        first = layer_gradients(layers_of(model)[0], 0)
        places["first_layer"] = [g for role, found in first.items() if not role.endswith("_bias") for g in found]
    return {place: gradient_summary(found) for place, found in places.items()}


class Recorder(ExitStack):
    """Records one forward and backward pass of a classifier, whose outputs and gradients stay the same to the bit.

    ``with Recorder(model) as seen: loss(model(tokens)).backward()``, then ``seen.report()``. The hooks are removed at
    the end of the block, also after an exception.
    """

    def __init__(self, model: SequenceClassifier) -> None:
        super().__init__()
        self.model = model

    def __enter__(self) -> "Recorder":
        self.signals: dict[int, Tensor] = {}  # layer boundary -> norm, residual, cosine gap
        self.gradients: dict[int, Summary] = {}  # layer boundary -> summary of the gradient
        # the end of the block removes every hook: a torch handle is a context manager
        self.enter_context(self.model.stack.register_forward_pre_hook(lambda _, inputs: self.see(0, inputs[0])))
        for index, layer in enumerate(layers_of(self.model), 1):
            self.enter_context(layer.register_forward_hook(lambda _, __, x, index=index: self.see(index, x)))
        return super().__enter__()

    def see(self, index: int, x: Tensor) -> None:
        """Read the signal ``[B, T, D]`` at a layer boundary, and hook its gradient.

        A layer that is computed again in the backward pass (checkpointing) is read once.
        """
        if index in self.signals:
            return
        signal = wide(x)
        self.signals[index] = torch.stack([signal.norm(), rank1_residual(signal), cosine_gap(signal)])  # [3]
        if x.requires_grad:
            self.enter_context(x.register_hook(partial(self.see_gradient, index)))

    def see_gradient(self, index: int, gradient: Tensor) -> None:
        """Read the gradient at a layer boundary."""
        self.gradients[index] = gradient_summary([gradient])

    def signals_seen(self) -> Summary:
        """Return the signals at the layer boundaries 0 to L; null where not finite.

        Returns:
            lists of ``norm``, ``residual`` (``rank1_residual``) and ``cosine_gap`` (null for a single token).

        Raises:
            ValueError: no forward pass was recorded.
        """
        if len(self.signals) != len(self.model.stack.layers) + 1:
            advice = "run a forward pass inside the recorder's block"
            raise ValueError(message("no forward pass was recorded", do=advice))
        columns = torch.stack([self.signals[index] for index in sorted(self.signals)]).T  # [3, L + 1]
        lists = [[finite(x) for x in column] for column in columns]
        return dict(zip(("norm", "residual", "cosine_gap"), lists, strict=True))

    def report(self) -> Summary:
        """Return all readings as numbers that can be saved; null where not finite.

        Returns:
            ``signals``: ``signals_seen``, and the loss's ``gradient`` and ``gradient_mean_abs`` at the same boundaries;
            ``layers``: role to lists over the layers of ``norm`` and ``mean_abs``; ``outer``: the same outside the
            layers; ``counts``: of the gradients of ``parameters`` and of ``activations``, the ``numbers`` and how many
            are ``zero``, ``subnormal`` and ``nonfinite``, without key biases whose gradient is 0 by construction.

        Raises:
            ValueError: no forward **or** no backward pass was recorded, **or** a part of the model is frozen.
        """
        signals = self.signals_seen()
        if len(self.gradients) != len(self.signals):
            frozen = [name for name, p in self.model.named_parameters() if not p.requires_grad]
            advice = "run a backward pass inside the recorder's block"
            advice = f"{frozen[0]} is frozen: set its requires_grad" if frozen else advice
            raise ValueError(message("no backward pass was recorded", do=advice))
        gradients = [self.gradients[index] for index in sorted(self.gradients)]
        signals["gradient"] = [summary["norm"] for summary in gradients]
        signals["gradient_mean_abs"] = [summary["mean_abs"] for summary in gradients]
        layers = [by_summary(layer_gradients(layer, index)) for index, layer in enumerate(layers_of(self.model))]
        outer = by_summary(outer_gradients(self.model))
        stack = self.model.stack
        idle = {"k_bias"} if key_bias_is_idle(stack.encoding, stack.config) else set()
        counted = [summary for place in (*layers, outer) for role, summary in place.items() if role not in idle]
        return {
            "signals": signals,
            "layers": {
                role: {key: [layer[role][key] for layer in layers] for key in ("norm", "mean_abs")}
                for role in (layers[0] if layers else ())
            },
            "outer": {role: {key: summary[key] for key in ("norm", "mean_abs")} for role, summary in outer.items()},
            "counts": {"parameters": total(counted), "activations": total(gradients)},
        }


def by_summary(roles: Roles) -> dict[str, Summary]:
    """Return the ``gradient_summary`` of each role."""
    return {role: gradient_summary(gradients) for role, gradients in roles.items()}


def total(summaries: Iterable[Summary]) -> dict[str, int]:
    """Return the sums of the counts of several gradients."""
    summaries = list(summaries)
    return {key: sum(summary[key] for summary in summaries) for key in ("numbers", *KINDS)}
