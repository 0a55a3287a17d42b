"""What a backward pass left behind: gradients as plain numbers, read without changing anything."""

from collections.abc import Iterable

import torch
from torch import Tensor

from attnlib.model import SequenceClassifier

SUBNORMAL = {dtype: torch.finfo(dtype).tiny for dtype in (torch.float16, torch.bfloat16, torch.float32, torch.float64)}


def gradient_summary(parameters: Iterable[torch.nn.Parameter]) -> dict[str, float]:
    """Summarise the gradients of several parameters as one vector g of n numbers, in float64.

    Returns:
        ``norm``: Frobenius norm of g; ``mean_abs``: mean of abs(g_i), the original experiment's quantity;
        ``zero`` and ``subnormal``: shares of the n numbers that are 0, or smaller than the dtype's least normal.

    Raises:
        ValueError: there is no parameter, **or** one has no gradient.
    """
    gradients: list[Tensor] = []
    for parameter in parameters:
        if parameter.grad is None:
            raise ValueError("a parameter has no gradient: run a backward pass before probing")
        gradients.append(parameter.grad.detach())
    if not gradients:
        raise ValueError("no parameters to probe")
    tiny = SUBNORMAL[gradients[0].dtype]
    magnitude = torch.cat([g.flatten() for g in gradients]).double().abs()
    zero, small = int((magnitude == 0).sum()), int((magnitude < tiny).sum())
    return {
        "norm": float(magnitude.norm()),
        "mean_abs": float(magnitude.mean()),
        "zero": zero / magnitude.numel(),
        "subnormal": (small - zero) / magnitude.numel(),
    }


def gradient_by_place(model: SequenceClassifier) -> dict[str, dict[str, float]]:
    """Gradients where the original experiment looked: token embedding, first layer's weights, learned positions.

    Biases are left out, as the original did: a key bias has gradient 0 because softmax is shift-invariant.

    Returns:
        place to ``gradient_summary``; ``positional`` only where the encoding has parameters, ``first_layer`` only
        where there is a layer.

    Raises:
        ValueError: no backward pass has been run.
    """
    places = {"token_embedding": list(model.token_embedding.parameters())}
    if len(model.stack.layers):
        layer = model.stack.layers[0]
        places["first_layer"] = [p for name, p in layer.named_parameters() if not name.endswith("bias")]
    if positional := list(model.stack.encoding.parameters()):
        places["positional"] = positional
    return {place: gradient_summary(parameters) for place, parameters in places.items()}
