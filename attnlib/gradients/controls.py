"""The check of blocks that were designed against vanishing, each against its own paper's claims at initialisation."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial

import numpy as np
import torch
import torch.nn.functional as F

from attnlib.cases.case import Case
from attnlib.cases.workload import Workload
from attnlib.gradients import closed_forms
from attnlib.gradients.claims import Claim, Curves, Finding, between, near
from attnlib.gradients.fits import RATE, SEEDS, recorded, seeded, slopes, theory_of
from attnlib.model.config import StackConfig

CONTROL_DEPTHS = (4, 16, 64)
MATRICES = ("q", "k", "v", "out", "feed_forward")
PRE_LN = StackConfig(block="pre_ln", init="unit", ffn_mult=1)
ByDepth = dict[str, np.ndarray]  # a reading by seed and depth, [seeds, depths]


def token_loss(work: Workload) -> None:
    """Run the backward pass from the mean cross-entropy of every token against a random label."""
    model = work.model
    logits = model.head(model.stack(model.stack.encoding.embed(model.token_embedding(work.tokens))))  # [B, T, classes]
    logits = logits.flatten(0, 1)  # [B T, classes]
    generator = torch.Generator().manual_seed(work.case.seed)
    F.cross_entropy(logits, torch.randint(logits.shape[1], logits.shape[:1], generator=generator)).backward()


def control(case: Case, seeds: Sequence[int] = SEEDS) -> Finding:
    """Check a block that was designed against vanishing, against its own paper's claims at initialisation.

    There is no claim about post-LN gradients toward the input of an encoder: they need not vanish (arXiv 2004.08249).
    """
    stacks = (seeded(replace(case, depth=depth), seed) for seed in seeds for depth in CONTROL_DEPTHS)
    reports = [recorded(work, token_loss) for work in stacks]
    tokens = case.batch_size * case.seq_len * case.d_model
    read = {
        "variance": [r["signals"]["norm"][-1] ** 2 / tokens for r in reports],
        "signal_ratio": [r["signals"]["norm"][-1] / r["signals"]["norm"][0] for r in reports],
        "gradient_ratio": [r["signals"]["gradient"][0] / r["signals"]["gradient"][-1] for r in reports],
        "last_ffn": [r["layers"]["feed_forward"]["norm"][-1] for r in reports],
        "weights": [float(np.linalg.norm([r["layers"][role]["norm"] for role in MATRICES])) for r in reports],
        "gate": [min(r["layers"].get("gate", {"norm": [0.0]})["norm"]) for r in reports],
    }
    readings = {name: np.reshape(values, (len(seeds), -1)) for name, values in read.items()}  # [seeds, depths]
    curves: Curves = {name: [float(v) for v in grid.mean(0)] for name, grid in readings.items()}
    claims = CONTROLS.get(case.block) or partial(own_claims, theory=(theory_of(case) or {}).get("rate"))
    return Finding(claims(readings), {"depth": list(CONTROL_DEPTHS), **curves})


def steady(readings: ByDepth, least: float | None = -0.02, most: float | None = 0.04) -> Claim:
    """Return the claim that the gradient changes by ``least`` to ``most`` decades a layer from output to input.

    The default limits are a twentieth and a tenth of the 0.39 decades that a plain ``torch_mha`` layer loses.
    """
    decades = np.log10(readings["gradient_ratio"][:, -1]) / CONTROL_DEPTHS[-1]
    return between("input gradient, decades a layer", decades, least, most)


def own_claims(readings: ByDepth, theory: float | None) -> tuple[Claim, ...]:
    """Claim the rate that somebody else's block states, if any: negative where gradients fall toward the input."""
    decades = np.log10(readings["gradient_ratio"][:, -1]) / CONTROL_DEPTHS[-1]
    return (near("input gradient, decades a layer", decades, theory, absolute=0.02),)


def power_of_depth(readings: ByDepth, name: str, title: str, theory: float, band: float) -> Claim:
    """Return the claim about the log-log slope of a reading against depth."""
    return near(title, slopes(np.log10(CONTROL_DEPTHS), readings[name]), theory, absolute=band)


def residual_claims(readings: ByDepth) -> tuple[Claim, ...]:
    """Claim that gradients do not vanish (arXiv 1512.03385) and, without a norm, grow tenfold in ten layers."""
    return (steady(readings, 0.05, 0.15),)


def pre_ln_claims(readings: ByDepth) -> tuple[Claim, ...]:
    """Claim growth within Lemma 2's bounds, and a last-FFN gradient that falls as 1 / sqrt(L) (arXiv 2002.04745)."""
    bounds = closed_forms.pre_norm_variance(replace(PRE_LN, depth=CONTROL_DEPTHS[-1]))
    variance = between("variance", readings["variance"][:, -1], *bounds)
    return variance, power_of_depth(readings, "last_ffn", "last FFN's power of L", -0.5, 0.15), steady(readings)


def post_ln_claims(readings: ByDepth) -> tuple[Claim, ...]:
    """Claim that the last feed-forward's gradient does not depend on depth (arXiv 2002.04745, Theorem 1)."""
    return (power_of_depth(readings, "last_ffn", "last FFN's power of L", 0.0, 0.15),)


def peri_ln_claims(readings: ByDepth) -> tuple[Claim, ...]:
    """Claim that each sublayer adds a variance of 1 and that gradients do not decay (arXiv 2502.02732)."""
    variance = closed_forms.peri_norm_variance(2 * CONTROL_DEPTHS[-1])
    return near("variance", readings["variance"][:, -1], variance, share=0.15), steady(readings)


def rezero_claims(readings: ByDepth) -> tuple[Claim, ...]:
    """Claim that the stack is exactly the identity, and that only the gates have a gradient (arXiv 2003.04887)."""
    return (
        between("signal out / in", readings["signal_ratio"][:, -1], 1.0, 1.0),
        between("gradient in / out", readings["gradient_ratio"][:, -1], 1.0, 1.0),
        between("weights' gradient", readings["weights"][:, -1], 0.0, 0.0),
        between("gates' gradient", readings["gate"][:, -1], 1e-6, None),
    )


def deepnorm_claims(readings: ByDepth) -> tuple[Claim, ...]:
    """Claim equal gradients in first and last layer, and an SGD step of bounded effect (arXiv 2203.00555).

    To first order, the step changes the loss by the learning rate times the squared gradient of all weights.
    """
    return (
        near("gradient in / out", readings["gradient_ratio"][:, -1], 1.0, share=RATE),
        power_of_depth(readings, "weights", "all weights' gradient's power of L", 0.0, 0.1),
    )


CONTROLS: dict[str, Callable[[ByDepth], tuple[Claim, ...]]] = {
    "residual": residual_claims,
    "post_ln": post_ln_claims,
    "pre_ln": pre_ln_claims,
    "peri_ln": peri_ln_claims,
    "rezero": rezero_claims,
    "deepnorm": deepnorm_claims,
}
