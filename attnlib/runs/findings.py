"""The part of the results contract on findings: what a check of gradients, or a training, leaves in its row."""

from typing import Annotated, Any

import msgspec
from msgspec import Meta, Struct

Name = Annotated[str, Meta(pattern=r"^[A-Za-z0-9_.:+-]{1,64}$")]  # becomes part of labels in tables and figures
Words = Annotated[str, Meta(pattern=r"^[A-Za-z0-9_ ',./-]{1,64}$")]
Count = Annotated[int, Meta(ge=0, le=2**62)]
Size = Annotated[int, Meta(ge=1, le=2**62)]
Real = Annotated[float, Meta(ge=-1e15, le=1e15)]  # beyond is no measurement, and would overflow in sums and powers
Share = Annotated[float, Meta(ge=0, le=1)]
Positive = Annotated[float, Meta(ge=1e-12, le=1e12)]  # seconds
Object = dict[str, Any]
LEARNED = {"bag": "test", "learn": "test", "depth": "test", "tune": "validation"}  # the part that a phase is judged on
CURVES = {  # what figures draw of a check: against what, and what
    "rate": ("depth", "first_layer", "token_embedding"),
    "profile": ("layer", "q", "k", "v", "out", "activation"),
    "collapse": ("layer", "residual"),
}


class Claim(Struct):
    """A number fitted once a seed, its interval and where that must lie."""

    name: Words
    mean: Real
    low: Real
    high: Real
    theory: Real | None
    least: Real | None
    most: Real | None
    seeds: Count


class Counted(Struct):
    """How many numbers are zero, subnormal and not finite."""

    numbers: Size
    zero: Count
    subnormal: Count


class Training(Struct):
    """How well a training, or another classifier, did on what it learned from and on what it never saw.

    Choices are made on the validation part and reported on the test part, so a row has numbers of one of them alone.
    """

    n_train: Size
    n_held_out: Size
    left_chance: bool  # on what it learned from
    train_accuracy: Share | None
    seconds: Positive
    reason: str | None = None  # why there are no numbers
    validation_accuracy: Share | None = None
    test_accuracy: Share | None = None
    train_loss: Real | None = None
    validation_loss: Real | None = None
    test_loss: Real | None = None
    learning_rate: Positive | None = None
    epochs: Positive | None = None
    losses: list[Real] = []
    weights: Name | None = None


class Probe(Struct):
    """What a check of gradients found, how many were subnormal, or how a training went."""

    claims: list[Claim] = []
    curves: dict[str, list[Real | None]] = {}
    counts: dict[str, Counted] = {}
    training: Training | None = None


def probe_problems(case: Object, probe: Object) -> list[str]:
    """What tables and figures would miss in what was found; nothing in no probe at all."""
    if not probe:
        return []
    if found := problem(probe, Probe, "probe"):
        return found
    curves, counts, phase = probe.get("curves", {}), probe.get("counts", {}), case["phase"]
    if counts and "parameters" not in counts:
        return ["probe.counts has no parameters"]
    if phase in LEARNED:
        return training_problems(case, probe.get("training"))
    if phase not in CURVES:
        return []
    needed = CURVES[phase] + (("positional",) if phase == "rate" and case["pe"] == "learned" else ())
    if missing := [name for name in needed if not curves.get(name)]:
        return [f"probe.curves has no {', '.join(missing)}"]
    axis, first = CURVES[phase][:2]
    if len({len(points) for points in curves.values()}) > 1:
        return ["probe.curves are of different lengths"]
    if None in curves[axis] or None in (curves[first][0], curves.get("token_embedding", [0])[0]):
        return [f"probe.curves.{axis} or a first point is null"]
    if phase == "rate" and (not probe.get("claims") or probe["claims"][0].get("theory") is None):
        return ["probe has no claim with a theory"]
    return []


def training_problems(case: Object, training: Object | None) -> list[str]:
    """What is missing in a training, or there although the part that it stands for decided on something."""
    if training is None:
        return ["probe has no training"]
    judged = LEARNED[case["phase"]]
    other = {"test": "validation", "validation": "test"}[judged]
    if training.get(f"{other}_accuracy") is not None:
        return [f"probe.training of phase {case['phase']} has a {other} accuracy"]
    if case["phase"] != "bag" and (training.get("learning_rate") is None or type(case.get("seed")) is not int):
        return ["probe.training without a learning rate or a seed"]
    if case["phase"] == "depth" and case["depth"] < 1:
        return ["probe.training of no layers"]
    numbers = [training.get(f"{part}_accuracy") for part in ("train", judged)]
    if None in numbers and (case["phase"] == "bag" or not training.get("reason")):
        return ["probe.training has no accuracy and no reason"]
    return [] if isinstance(case.get("data"), str) else ["probe.training without data"]


def problem(node: Any, kind: type, name: str = "") -> list[str]:
    """What msgspec says first, after ``name`` and the path."""
    try:
        msgspec.convert(node, kind)
    except msgspec.ValidationError as error:
        text, _, path = str(error).partition(" - at `$")
        return [": ".join(part for part in (name, path.strip(".`"), text) if part)]
    return []
