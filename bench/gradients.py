"""The checks of ``bench/test_gradients.py``: read seeded stacks, fit a number a seed, set it beside its closed form.

A check takes a case and returns a ``Finding``. Theory follows from the case, the readings from the model that
``Workload`` builds of it: a model that is not what its case says is found out.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import ArrayLike

from attnlib import theory
from attnlib.measure.environment import flushes_subnormals
from attnlib.model import build_encoding
from attnlib.probes import Recorder, gradient_by_place
from bench.cases import Case
from bench.claims import Claim, Curves, Finding, between, near
from bench.workload import Workload

SEEDS = range(8)
DEPTHS = (4, 8, 16, 32)  # of the fit of a rate, below the depth of the case
RATE, UNIT = 0.05, 0.02  # bands of a rate: a share of it; decades where it is almost 0
ENDS = slice(2, -2)  # what a fit within one network uses: two layers at each end are left out
LARGE, SMALL = 0.1, 1e-12  # between them a residual has collapsed but is not yet rounding
SPREADS = (1.0, 0.1, 0.03, 0.01, 0.001)  # of the tokens about their mean, where a collapse starts from
CONTROL_DEPTHS = (4, 16, 64)
MATRICES = ("q", "k", "v", "out", "feed_forward")
FORMATS = ("float16", "bfloat16", "float32")


def inner(case: Case) -> int:
    """HK."""
    return case.n_heads * case.head_width


def decay(case: Case) -> float:
    """The closed form's decades a layer."""
    return theory.decay_rate(case.init, d_model=case.d_model, inner=inner(case))


def band(case: Case) -> float:
    """Half-width of what counts as the same rate, in decades a layer."""
    return UNIT if case.init == "unit" else RATE * abs(decay(case))


def slopes(x: ArrayLike, rows: ArrayLike) -> np.ndarray:
    """Slope of log10 of each row against ``x``: ``[seeds, n]`` to ``[seeds]``."""
    return np.asarray(np.polyfit(np.asarray(x), np.log10(rows).T, 1)[0])


def mean_log(rows: ArrayLike) -> list[float]:
    """Mean over the seeds of log10: ``[seeds, n]`` to n numbers."""
    return [float(v) for v in np.log10(rows).mean(0)]


def class_loss(work: Workload) -> None:
    """Forward and backward of the case's own loss."""
    work.build_graph()
    work.backward()


def recorded(work: Workload, loss: Callable[[Workload], None] = class_loss) -> dict[str, Any]:
    """The report of one forward and backward pass."""
    with Recorder(work.model) as seen:
        loss(work)
    return seen.report()


def rate(case: Case, seeds: Sequence[int] = SEEDS) -> Finding:
    """The gradient of the first layer and of the embeddings as a plain stack gets deeper falls at the closed-form rate.

    The shallower stacks are the last layers of the deepest, so that the increments are the layers' own.
    """
    depths = [*(depth for depth in DEPTHS if depth < case.depth), case.depth]
    readings: dict[str, list[float]] = {}
    for seed in seeds:
        work = Workload(case, seed)
        stack, layers = work.model.stack, work.model.stack.layers
        for depth in depths:
            stack.layers = layers[len(layers) - depth :]
            class_loss(work)
            for place, summary in gradient_by_place(work.model).items():
                readings.setdefault(place, []).append(summary["norm"])
    norms = {place: np.reshape(values, (len(seeds), len(depths))) for place, values in readings.items()}
    judged = ["first_layer", "token_embedding"] + ["positional"] * (case.pe == "learned")
    claims = tuple(near(place, slopes(depths, norms[place]), decay(case), absolute=band(case)) for place in judged)
    return Finding(claims, {"depth": depths} | {place: mean_log(rows) for place, rows in norms.items()})


def profile(case: Case, seeds: Sequence[int] = SEEDS) -> Finding:
    """Inside one plain network: who dies toward the input, who toward the output, and who does not.

    One sequence: of several, biases make all alike, and gradients of opposite labels then cancel.
    """
    reports = [recorded(Workload(case, seed)) for seed in seeds]
    encoding = build_encoding(case)
    layer = np.arange(case.depth)
    roles = {role: np.array([r["layers"][role]["norm"] for r in reports]) for role in reports[0]["layers"]}
    signals = {name: np.array([r["signals"][name] for r in reports]) for name in ("norm", "gradient", "cosine_gap")}
    falls = -decay(case) if case.init == "linear" else 0.0  # biases keep the forward signal up; without, it falls too
    slope = {"activation": slopes(layer[ENDS], signals["gradient"][:, :-1][:, ENDS])}
    slope |= {role: slopes(layer[ENDS], roles[role][:, ENDS]) for role in ("v", "out")}
    expected = {"activation": -decay(case), "v": falls, "out": falls}
    claims = [near(name, slope[name], expected[name], absolute=band(case)) for name in slope]
    if case.init == "unit":  # the others collapse within so few layers that nothing is left to fit
        for role, power in theory.query_key_powers(encoding).items():
            ratio = roles[role] / roles["v"] / signals["norm"][:, :-1] ** 2
            claims.append(near(f"{role} power", powers(signals["cosine_gap"][:, :-1], ratio), power, share=0.15))
    idle = (roles["k_bias"] / roles["v"]).max(1)
    claims.append(between("key bias / v", idle, *((0.0, 1e-12) if theory.key_bias_is_idle(encoding) else (1e-6, None))))
    curves: Curves = {role: mean_log(roles[role]) for role in ("q", "k", "v", "out")}
    gradient = mean_log(signals["gradient"])
    return Finding(tuple(claims), {"layer": list(range(case.depth)), "activation": gradient[:-1], **curves})


def powers(gaps: np.ndarray, ratios: np.ndarray) -> list[float]:
    """Slope of log10 ratio against log10 gap for each seed, where the tokens have collapsed but not to rounding."""
    found = []
    for gap, ratio in zip(gaps, ratios, strict=True):
        last = int((gap > SMALL).sum())
        first = min(int((gap >= LARGE).sum()), last - 2)  # two points at least
        found.append(float(np.polyfit(np.log10(gap[first:last]), np.log10(ratio[first:last]), 1)[0]))
    return found


@torch.no_grad()
def residuals(work: Workload, spread: float) -> np.ndarray:
    """Relative rank-1 residual at every layer boundary, tokens first drawn to their mean by ``spread``."""
    model = work.model
    x = model.stack.encoding.embed(model.token_embedding(work.tokens))
    mean = x.mean(1, keepdim=True)
    with Recorder(model) as seen:
        model.stack(mean + spread * (x - mean))
    return np.array(seen.signals_seen()["residual"])


def collapse(case: Case, seeds: Sequence[int] = SEEDS) -> Finding:
    """How fast tokens become alike: r -> C r^3 where only the input knows positions, r -> C r otherwise.

    Where content plays no part C is known: the second eigenvalue of what positions alone make of attention, and with a
    skip what the skip leaves of it; with the norm inside the branch the stack grows and r falls as 1 / sqrt(l).
    """
    exponents, contractions, expected, curves, drawn = [], [], [], [], []
    settled = 12 if case.causal else 3  # layers until the slowest mode leads: triangular attention is far from normal
    for seed in seeds:
        work = Workload(case, seed)
        runs = {spread: residuals(work, spread) for spread in SPREADS}
        pairs = np.concatenate([np.stack([r[:-1], r[1:]]) for r in runs.values()], axis=1)
        inside = pairs[:, (pairs[0] < LARGE) & (pairs[1] > SMALL)]
        exponents.append(float(np.polyfit(np.log10(inside[0]), np.log10(inside[1]), 1)[0]))
        curves.append(runs[1.0])
        drawn.append(runs[0.1])
        contraction = theory.position_contraction(work.model.stack.encoding, case.seq_len)
        if case.block != "pre_ln" and contraction is not None and collapse_rate(case, contraction) > SMALL:
            r = runs[0.1]
            last = int((r > SMALL).sum()) - 1
            contractions.append(float(np.log10(r[last] / r[settled]) / (last - settled)))
            expected.append(float(np.log10(collapse_rate(case, contraction))))
    exponent = 1 if case.block != "plain" else theory.collapse_exponent(build_encoding(case))
    claims = [near("exponent", exponents, exponent, share=0.1)]
    if contractions:
        claims.append(near("decades a layer", contractions, expected, share=0.1))
    if case.block == "pre_ln":
        layer = np.arange(4, case.depth + 1)
        claims.append(near("power of depth", slopes(np.log10(layer), np.array(drawn)[:, 4:]), -0.5, share=0.2))
    return Finding(tuple(claims), {"layer": list(range(case.depth + 1)), "residual": mean_log(curves)})


def collapse_rate(case: Case, contraction: float) -> float:
    """Theory's factor a layer for this block."""
    if case.block == "plain":
        return contraction
    gain = theory.layer_gain(case.init, d_model=case.d_model, inner=inner(case))
    return theory.skip_contraction(contraction, gain)


def token_loss(work: Workload) -> None:
    """Backward from the mean cross-entropy of every token against a random label, as the papers on norms have it."""
    model = work.model
    logits = model.head(model.stack(model.stack.encoding.embed(model.token_embedding(work.tokens)))).flatten(0, 1)
    generator = torch.Generator().manual_seed(work.seed)
    F.cross_entropy(logits, torch.randint(logits.shape[1], logits.shape[:1], generator=generator)).backward()


Readings = dict[str, np.ndarray]  # [seeds, depths]


def control(case: Case, seeds: Sequence[int] = SEEDS) -> Finding:
    """Blocks that were made against vanishing, each against what its own paper says at initialisation.

    Nothing is said of how post-LN gradients fall toward the input of an encoder: they need not (arXiv 2004.08249).
    """
    stacks = (Workload(replace(case, depth=depth), seed) for seed in seeds for depth in CONTROL_DEPTHS)
    reports = [recorded(work, token_loss) for work in stacks]
    tokens = case.batch_size * case.seq_len * case.d_model
    readings = {
        "variance": [r["signals"]["norm"][-1] ** 2 / tokens for r in reports],
        "signal_ratio": [r["signals"]["norm"][-1] / r["signals"]["norm"][0] for r in reports],
        "gradient_ratio": [r["signals"]["gradient"][0] / r["signals"]["gradient"][-1] for r in reports],
        "last_ffn": [r["layers"]["feed_forward"]["norm"][-1] for r in reports],
        "weights": [float(np.linalg.norm([r["layers"][role]["norm"] for role in MATRICES])) for r in reports],
        "gate": [min(r["layers"].get("gate", {"norm": [0.0]})["norm"]) for r in reports],
    }
    grids = {name: np.reshape(values, (len(seeds), len(CONTROL_DEPTHS))) for name, values in readings.items()}
    curves: Curves = {name: [float(v) for v in grid.mean(0)] for name, grid in grids.items()}
    return Finding(CONTROLS[case.block](grids), {"depth": list(CONTROL_DEPTHS), **curves})


def no_decay(readings: Readings) -> Claim:
    """The gradient at the input is no smaller than at the output by a twentieth of what a plain layer of 1/6 loses."""
    decades = np.log10(readings["gradient_ratio"][:, -1]) / CONTROL_DEPTHS[-1]
    return between("input gradient, decades a layer", decades, -0.02, None)


def power_of_depth(readings: Readings, name: str, title: str, theory: float, band: float) -> Claim:
    """The slope of a reading against depth, both logarithmic."""
    return near(title, slopes(np.log10(CONTROL_DEPTHS), readings[name]), theory, absolute=band)


def residual_claims(readings: Readings) -> tuple[Claim, ...]:
    """The identity path carries the gradient (arXiv 1512.03385)."""
    return (no_decay(readings),)


def pre_ln_claims(readings: Readings) -> tuple[Claim, ...]:
    """The signal grows within Lemma 2's bounds, the last FFN's gradient falls as 1 / sqrt(L) (arXiv 2002.04745)."""
    bounds = theory.pre_norm_variance(2 * CONTROL_DEPTHS[-1])
    variance = between("variance", readings["variance"][:, -1], *bounds)
    return variance, power_of_depth(readings, "last_ffn", "last FFN's power of L", -0.5, 0.15), no_decay(readings)


def post_ln_claims(readings: Readings) -> tuple[Claim, ...]:
    """The last feed-forward's gradient does not depend on depth (arXiv 2002.04745, Theorem 1)."""
    return (power_of_depth(readings, "last_ffn", "last FFN's power of L", 0.0, 0.15),)


def peri_ln_claims(readings: Readings) -> tuple[Claim, ...]:
    """Each sublayer adds a variance of 1, and gradients do not decay (arXiv 2502.02732)."""
    variance = theory.peri_norm_variance(2 * CONTROL_DEPTHS[-1])
    return near("variance", readings["variance"][:, -1], variance, share=0.15), no_decay(readings)


def rezero_claims(readings: Readings) -> tuple[Claim, ...]:
    """The identity, to the bit, in both directions; only the gates have a gradient (arXiv 2003.04887)."""
    return (
        between("signal out / in", readings["signal_ratio"][:, -1], 1.0, 1.0),
        between("gradient in / out", readings["gradient_ratio"][:, -1], 1.0, 1.0),
        between("weights' gradient", readings["weights"][:, -1], 0.0, 0.0),
        between("gates' gradient", readings["gate"][:, -1], 1e-6, None),
    )


def deepnorm_claims(readings: Readings) -> tuple[Claim, ...]:
    """Gradients are as large in the first layer as in the last, and an SGD step's effect is bounded (arXiv 2203.00555).

    The step changes the loss by the learning rate times the squared gradient, in first order.
    """
    return (
        near("gradient in / out", readings["gradient_ratio"][:, -1], 1.0, share=RATE),
        power_of_depth(readings, "weights", "all weights' gradient's power of L", 0.0, 0.1),
    )


CONTROLS: dict[str, Callable[[Readings], tuple[Claim, ...]]] = {
    "residual": residual_claims,
    "post_ln": post_ln_claims,
    "pre_ln": pre_ln_claims,
    "peri_ln": peri_ln_claims,
    "rezero": rezero_claims,
    "deepnorm": deepnorm_claims,
}


@contextmanager
def subnormals_kept() -> Iterator[None]:
    """Let this thread's arithmetic keep subnormal numbers for a while."""
    flushed = flushes_subnormals()
    torch.set_flush_denormal(False)
    try:
        yield
    finally:
        torch.set_flush_denormal(flushed)


def flush(case: Case, seeds: Sequence[int] = SEEDS) -> Finding:
    """How many layers from the output the mean absolute activation gradient, read in float64, is 0 when cast."""
    reports = (recorded(Workload(case, seed)) for seed in seeds)
    rows = [report["signals"]["gradient_mean_abs"][::-1] for report in reports]  # from the output to the input
    claims, readings = [], torch.tensor(rows, dtype=torch.float64)
    start = [row[ENDS.start] for row in rows]
    for name in FORMATS:
        dtype = getattr(torch, name)
        with subnormals_kept():
            zero = readings.to(dtype) == 0
        depths = zero.int().argmax(1).tolist()
        if not bool(zero.any(1).all()):
            raise ValueError(f"{case.depth} layers are too few for {name} to flush")
        expected = [ENDS.start + theory.flush_depth(dtype, start=s, rate=decay(case)) + 0.5 for s in start]
        claims.append(near(name, depths, expected, share=RATE, absolute=1.0))
    return Finding(tuple(claims), {"layer": list(range(case.depth + 1)), "gradient": mean_log(rows)})


CHECKS: dict[str, Callable[[Case], Finding]] = {
    "rate": rate,
    "profile": profile,
    "collapse": collapse,
    "control": control,
    "flush": flush,
}
