"""The checks of gradients: their statistics on synthetic data, and that every claim fails when its cause is removed."""

from dataclasses import replace
from functools import cache

import numpy as np
import pytest

from attnlib.cases.case import Case
from attnlib.cases.settings import Settings
from attnlib.gradients import checks, controls, switches
from attnlib.gradients.claims import Claim, Finding, between, near
from attnlib.gradients.fits import recorded, seeded, slopes
from attnlib.gradients.registry import CHECKS
from bench.test_gradients import (
    collapse_points,
    control_points,
    flush_points,
    profile_points,
    rate_points,
)

SMALL = {"dtype": "float64", "seq_len": 16, "d_model": 64, "n_heads": 4, "batch_size": 2}
PROFILE = {"batch_size": 1, "depth": 24}
CONTROL = {"ffn_mult": 1, "n_classes": 16, "n_heads": 1, "batch_size": 4}

# check, what the case says, what is built instead, the claims that must break
MUTATIONS = [
    ("rate", {"depth": 16}, {"block": "residual"}, ["first_layer", "token_embedding"]),
    ("rate", {"depth": 16}, {"init": "linear"}, ["first_layer", "token_embedding"]),
    ("rate", {"depth": 16, "pe": "learned"}, {"block": "pre_ln"}, ["first_layer", "positional"]),
    ("rate", {"depth": 16, "pe": "rotary", "init": "unit"}, {"init": "torch_mha"}, ["first_layer"]),
    ("profile", PROFILE, {"init": "unit"}, ["activation"]),
    ("profile", PROFILE, {"init": "linear"}, ["activation", "v", "out"]),
    ("profile", PROFILE | {"init": "linear"}, {"init": "torch_mha"}, ["v", "out"]),
    ("profile", PROFILE | {"init": "unit"}, {"pe": "rotary"}, ["q power", "k power", "key bias / v"]),
    ("profile", PROFILE | {"init": "unit", "pe": "shaw"}, {"pe": "t5"}, ["q power"]),
    ("profile", PROFILE | {"init": "unit", "pe": "rotary"}, {"pe": "alibi"}, ["q power", "k power", "key bias / v"]),
    ("collapse", {"depth": 24, "init": "unit"}, {"pe": "alibi"}, ["exponent"]),
    ("collapse", {"depth": 24, "init": "unit"}, {"causal": True}, ["exponent"]),
    ("collapse", {"depth": 24, "init": "unit"}, {"block": "residual"}, ["exponent"]),
    ("collapse", {"depth": 24, "init": "unit", "pe": "rotary"}, {"pe": "sinusoidal"}, ["exponent"]),
    ("collapse", {"depth": 24, "init": "unit", "pe": "alibi"}, {"init": "linear"}, ["decades a layer"]),
    ("collapse", {"depth": 24, "init": "unit", "pe": "alibi"}, {"pe": "t5"}, ["decades a layer"]),
    ("collapse", {"depth": 36, "init": "unit", "causal": True}, {"causal": False}, ["exponent"]),
    ("collapse", {"depth": 36, "init": "unit", "causal": True}, {"init": "linear"}, ["decades a layer"]),
    ("collapse", {"depth": 24, "block": "post_ln", "init": "unit"}, {"block": "deepnorm"}, ["decades a layer"]),
    ("collapse", {"depth": 64, "block": "residual"}, {"init": "unit"}, ["decades a layer"]),
    ("collapse", {"depth": 24, "block": "pre_ln", "init": "unit"}, {"block": "post_ln"}, ["power of depth"]),
    ("control", {"block": "residual"}, {"block": "plain"}, ["input gradient, decades a layer"]),
    ("control", {"block": "pre_ln", "init": "unit"}, {"block": "post_ln"}, ["variance", "last FFN's power of L"]),
    ("control", {"block": "pre_ln", "init": "unit"}, {"block": "plain"}, ["input gradient, decades a layer"]),
    ("control", {"block": "post_ln", "init": "unit"}, {"block": "pre_ln"}, ["last FFN's power of L"]),
    ("control", {"block": "peri_ln", "init": "unit"}, {"block": "pre_ln"}, ["variance"]),
    ("control", {"block": "peri_ln", "init": "unit"}, {"block": "plain"}, ["input gradient, decades a layer"]),
    ("control", {"block": "rezero", "init": "unit"}, {"block": "post_ln"}, ["signal out / in", "gradient in / out"]),
    ("control", {"block": "rezero", "init": "unit"}, {"block": "pre_ln"}, ["weights' gradient", "gates' gradient"]),
    (
        "control",
        {"block": "deepnorm", "init": "unit"},
        {"block": "post_ln"},
        ["gradient in / out", "all weights' gradient's power of L"],
    ),
    ("flush", {"init": "linear", "depth": 112}, {"init": "torch_mha"}, ["float16", "bfloat16", "float32"]),
    ("switch", {"depth": 32, "kv_heads": 2}, {"kv_heads": None}, ["first_layer", "token_embedding"]),
    ("switch", {"depth": 16, "gate": "sigmoid"}, {"gate": "none"}, ["first_layer", "token_embedding"]),
    (
        "switch",
        {"depth": 16, "softmax": "plus_one"},
        {"softmax": "usual"},
        ["first_layer, more than without", "token_embedding, more than without"],
    ),
    ("switch", {"depth": 16, "value_residual": True}, {"value_residual": False}, ["first_layer", "token_embedding"]),
    (
        "switch",
        {"depth": 16, "qk_norm": True},
        {"qk_norm": False},
        ["q's power of the input", "k's power of the input"],
    ),
    ("switch", {"depth": 16, "window": 4}, {"window": None}, ["exponent", "decades a layer"]),
    ("switch", {"depth": 16, "pe": "rotary_yarn"}, {"pe": "sinusoidal"}, ["exponent"]),
    ("switch", {"depth": 16, "pe": "cope"}, {"pe": "none"}, ["exponent"]),
    ("switch", {"norm": "rms"}, {"block": "post_ln"}, ["variance", "last FFN's power of L"]),
    ("switch", {"norm": "rms"}, {"block": "plain"}, ["input gradient, decades a layer"]),
    ("switch", {"block": "lns", "depth": 32}, {"block": "pre_ln"}, ["variance", "variance of like tokens, lns"]),
    *(
        (
            "switch",
            {"depth_scale": scale, "depth": 32},
            {"depth_scale": "none"},
            ["variance", "variance of like tokens, pre_ln", "variance of like tokens, residual"],
        )
        for scale in ("gpt2", "depth_mup")
    ),
]


def inside(claim):
    """Return True if the mean lies in the claim's range, however wide its interval."""
    mean = claim.interval[0]
    return (claim.least is None or mean >= claim.least) and (claim.most is None or mean <= claim.most)


@pytest.fixture(autouse=True)
def _shallow(monkeypatch):
    """Controls of 32 layers at most."""
    monkeypatch.setattr(controls, "CONTROL_DEPTHS", (4, 16, 32))


def case_of(check, says):
    return Case(**SMALL | (CONTROL if check == "control" else {}) | {"phase": check} | says)


def claims_of(case):
    seeds = range(2) if case.phase == "flush" else range(4)
    return {claim.name: claim for claim in CHECKS[case.phase](case, seeds).claims}


honest_claims = cache(claims_of)  # several mutations share a stack


@pytest.fixture(name="_once", scope="module", autouse=True)
def _passes_once():
    """One control's wrong stack is another's honest one: each is drawn, and its passes are made, once."""
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(controls, "seeded", lambda case, seed: replace(case, seed=seed))
        patched.setattr(controls, "recorded", cache(lambda case, loss: recorded(seeded(case, case.seed), loss)))
        yield


@pytest.mark.parametrize(("check", "says", "built", "broken"), MUTATIONS)
def test_every_claim_fails_without_its_cause(check, says, built, broken, monkeypatch):
    """A claim holds for the stack that the case says, and breaks for another in its place."""
    case = case_of(check, says)
    honest = honest_claims(case)
    if built.get("init") == "torch_mha" and check == "flush":
        case = replace(case, depth=128)  # the slower one needs more layers to flush at all
    for module in (checks, switches):
        monkeypatch.setattr(module, "seeded", lambda case, seed: seeded(replace(case, **built), seed))
    monkeypatch.setattr(controls, "seeded", lambda case, seed: replace(case, **built, seed=seed))
    wrong = claims_of(case)

    for name in broken:
        assert inside(honest[name]), honest[name]
        assert not inside(wrong[name]), wrong[name]
        assert wrong[name].problem is not None


def test_every_claim_is_broken_by_some_mutation():
    """No claim of any check, nor of any controlled block, is left without a change that breaks it."""
    broken = {(check, says.get("block"), name) for check, says, _, names in MUTATIONS for name in names}
    anywhere = {(check, name) for check, _, name in broken}
    for check, says, _, _ in MUTATIONS:
        for name in honest_claims(case_of(check, says)):
            assert (check, name) in anywhere
            assert check != "control" or (check, says["block"], name) in broken


def test_intervals_of_rates_cover_the_truth():
    """Slopes of random walks with drift, 8 seeds: the interval holds the true rate in 93 to 97 % of 2000 trials."""
    generator = np.random.default_rng(0)
    depths = np.array([4, 8, 16, 32, 64])
    hits = 0
    for _ in range(2000):
        walks = np.cumsum(generator.normal(-0.4, 0.054, (8, 64)), axis=1)[:, depths - 1]
        _, low, high = near("rate", slopes(depths, 10**walks), -0.4, share=0.05).interval
        hits += low <= -0.4 <= high

    assert 0.93 <= hits / 2000 <= 0.97


def test_a_wrong_rate_seldom_passes():
    """A rate on the edge of the band passes in at most 5 % of 2000 trials."""
    generator = np.random.default_rng(0)
    passed = sum(near("rate", generator.normal(-0.42, 0.01, 8), -0.4, share=0.05).problem is None for _ in range(2000))

    assert passed / 2000 <= 0.05


@pytest.mark.parametrize(
    ("claim", "holds"),
    [
        (near("x", [1.0, 1.01, 0.99, 1.0], 1.0, share=0.05), True),
        (near("x", [1.0, 1.2, 0.8, 1.0], 1.0, share=0.05), False),  # the mean is right, the interval too wide
        (near("x", [1.5, 2.5, 3.5], [1.0, 2.0, 3.0], absolute=0.1), False),  # each off by a half
        (near("x", [1.0, 2.0, 3.0], [1.0, 2.0, 3.0], absolute=0.1), True),  # each has a theory of its own
        (between("x", [0.0, 0.0], 0.0, 0.0), True),
        (between("x", [0.0, 1e-30], 0.0, 0.0), False),
        (between("x", [5.0, 6.0], 1.0, None), False),
        (between("x", [5.0, 5.1, 5.0], 1.0, None), True),
    ],
)
def test_claims(claim, holds):
    """Equivalence holds with the whole interval inside only; the problem names the claim and the band."""
    assert (claim.problem is None) == holds
    assert holds or claim.problem.startswith("x: [")
    assert set(claim.as_json()) == {"name", "mean", "low", "high", "theory", "least", "most", "seeds"}


def test_findings_collect_problems():
    """A finding is wrong where one of its claims is, and reads as a line."""
    finding = Finding((near("a", [1.0, 1.0], 1.0, share=0.1), near("b", [2.0, 2.0], 1.0, share=0.1)))

    assert finding.problems == ["b: [2, 2] is not within [0.9, 1.1]"]
    assert str(finding) == "a 1 [1, 1] theory 1; b 2 [2, 2] theory 1"


def test_a_claim_needs_values():
    """Nothing fitted is an error."""
    with pytest.raises(ValueError, match="no values"):
        _ = Claim("rate", (), None, None, None).interval


def test_low_precision_needs_depth():
    """A stack too shallow to flush is said so."""
    with pytest.raises(ValueError, match="8 layers are too few for float16 to flush"):
        checks.flush(Case(**SMALL, depth=8), range(2))


@pytest.mark.parametrize("preset", ["smoke", "laptop"])
def test_every_encoding_and_block_is_checked(preset):
    """The default rows hold every encoding at every width, unit profiles, collapses, and every block but plain."""
    settings = Settings.from_options({"preset": preset, "device": "cpu"})
    rows = [rows(settings) for rows in (rate_points, profile_points, collapse_points, control_points, flush_points)]

    assert all(rows)
    for found in rows:
        assert len({str(row) for row in found}) == len(found)
    if preset == "laptop":
        widths = {(row["d_model"], row["head_dim"]) for row in rows[0]}
        assert widths == {(D, HK // 4) for D in (64, 128, 256) for HK in (D, 4 * D)}
        assert {(row["pe"], row["d_model"], row["head_dim"]) for row in rows[0]} == {
            (pe, D, K) for pe in settings.pe for D, K in widths
        }
        assert {row["block"] for row in rows[3]} == {"residual", "post_ln", "pre_ln", "peri_ln", "rezero", "deepnorm"}
