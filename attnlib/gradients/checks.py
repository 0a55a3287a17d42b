"""The checks of plain stacks: probe seeded stacks, fit one number a seed, compare with a closed form.

A check takes a case and returns a ``Finding``. Theory is computed from the case and the readings come from the model
that ``Workload`` builds, so a model that differs from its case fails its check.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import numpy as np
import torch

from attnlib.cases.case import Case
from attnlib.cases.workload import Workload
from attnlib.errors import message
from attnlib.gradients import closed_forms
from attnlib.gradients.claims import Curves, Finding, between, near
from attnlib.gradients.fits import RATE, SEEDS, band, class_loss, decay, mean_log, recorded, seeded, slopes, theory_of
from attnlib.gradients.probes import Recorder, gradient_by_place
from attnlib.measure.environment import flushes_subnormals
from attnlib.model.classifier import build_encoding

DEPTHS = (4, 8, 16, 32)  # depths of the fit of a rate, together with the depth of the case
ENDS = slice(2, -2)  # layers of a fit within one network: two at each end are left out
LARGE, SMALL = 0.1, 1e-12  # between these a residual has collapsed but is not yet rounding
SPREADS = (1.0, 0.1, 0.03, 0.01, 0.001)  # initial spreads of the tokens about their mean
FORMATS = ("float16", "bfloat16", "float32")


def rate(case: Case, seeds: Sequence[int] = SEEDS) -> Finding:
    """Check that the gradients of the first layer and the embeddings decay with depth at the closed-form rate.

    The stacks are plain. Shallower stacks are the last layers of the deepest, so that they share their weights.
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
    norms = {place: np.reshape(values, (len(seeds), len(depths))) for place, values in readings.items()}  # [seeds, n]
    judged = ["first_layer", "token_embedding"] + ["positional"] * (case.pe == "learned")
    claims = tuple(near(place, slopes(depths, norms[place]), decay(case), absolute=band(case)) for place in judged)
    return Finding(claims, {"depth": depths} | {place: mean_log(rows) for place, rows in norms.items()})


def profile(case: Case, seeds: Sequence[int] = SEEDS) -> Finding:
    """Check the slopes of the gradients over the layers of one plain network, by role of the weights.

    The case has one sequence: with several, biases make them all alike, and gradients of opposite labels then cancel.
    """
    reports = [recorded(seeded(case, seed)) for seed in seeds]
    encoding = build_encoding(case)
    layer = np.arange(case.depth)
    roles = {role: np.array([r["layers"][role]["norm"] for r in reports]) for role in reports[0]["layers"]}
    signals = {name: np.array([r["signals"][name] for r in reports]) for name in ("norm", "gradient", "cosine_gap")}
    # roles are [seeds, L]; signals [seeds, L + 1], of which [:, :-1] are the layers' inputs
    inputs = {name: values[:, :-1] for name, values in signals.items()}
    slope = {"activation": slopes(layer[ENDS], inputs["gradient"][:, ENDS])}
    slope |= {role: slopes(layer[ENDS], roles[role][:, ENDS]) for role in ("v", "out")}
    rate = decay(case)
    back = None if rate is None else -rate
    # a weight's gradient is that of the output times the signal: where biases keep the signal up, it falls with the
    # output's gradient; without biases the signal decays at the same rate, and the product is the same in every layer
    falls = back if case.init == "linear" or back is None else 0.0
    expected = {"activation": back, "v": falls, "out": falls}
    claims = [near(name, slope[name], expected[name], absolute=band(case)) for name in slope]
    # the other initialisations collapse within too few layers for a fit; of other people's parts nothing is known
    if case.init == "unit" and not case.own_parts:
        for role, power in closed_forms.query_key_powers(encoding).items():
            ratio = roles[role] / roles["v"] / inputs["norm"] ** 2
            claims.append(near(f"{role} power", powers(inputs["cosine_gap"], ratio), power, share=0.15))
    # somebody else's rotation may turn nothing
    acts = (None, None) if case.own_parts else (1e-6, None)
    least, most = (0.0, 1e-12) if closed_forms.key_bias_is_idle(encoding, case) else acts
    claims.append(between("key bias / v", (roles["k_bias"] / roles["v"]).max(1), least, most))
    curves: Curves = {role: mean_log(roles[role]) for role in ("q", "k", "v", "out")}
    gradient = mean_log(signals["gradient"])
    return Finding(tuple(claims), {"layer": list(range(case.depth)), "activation": gradient[:-1], **curves})


def powers(gaps: np.ndarray, ratios: np.ndarray) -> list[float]:
    """Return the slope of log10 ratio against log10 gap, each ``[seeds, L]``, over layers with collapsed tokens."""
    found = []
    for gap, ratio in zip(gaps, ratios, strict=True):
        last = int((gap > SMALL).sum())  # gaps fall from layer to layer, so a count is an index
        first = min(int((gap >= LARGE).sum()), last - 2)
        found.append(float(np.polyfit(np.log10(gap[first:last]), np.log10(ratio[first:last]), 1)[0]))
    return found


@torch.no_grad()
def residuals(work: Workload, spread: float) -> np.ndarray:
    """Return the rank-1 residual at each layer boundary, ``[L + 1]``; ``spread`` scales tokens about their mean."""
    model = work.model
    x = model.stack.encoding.embed(model.token_embedding(work.tokens))
    mean = x.mean(1, keepdim=True)
    with Recorder(model) as seen:
        model.stack(mean + spread * (x - mean))
    return np.array(seen.signals_seen()["residual"])


def collapse(case: Case, seeds: Sequence[int] = SEEDS) -> Finding:
    """Check how fast tokens become alike: residual r -> C r^3 if only the input has positions, else r -> C r.

    C is known if attention depends on positions only: the second eigenvalue of that attention, closer to 1 with a skip
    connection. With the norm inside the branch (pre-LN) the stack grows and r falls as 1 / sqrt(layer).
    """
    works = [seeded(case, seed) for seed in seeds]
    runs = {spread: np.array([residuals(work, spread) for work in works]) for spread in SPREADS}  # each [seeds, L + 1]
    exponents = [exponent([run[index] for run in runs.values()]) for index in range(len(seeds))]
    stated = theory_of(case)
    if stated is not None:
        expected = stated.get("collapse_exponent")
    else:
        expected = 1 if case.block != "plain" else closed_forms.collapse_exponent(build_encoding(case), case)
    claims = [near("exponent", exponents, expected, share=0.1)]
    close = runs[0.1]  # starts close to the collapse, so that most of its layers lie below LARGE
    factors = [factor for seed in seeds if (factor := expected_contraction(case, seed)) is not None]
    if factors:
        # layers until the slowest mode dominates: more under a causal mask, whose attention is far from normal, and
        # with a window, whose modes shrink almost as slowly as each other
        settled = 12 if case.causal or case.window is not None else 3
        rates = [decades_a_layer(run, settled) for run in close]
        # a window's rate is so slow that eight seeds tell it to a tenth only
        share = 0.1 if case.window is None else 0.2
        claims.append(near("decades a layer", rates, np.log10(factors), share=share))
    if case.block == "pre_ln":
        layer = np.arange(4, case.depth + 1)
        claims.append(near("power of depth", slopes(np.log10(layer), close[:, 4:]), -0.5, share=0.2))
    return Finding(tuple(claims), {"layer": list(range(case.depth + 1)), "residual": mean_log(runs[1.0])})


def exponent(runs: Sequence[np.ndarray]) -> float:
    """Return the slope of log r_{l+1} against log r_l over layers with r in (SMALL, LARGE); runs ``[L + 1]`` each."""
    before, after = np.concatenate([np.stack([run[:-1], run[1:]]) for run in runs], axis=1)
    inside = (before < LARGE) & (after > SMALL)
    return float(np.polyfit(np.log10(before[inside]), np.log10(after[inside]), 1)[0])


def decades_a_layer(run: np.ndarray, settled: int) -> float:
    """Return the mean change of log10 r a layer, from layer ``settled`` until r reaches rounding; run ``[L + 1]``."""
    last = int((run > SMALL).sum()) - 1
    return float(np.log10(run[last] / run[settled]) / (last - settled))


def expected_contraction(case: Case, seed: int) -> float | None:
    """Return the closed-form factor by which r shrinks a layer, for the seed's encoding; None if there is none."""
    torch.manual_seed(seed)  # a classifier draws its encoding first, so this one has the same parameters
    factor = closed_forms.position_contraction(build_encoding(case).double(), case)
    if factor is None or case.block == "pre_ln" or (case.block == "plain" and factor < SMALL):
        return None
    if case.block == "plain":
        return factor
    gain = closed_forms.layer_gain(case)
    return closed_forms.skip_contraction(factor, gain, d_model=case.d_model, inner=case.inner)


@contextmanager
def subnormals_kept() -> Iterator[None]:
    """Keep subnormal numbers in this thread's arithmetic within the block."""
    flushed = flushes_subnormals()
    torch.set_flush_denormal(False)
    try:
        yield
    finally:
        torch.set_flush_denormal(flushed)


def flush(case: Case, seeds: Sequence[int] = SEEDS) -> Finding:
    """Check how many layers below the output the mean absolute activation gradient is 0 in each number format.

    Raises:
        ValueError: the case has too few layers for a format.
    """
    reports = (recorded(seeded(case, seed)) for seed in seeds)
    rows = [report["signals"]["gradient_mean_abs"][::-1] for report in reports]  # [seeds, L + 1], output to input
    claims, readings = [], torch.tensor(rows, dtype=torch.float64)
    rate = decay(case)
    if rate is None:
        raise ValueError(message("no closed form says how fast this stack's gradients vanish"))
    start = [row[ENDS.start] for row in rows]
    for name in FORMATS:
        dtype = getattr(torch, name)
        with subnormals_kept():
            zero = readings.to(dtype) == 0
        depths = zero.int().argmax(1).tolist()
        if not bool(zero.any(1).all()):
            wrong = f"{case.depth} layers are too few for {name} to flush"
            raise ValueError(message(wrong, do="give the case more layers"))
        # + 0.5: a layer index is the next whole number above the exact depth, half a layer more on average
        expected = [ENDS.start + closed_forms.flush_depth(dtype, start=s, rate=rate) + 0.5 for s in start]
        claims.append(near(name, depths, expected, share=RATE, absolute=1.0))
    return Finding(tuple(claims), {"layer": list(range(case.depth + 1)), "gradient": mean_log(rows)})
