"""The checks of ``bench/test_gradients.py``: read seeded stacks, fit a number a seed, set it beside its closed form.

A check takes a case and returns a ``Finding``. Theory follows from the case, the readings from the model that
``Workload`` builds of it: a model that is not what its case says is found out.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import numpy as np
import torch

from attnlib.cases.case import Case
from attnlib.cases.workload import Workload
from attnlib.gradients import closed_forms
from attnlib.gradients.claims import Curves, Finding, between, near
from attnlib.gradients.controls import control
from attnlib.gradients.fits import RATE, SEEDS, band, class_loss, decay, mean_log, recorded, seeded, slopes, theory_of
from attnlib.gradients.probes import Recorder, gradient_by_place
from attnlib.measure.environment import flushes_subnormals
from attnlib.model.classifier import build_encoding

DEPTHS = (4, 8, 16, 32)  # of the fit of a rate, below the depth of the case
ENDS = slice(2, -2)  # what a fit within one network uses: two layers at each end are left out
LARGE, SMALL = 0.1, 1e-12  # between them a residual has collapsed but is not yet rounding
SPREADS = (1.0, 0.1, 0.03, 0.01, 0.001)  # of the tokens about their mean, where a collapse starts from
FORMATS = ("float16", "bfloat16", "float32")


def rate(case: Case, seeds: Sequence[int] = SEEDS) -> Finding:
    """The gradient of the first layer and of the embeddings as a plain stack gets deeper falls at the closed-form rate.

    The shallower stacks are the last layers of the deepest, so that the increments are the layers' own.
    """
    depths = [*(depth for depth in DEPTHS if depth < case.depth), case.depth]
    readings: dict[str, list[float]] = {}
    for seed in seeds:
        work = seeded(case, seed)
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
    reports = [recorded(seeded(case, seed)) for seed in seeds]
    encoding = build_encoding(case)
    layer = np.arange(case.depth)
    roles = {role: np.array([r["layers"][role]["norm"] for r in reports]) for role in reports[0]["layers"]}
    signals = {name: np.array([r["signals"][name] for r in reports]) for name in ("norm", "gradient", "cosine_gap")}
    rate = decay(case)
    back = None if rate is None else -rate
    falls = back if case.init == "linear" or back is None else 0.0  # without biases the forward signal falls too
    slope = {"activation": slopes(layer[ENDS], signals["gradient"][:, :-1][:, ENDS])}
    slope |= {role: slopes(layer[ENDS], roles[role][:, ENDS]) for role in ("v", "out")}
    expected = {"activation": back, "v": falls, "out": falls}
    claims = [near(name, slope[name], expected[name], absolute=band(case)) for name in slope]
    if (
        case.init == "unit" and not case.own_parts
    ):  # the others collapse within so few layers that nothing is left to fit
        for role, power in closed_forms.query_key_powers(encoding).items():
            ratio = roles[role] / roles["v"] / signals["norm"][:, :-1] ** 2
            claims.append(near(f"{role} power", powers(signals["cosine_gap"][:, :-1], ratio), power, share=0.15))
    idle = (roles["k_bias"] / roles["v"]).max(1)
    acts = (1e-6, None) if not case.own_parts else (None, None)  # somebody else's rotation may turn nothing
    claims.append(between("key bias / v", idle, *((0.0, 1e-12) if closed_forms.key_bias_is_idle(encoding) else acts)))
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
    works = [seeded(case, seed) for seed in seeds]
    runs = {spread: np.array([residuals(work, spread) for work in works]) for spread in SPREADS}  # each [seeds, L + 1]
    exponents = [exponent([run[index] for run in runs.values()]) for index in range(len(seeds))]
    stated = theory_of(case)
    if stated is not None:
        expected = stated.get("collapse_exponent")
    else:
        expected = 1 if case.block != "plain" else closed_forms.collapse_exponent(build_encoding(case))
    claims = [near("exponent", exponents, expected, share=0.1)]
    close = runs[0.1]  # most layers lie below LARGE
    factors = [factor for seed in seeds if (factor := expected_contraction(case, seed)) is not None]
    if factors:
        settled = 12 if case.causal else 3  # until the slowest mode leads: triangular attention is far from normal
        rates = [decades_a_layer(run, settled) for run in close]
        claims.append(near("decades a layer", rates, np.log10(factors), share=0.1))
    if case.block == "pre_ln":
        layer = np.arange(4, case.depth + 1)
        claims.append(near("power of depth", slopes(np.log10(layer), close[:, 4:]), -0.5, share=0.2))
    return Finding(tuple(claims), {"layer": list(range(case.depth + 1)), "residual": mean_log(runs[1.0])})


def exponent(runs: Sequence[np.ndarray]) -> float:
    """Slope of log r_{l+1} against log r_l over all layers of all runs where both are inside the range."""
    before, after = np.concatenate([np.stack([run[:-1], run[1:]]) for run in runs], axis=1)
    inside = (before < LARGE) & (after > SMALL)
    return float(np.polyfit(np.log10(before[inside]), np.log10(after[inside]), 1)[0])


def decades_a_layer(run: np.ndarray, settled: int) -> float:
    """Mean change of log10 r from layer ``settled`` until r reaches rounding."""
    last = int((run > SMALL).sum()) - 1
    return float(np.log10(run[last] / run[settled]) / (last - settled))


def expected_contraction(case: Case, seed: int) -> float | None:
    """Theory's factor a layer for the case's block and the encoding that the seed draws; None where there is none."""
    torch.manual_seed(seed)  # a classifier draws its encoding first
    factor = closed_forms.position_contraction(build_encoding(case).double(), case.seq_len)
    if factor is None or case.block == "pre_ln" or (case.block == "plain" and factor < SMALL):
        return None
    if case.block == "plain":
        return factor
    gain = closed_forms.layer_gain(case.init, d_model=case.d_model, inner=case.inner)
    return closed_forms.skip_contraction(factor, gain, d_model=case.d_model, inner=case.inner)


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
    reports = (recorded(seeded(case, seed)) for seed in seeds)
    rows = [report["signals"]["gradient_mean_abs"][::-1] for report in reports]  # from the output to the input
    claims, readings = [], torch.tensor(rows, dtype=torch.float64)
    rate = decay(case)
    if rate is None:
        raise ValueError("no closed form says how fast this stack's gradients vanish")
    start = [row[ENDS.start] for row in rows]
    for name in FORMATS:
        dtype = getattr(torch, name)
        with subnormals_kept():
            zero = readings.to(dtype) == 0
        depths = zero.int().argmax(1).tolist()
        if not bool(zero.any(1).all()):
            raise ValueError(f"{case.depth} layers are too few for {name} to flush")
        expected = [ENDS.start + closed_forms.flush_depth(dtype, start=s, rate=rate) + 0.5 for s in start]
        claims.append(near(name, depths, expected, share=RATE, absolute=1.0))
    return Finding(tuple(claims), {"layer": list(range(case.depth + 1)), "gradient": mean_log(rows)})


CHECKS: dict[str, Callable[[Case], Finding]] = {
    "rate": rate,
    "profile": profile,
    "collapse": collapse,
    "control": control,
    "flush": flush,
}
