"""Do gradients survive depth? Plain stacks decay at the closed-form rate; residual and pre-LN stacks do not.

Each test fits log10 |gradient| against depth for every seed (float64, fixed seeds) and holds the 95 % t interval of the
mean slope against theory, then times one probing pass of the deepest stack.
"""

from dataclasses import replace

import numpy as np

from attnlib.probes import gradient_by_place
from attnlib.theory import decay_rate
from bench.workload import Workload

DEPTHS = (2, 4, 8, 16, 32, 64)
SEEDS = range(8)
BAND = 0.05  # of the plain rate: what counts as the same rate, and as no decay
WIDTHS = {"seq_len": 32, "d_model": 64, "n_heads": 4, "head_dim": None, "batch_size": 4}
fixed = {"phase": "probe", "device": "cpu", "dtype": "float64", "depth": max(DEPTHS), "dropout": 0.0, **WIDTHS}


def rows(settings):
    """Block x encoding; --init chooses the initialisation."""
    smoke = settings.preset == "smoke"
    blocks = ("plain", "pre_ln") if smoke else ("plain", "residual", "pre_ln")
    return [{"block": block, "pe": pe} for block in blocks for pe in ("sinusoidal", "learned")[smoke:]]


class Probe(Workload):
    """One forward and backward pass and the reading of its gradients."""

    def probe(self):
        """Read the gradients by place."""
        self.build_graph()
        self.backward()
        self.places = gradient_by_place(self.model)


def sweep(case):
    """log10 of each place's gradient norm and mean absolute gradient: ``[seeds, depths]``."""
    readings = {}
    for seed in SEEDS:
        for depth in DEPTHS:
            probe = Probe(replace(case, depth=depth), seed)
            probe.probe()
            for place, summary in probe.places.items():
                for quantity in ("norm", "mean_abs"):
                    readings.setdefault((place, quantity), []).append(summary[quantity])
    return {key: np.log10(values).reshape(len(SEEDS), len(DEPTHS)) for key, values in readings.items()}


def rate(log_norms, depths=DEPTHS):
    """Mean slope over seeds in decades a layer, with its 95 % t interval: (slope, low, high)."""
    from scipy import stats  # half a second that collecting need not pay

    slopes = np.polyfit(depths, log_norms.T, 1)[0]
    interval = stats.ttest_1samp(slopes, 0).confidence_interval(0.95)
    return float(slopes.mean()), float(interval.low), float(interval.high)


def verdict(block, fitted, theory):
    """What is wrong with a fitted (slope, low, high), or None: equivalence for plain, no decay for controls."""
    _, low, high = fitted
    margin = BAND * abs(theory)
    if block == "plain" and not theory - margin < low <= high < theory + margin:
        return f"[{low:.4f}, {high:.4f}] decades a layer is not within {BAND:.0%} of {theory:.4f}"
    if block != "plain" and low < -margin:
        return f"decays: [{low:.4f}, {high:.4f}] decades a layer reaches below {-margin:.4f}"
    return None


def test_gradients(measure, case, benchmark):
    """Fits the decay of every place, asserts it, saves the readings and times one probing pass."""
    theory = decay_rate(case.init, d_model=case.d_model, inner=case.n_heads * case.head_width)
    readings = sweep(case)
    fitted = {place: rate(values) for (place, quantity), values in readings.items() if quantity == "norm"}
    benchmark.extra_info["probe"] = {
        "depths": list(DEPTHS),
        "seeds": len(SEEDS),
        "log10": {
            place: {
                quantity: [float(x) for x in readings[place, quantity].mean(0)] for quantity in ("norm", "mean_abs")
            }
            for place in fitted
        },
        "rate": {place: dict(zip(("slope", "low", "high"), values, strict=True)) for place, values in fitted.items()},
        "theory": theory if case.block == "plain" else None,
    }
    wrong = [f"{place}: {text}" for place in fitted if (text := verdict(case.block, fitted[place], theory))]
    assert not wrong, f"{case.block} {case.pe}: {'; '.join(wrong)}"
    measure(Probe)
