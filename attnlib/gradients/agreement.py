"""Closed forms, the recursion of moments and measured stacks side by side: where all three agree, and where not."""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import NamedTuple

import numpy as np

from attnlib.cases.case import Case
from attnlib.compare.intervals import Estimate, t_interval
from attnlib.gradients import closed_forms
from attnlib.gradients.controls import token_loss
from attnlib.gradients.fits import recorded, seeded
from attnlib.gradients.moments import Moments, critical, predict

CLOSE, RATES = 0.1, 0.005  # how far a prediction may be from the measured mean: relative; of a rate in decades a layer
DEPTH = 32
SMALL = Case(dtype="float64", seq_len=16, d_model=128, n_heads=1, batch_size=4, n_classes=16, depth=DEPTH, pe="none")
STACKS = {
    "plain, torch_mha": replace(SMALL, init="torch_mha"),
    "plain, linear": replace(SMALL, init="linear"),
    "plain, unit": replace(SMALL, init="unit"),
    "plain, torch_mha, kv_heads=1": replace(SMALL, init="torch_mha", n_heads=4, kv_heads=1),
    "residual, torch_mha": replace(SMALL, block="residual"),
    "residual, unit, depth_scale=depth_mup": replace(SMALL, block="residual", init="unit", depth_scale="depth_mup"),
    "pre_ln, unit": replace(SMALL, block="pre_ln", init="unit", ffn_mult=1),
    "pre_ln, unit, depth_scale=gpt2": replace(SMALL, block="pre_ln", init="unit", ffn_mult=1, depth_scale="gpt2"),
    "lns, unit": replace(SMALL, block="lns", init="unit", ffn_mult=1),
    "peri_ln, unit": replace(SMALL, block="peri_ln", init="unit", ffn_mult=1),
    "post_ln, unit": replace(SMALL, block="post_ln", init="unit", ffn_mult=1),
}


class Agreement(NamedTuple):
    """One number of one stack, three ways.

    Args:
        stack: its name.
        number: what is read: ``decades a layer`` of the gradient toward the input (negative: it vanishes), ``variance``
            of the output, ``cosine`` of its tokens.
        closed: the closed form, or its two bounds; empty where there is none.
        recursion: the prediction by moments.
        measured: mean over the seeds with its 95 % t interval.
    """

    stack: str
    number: str
    closed: tuple[float, ...]
    recursion: float
    measured: Estimate

    @property
    def verdict(self) -> str:
        """Return ``all agree``, ``both agree`` where there is no closed form, or who differs from the measured mean."""
        ends = (min(self.closed), max(self.closed)) if self.closed else None
        apart = []
        if ends is not None and not (
            self.near(ends[0]) or self.near(ends[1]) or ends[0] < self.measured.value < ends[1]
        ):
            apart.append("closed form")
        if not self.near(self.recursion):
            apart.append("recursion")
        if apart:
            return f"{' and '.join(apart)} differ{'s' * (len(apart) == 1)}"
        return "all agree" if self.closed else "both agree"

    def near(self, value: float) -> bool:
        """Return True if a prediction is close to the measured mean, or within its interval."""
        width = RATES if self.number == "decades a layer" else CLOSE * abs(self.measured.value)
        return abs(value - self.measured.value) <= width or self.measured.low <= value <= self.measured.high


def agreements(seeds: Sequence[int] = range(8)) -> Iterator[Agreement]:
    """Yield every number of every stack in ``STACKS``; measuring takes about a second a stack."""
    for name, case in STACKS.items():
        read = np.array([readings(case, seed) for seed in seeds]).T  # [3, seeds]
        start = Moments(1.0, 1 / case.vocab_size)  # two letters are the same with this probability
        found = predict(case, start, Moments(1.0, 0.0))
        predicted = (decades(found.gradients), found.variance, found.cosine)
        closed = closed_of(case)
        for number, values, recursion in zip(closed, read, predicted, strict=True):
            if number != "variance" or case.block not in ("plain", "post_ln"):
                yield Agreement(name, number, closed[number], recursion, t_interval(values.tolist()))


def readings(case: Case, seed: int) -> tuple[float, float, float]:
    """Return decades a layer of the gradient, the output's variance, and the cosine of its tokens, of one seed."""
    signals = recorded(seeded(case, seed), token_loss)["signals"]
    tokens = case.batch_size * case.seq_len * case.d_model
    return decades(signals["gradient"]), signals["norm"][-1] ** 2 / tokens, 1 - signals["cosine_gap"][-1]


def decades(gradients: Sequence[float]) -> float:
    """Return the decades a layer of |gradient| toward the input, without two layers at each end.

    In the last ones each token has its own gradient, which attention makes alike, once; in the first ones tokens are
    not alike yet.
    """
    first, *_, last = gradients[2:-2]
    return float(np.log10(first / last)) / (len(gradients) - 5)


def closed_of(case: Case) -> dict[str, tuple[float, ...]]:
    """Return what ``closed_forms`` says of each number; nothing where it says nothing."""
    rate: tuple[float, ...] = (closed_forms.decay_rate(case),) if case.block == "plain" else ()
    variance: tuple[float, ...] = ()
    if case.block in ("pre_ln", "lns"):
        variance = closed_forms.pre_norm_variance(case)
    elif case.block == "peri_ln":
        variance = (closed_forms.peri_norm_variance(2 * case.depth),)
    return {"decades a layer": rate, "variance": variance, "cosine": ()}


def temperatures() -> Iterator[tuple[str, float, float]]:
    """Yield each initialisation's beta and the critical one for tokens that have nothing in common."""
    for init in ("torch_mha", "linear", "unit"):
        yield init, *critical(replace(SMALL, init=init), 0.0)
