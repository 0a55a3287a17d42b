"""Comparison of a part with an oracle, for ordinary inputs and for large ones, where kernels lose digits."""

import contextlib
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from attnlib.cases.subject import KINDS, Failed, NotApplicable, Subject, apart, encoded, stir
from attnlib.errors import message
from attnlib.model.attention import ATTENTION, causal_mask
from attnlib.model.classifier import SequenceClassifier
from attnlib.model.config import choose

SCALES = {"oracle": 1.0, "oracle x30": 30.0, "oracle x1000": 1000.0}  # standard deviations of the inputs
# The largest difference over the oracle's largest number: for inputs of ordinary size, and for large ones, where a
# softmax all but picks one key and scores have few digits behind the point.
BIASED = "the output with a bias"
TOLERANCE = {"float64": (1e-12, 1e-9), "float32": (1e-5, 1e-3), "float16": (5e-3, 1e-2), "bfloat16": (2e-2, 5e-2)}

OPTIONAL = {"by_distance", BIASED}  # outputs that one of the two need not have


def check_oracle(kind: str, oracle: str) -> None:
    """Refuse an oracle that is no part of this kind.

    Raises:
        ValueError: the oracle cannot be imported, **or** fits no part of this kind, **or** the kind is random.
    """
    if kind == "init":
        wrong = "an initialisation is random and is compared with no oracle"
        raise ValueError(message(wrong, do="leave out --oracle"))
    choose(kind, oracle, KINDS[kind])


def compare(oracle: str, scale: float, subject: Subject) -> str:
    """Compare a part with an oracle, which computes in float64 where it can.

    Both are made from the same seed, and the oracle gets the part's parameters, see ``share``.

    Args:
        oracle: name or place of a part of the same kind.
        scale: standard deviation of the inputs.
        subject: the part.
    """
    dtype = subject.case.dtype
    inputs = normal_inputs(subject, scale)
    mine = subject.fresh()
    try:
        theirs, right = answer(subject, mine, oracle, "float64", inputs)
    except Failed:  # a kernel that has no float64
        try:
            theirs, right = answer(subject, mine, oracle, dtype, inputs)
        except Failed as error:
            raise NotApplicable(f"the oracle fails: {error}") from error
    given = outputs(subject, mine, inputs)
    if missing := sorted((set(right) ^ set(given)) - OPTIONAL):
        holder, other = ("the oracle", "the part") if missing[0] in right else ("the part", "the oracle")
        raise Failed(message(f"{holder} gives {missing[0]}, {other} does not"))
    allowed = TOLERANCE[dtype][scale > 1]
    worst = 0.0
    for name in [name for name in right if name in given]:
        worst = max(worst, distance(name, given[name], right[name], allowed))
    return f"at most {worst:.1g} of the largest number from {oracle} in {theirs}; allowed {allowed:.0e}"


def distance(name: str, given: Tensor, right: Tensor, allowed: float) -> float:
    """Return the largest difference of an output from the oracle's, over the oracle's largest number.

    Raises:
        Failed: the difference exceeds ``allowed``, **or** other numbers than the oracle's are finite, **or** the shapes
            differ.
        NotApplicable: the oracle's output has NaN or +inf.
    """
    if given.shape != right.shape:
        raise Failed(message(f"{name} must have the oracle's shape {list(right.shape)}", list(given.shape)))
    if right.isnan().any() or (right == torch.inf).any():
        raise NotApplicable(f"{name} of the oracle is not finite")
    if bad := int((given.isfinite() != right.isfinite()).sum()):
        wrong = f"{name}: {bad} of {given.numel()} numbers are NaN or infinite, the oracle's are not"
        raise Failed(message(wrong))
    difference = apart(right, given.to(right.device))
    if not difference <= allowed:
        limit = f"more than the {allowed:.0e} allowed"
        raise Failed(message(f"{name} differs by {difference:.2g} of the oracle's largest number, {limit}"))
    return difference


def normal_inputs(subject: Subject, scale: float) -> dict[str, Tensor]:
    """Return normal inputs of standard deviation ``scale``, and a standard normal bias with a causal stack's mask."""
    case = subject.case
    inputs = {name: scale * x for name, x in subject.normal_inputs().items()}
    bias = subject.normal(1, case.n_heads, case.seq_len, case.seq_len)
    if case.causal:
        bias = bias.masked_fill(causal_mask(case.seq_len, bias.device), -torch.inf)
    return inputs | {"bias": bias}


def answer(
    subject: Subject, mine: SequenceClassifier, oracle: str, dtype: str, inputs: Mapping[str, Tensor]
) -> tuple[str, dict[str, Tensor]]:
    """Return the dtype and the outputs of an oracle that has the part's parameters."""
    fields: dict[str, Any] = {"dtype": dtype, subject.kind: oracle}
    other = Subject(subject.kind, oracle, replace(subject.case, **fields))
    theirs = other.fresh()
    share(subject.parameters(mine), other.parameters(theirs))
    return dtype, outputs(other, theirs, {name: x.to(other.dtype) for name, x in inputs.items()})


@torch.no_grad()
def share(part: Mapping[str, Tensor], oracle: Mapping[str, Tensor]) -> None:
    """Perturb a part's parameters and copy them into an oracle, by name or else in order, if the shapes agree.

    If one of them has no parameters, both stay as they were made.

    Raises:
        NotApplicable: both have parameters, and these cannot be paired.
    """
    mine, theirs = ({name.removeprefix("own."): p for name, p in given.items()} for given in (part, oracle))
    if not mine or not theirs:
        return
    if {name: p.shape for name, p in mine.items()} == {name: p.shape for name, p in theirs.items()}:
        pairs = [(mine[name], p) for name, p in theirs.items()]
    elif [p.shape for p in mine.values()] == [p.shape for p in theirs.values()]:
        pairs = list(zip(mine.values(), theirs.values(), strict=True))
    else:
        both = [", ".join(f"{name} {list(p.shape)}" for name, p in given.items()) for given in (mine, theirs)]
        raise NotApplicable(f"its parameters ({both[0]}) cannot be paired with the oracle's ({both[1]})")
    stir(mine.values())
    for value, parameter in pairs:
        parameter.copy_(value)


def outputs(subject: Subject, model: SequenceClassifier, inputs: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return a part's outputs for these inputs, by name."""
    if subject.kind == "pe":
        return {output.name: output.value for output in encoded(subject, model.stack.encoding, inputs)}
    if subject.kind == "block":
        layer: Any = model.stack.layers[0]
        with torch.no_grad(), subject.blamed():
            return {"sublayer 0": layer.sublayer(inputs["x"], lambda y: y.flip(-1), 0)}
    attend, causal = ATTENTION[subject.name], subject.case.causal
    q, k, v, bias = (inputs[name] for name in ("q", "k", "v", "bias"))
    with torch.no_grad(), subject.blamed():
        found = {"the output": attend(q, k, v, None, causal)}
    with torch.no_grad(), contextlib.suppress(Failed), subject.blamed():  # it may refuse a bias
        if subject.name != "flex":  # which takes one of distances
            found[BIASED] = attend(q, k, v, bias, causal)
    return found
