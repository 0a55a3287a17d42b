"""The checks of switches: what each does to gradients and signals at initialisation, as its closed form says."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch

from attnlib.cases.case import Case
from attnlib.gradients import closed_forms, controls
from attnlib.gradients.checks import collapse, rate
from attnlib.gradients.claims import Claim, Curves, Finding, between, near
from attnlib.gradients.fits import SEEDS, recorded, seeded, slopes
from attnlib.model.config import StackConfig

SCALES = (0.03, 0.1, 0.3)  # of the embeddings; small, so that scores are too
ALIKE = 64  # sequences of like tokens
Check = Callable[[Case, Sequence[int]], Finding]
# a block with a norm and a feed-forward, as ``bench/test_gradients.py`` controls it
PRE_LN: dict[str, Any] = {
    "block": "pre_ln",
    "init": "unit",
    "ffn_mult": 1,
    "n_heads": 1,
    "batch_size": 4,
    "n_classes": 16,
}


def switch(case: Case, seeds: Sequence[int] = SEEDS) -> Finding:
    """Check what the switches of a case claim, in the stacks that each belongs to.

    The case is a plain stack without encoding, but for its switches.
    """
    claims: list[Claim] = []
    curves: Curves = {}
    usual = StackConfig()
    for field, checks in CHECKED.items():
        if getattr(case, field) != getattr(usual, field):
            for check in checks:
                found = check(case, seeds)
                claims += found.claims
                curves = curves or found.curves
    return Finding(tuple(claims), curves)


def sink(case: Case, seeds: Sequence[int]) -> Finding:
    """Check by how many decades a layer gradients fall faster with a sink, in stacks that have the same weights."""
    faster = np.log10(closed_forms.attention_gain(case))
    pairs = zip(rate(case, seeds).claims, rate(replace(case, softmax="usual"), seeds).claims, strict=True)
    return Finding(
        tuple(
            near(f"{one.name}, more than without", np.subtract(one.values, other.values), faster, absolute=0.005)
            for one, other in pairs
        )
    )


def normed(case: Case, seeds: Sequence[int]) -> Finding:
    """Check a norm in a pre-LN stack: as LayerNorm there, see ``controls.pre_ln_claims``.

    Twice as wide as the case: eight seeds of a narrower stack do not tell its variance.
    """
    own = replace(case, **PRE_LN, d_model=2 * case.d_model, head_dim=None, depth=controls.CONTROL_DEPTHS[-1])
    return controls.control(own, seeds)


def input_scale(case: Case, seeds: Sequence[int]) -> Finding:
    """Check how the gradients of Q and K in one layer grow with its input, over those of V.

    |g_Q| / |g_V| ~ |x|^2 for small scores: a score's gradient is the same size as V's is over |x|, and Q's multiplies
    it by a key and by x. Normalised queries and keys do not grow with x, and their derivative falls as 1 / |x|, which
    the factor x makes up for: the power is 0.
    """
    power = 0.0 if case.qk_norm else 2.0
    stacks = (seeded(replace(case, depth=1, embedding_scale=scale), seed) for seed in seeds for scale in SCALES)
    reports = [recorded(work)["layers"] for work in stacks]
    claims = []
    for role in "qk":
        ratios = np.reshape([r[role]["norm"][0] / r["v"]["norm"][0] for r in reports], (len(seeds), -1))
        claims.append(near(f"{role}'s power of the input", slopes(np.log10(SCALES), ratios), power, absolute=0.1))
    return Finding(tuple(claims))


def collapsing(case: Case, seeds: Sequence[int]) -> Finding:
    """Check how tokens become alike at unit gain, where scores do not vanish with the signal; see ``collapse``.

    A window mixes tokens slowly, so that it takes more layers to tell how slowly.
    """
    return collapse(replace(case, init="unit", depth=24 if case.window is None else 64), seeds)


@torch.no_grad()
def alike_variance(case: Case, seed: int) -> float:
    """Return the mean square of like tokens of variance 1 after the layers, without the last norm."""
    stack = seeded(case, seed).model.stack
    x = torch.randn(ALIKE, 1, case.d_model, dtype=torch.float64).expand(-1, 4, -1)
    for layer in stack.layers:
        x = layer(x, stack.encoding, None)
    return float(x.square().mean())


def alike(case: Case, seeds: Sequence[int]) -> Finding:
    """Check the variance of like tokens after attention layers with skip connections, see ``closed_forms``.

    In the case's own block if it has one; under ``depth_scale`` in pre-LN and in residual stacks without a norm.
    """
    claims = []
    for block in [case.block] if case.block != "plain" else ["pre_ln", "residual"]:
        own = replace(case, block=block, init="unit")
        found = [alike_variance(own, seed) for seed in seeds]
        claims.append(near(f"variance of like tokens, {block}", found, closed_forms.alike_variance(own), share=0.1))
    return Finding(tuple(claims))


def bounded(case: Case, seeds: Sequence[int]) -> Finding:
    """Check that the variance of a deep stack with norms and feed-forwards lies within its bounds."""
    block = case.block if case.block != "plain" else "pre_ln"
    own = replace(case, **PRE_LN | {"block": block}, depth=controls.CONTROL_DEPTHS[-1])
    tokens = own.batch_size * own.seq_len * own.d_model
    found = [recorded(seeded(own, seed), controls.token_loss)["signals"]["norm"][-1] ** 2 / tokens for seed in seeds]
    return Finding((between("variance", found, *closed_forms.pre_norm_variance(own)),))


def family(case: Case, seeds: Sequence[int] = SEEDS) -> Finding:
    """Read signal and gradients of a family's stacks, and check that gradients do not vanish if branches are normed.

    Post-LN has no such claim, see ``controls.control``; the other numbers have no closed form for all switches at once.
    """
    stacks = (seeded(replace(case, depth=depth), seed) for seed in seeds for depth in controls.CONTROL_DEPTHS)
    signals = [recorded(work, controls.token_loss)["signals"] for work in stacks]
    tokens = case.batch_size * case.seq_len * case.d_model
    read = {
        "variance": [found["norm"][-1] ** 2 / tokens for found in signals],
        "cosine": [1 - found["cosine_gap"][-1] for found in signals],
        "gradient_ratio": [found["gradient"][0] / found["gradient"][-1] for found in signals],
    }
    readings = {name: np.reshape(values, (len(seeds), -1)) for name, values in read.items()}  # [seeds, depths]
    normed_branches = case.block in ("pre_ln", "peri_ln", "lns")
    steady = controls.steady(readings) if normed_branches else controls.steady(readings, None, None)
    claims = (steady, *(between(name, readings[name][:, -1], None, None) for name in ("variance", "cosine")))
    curves: Curves = {name: [float(v) for v in grid.mean(0)] for name, grid in readings.items()}
    return Finding(claims, {"depth": list(controls.CONTROL_DEPTHS), **curves})


CHECKED: dict[str, tuple[Check, ...]] = {  # by field
    "pe": (rate, collapsing),
    "block": (alike, bounded),
    "norm": (normed,),
    "depth_scale": (alike, bounded),
    "value_residual": (rate,),
    "kv_heads": (rate,),
    "qk_norm": (rate, input_scale),
    "softmax": (rate, sink),
    "gate": (rate,),
    "window": (rate, collapsing),
}
CLAIMED = (  # switches that claim something, sized for the short stacks of a check
    *("norm=rms", "block=lns", "depth_scale=gpt2", "depth_scale=depth_mup", "value_residual=true"),
    *("kv_heads=2", "kv_heads=1", "qk_norm=true", "softmax=plus_one", "gate=sigmoid", "window=4"),
    *("pe=rotary_partial", "pe=rotary_ntk", "pe=rotary_yarn", "pe=cope"),
)
