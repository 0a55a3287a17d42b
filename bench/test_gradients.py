"""Do gradients survive depth? Seeded stacks in float64, fitted and held against closed forms, one check a question.

A point is one check of one kind of stack: its claims are intervals over fixed seeds that must lie within a band around
theory (``attnlib/gradients/claims.py``). It is no benchmark: what it found is its row's ``probe``.
"""

from attnlib.cases.switches import USUAL
from attnlib.gradients.controls import CONTROL_DEPTHS, CONTROLS
from attnlib.model.attention import INITS
from attnlib.model.positional import POSITIONAL
from attnlib.plugin import over

FIXED = {"device": "cpu", "dtype": "float64", "dropout": 0.0, "seq_len": 16, "n_heads": 4, "batch_size": 2}
FIXED |= {"d_model": 64, "head_dim": None, "block": "plain", "attention": "sdpa", "causal": False, "ffn_mult": 0}
FIXED |= {name: value for name, value in USUAL.items() if name not in ("pe", "block")}  # switches have their own
REFERENCE = {"d_model": 64, "head_dim": 16, "depth": 64}
WIDTHS = (  # H K is D or four times D
    REFERENCE,
    {"d_model": 64, "head_dim": 64, "depth": 32},
    {"d_model": 128, "head_dim": 32, "depth": 32},
    {"d_model": 128, "head_dim": 128, "depth": 16},
    {"d_model": 256, "head_dim": 64, "depth": 16},
    {"d_model": 256, "head_dim": 256, "depth": 12},
)


def rate_points(settings):
    """Every encoding at every width, with one initialisation in turn, and with all of them at the reference width."""
    if settings.preset == "smoke":
        chosen = settings.own_parts.get("pe") or settings.pe[1:2] or settings.pe
        return [{"pe": pe, "init": "torch_mha"} | REFERENCE for pe in chosen]
    inits, names = list(INITS), list(dict.fromkeys([*POSITIONAL, *settings.pe]))
    return [
        {"pe": pe, "init": init} | width
        for w, width in enumerate(WIDTHS)
        for pe in settings.pe
        for init in (inits if width is REFERENCE else [inits[(w + names.index(pe)) % len(inits)]])
    ]


def profile_points(settings):
    """Unit gain for every encoding; the others for one encoding of each kind."""
    kinds = [pe for pe in settings.pe if pe in ("none", "learned", "rotary", "t5")]
    if settings.preset == "smoke":
        chosen = settings.own_parts.get("pe") or kinds[:1] or settings.pe[:1]
        return [{"pe": pe, "init": "torch_mha"} for pe in chosen]
    return [{"pe": pe, "init": "unit"} for pe in settings.pe] + [
        {"pe": pe, "init": init} for init in ("torch_mha", "linear") for pe in kinds
    ]


def collapse_points(settings):
    """Every encoding without a mask, one of each kind with one, and three ways to skip."""
    plain = [{"block": "plain", "init": "unit", "pe": pe, "causal": False, "depth": 24} for pe in settings.pe]
    if settings.preset == "smoke":
        own = settings.own_parts.get("pe")
        return [point for point in plain if point["pe"] in own] if own else plain[::5]
    masked = [pe for pe in settings.pe if pe in ("none", "rotary", "alibi", "t5")]
    return [
        *plain,
        *({"block": "plain", "init": "unit", "pe": pe, "causal": True, "depth": 36} for pe in masked),
        {"block": "residual", "init": "torch_mha", "pe": "none", "causal": False, "depth": 64},
        {"block": "post_ln", "init": "unit", "pe": "none", "causal": False, "depth": 24},
        {"block": "pre_ln", "init": "unit", "pe": "none", "causal": False, "depth": 24},
    ]


def control_points(settings):
    """Every block made against vanishing; without a norm the unit gain explodes, so the residual has torch's own.

    And a block that is somebody else's, where the run has one.
    """
    blocks = ["pre_ln"] if settings.preset == "smoke" else list(CONTROLS)
    blocks += settings.own_parts.get("block", [])
    return [{"block": block, "init": "torch_mha" if block == "residual" else "unit"} for block in blocks]


def flush_points(settings):
    """The two initialisations that vanish."""
    points = [{"init": "linear", "depth": 112}, {"init": "torch_mha", "depth": 128}]
    return points[:1] if settings.preset == "smoke" else points


@over(rate_points, phase="rate", **FIXED)
def test_rate(check_case):
    """Gradients of first layer and embeddings vanish with depth at the closed-form rate, whatever the encoding."""
    check_case()


@over(profile_points, phase="profile", **FIXED | {"d_model": 128, "batch_size": 1, "depth": 40})
def test_profile(check_case):
    """Inside one network: activations die toward the input, Q and K toward the output, V and out not at all."""
    check_case()


@over(collapse_points, phase="collapse", **FIXED)
def test_collapse(check_case):
    """Tokens become alike cubically where only the input knows positions, geometrically otherwise."""
    check_case()


@over(
    control_points,
    phase="control",
    pe="none",
    depth=max(CONTROL_DEPTHS),
    n_classes=16,
    **FIXED | {"n_heads": 1, "batch_size": 4, "ffn_mult": 1},
)
def test_control(check_case):
    """Blocks made against vanishing do what their papers say at initialisation."""
    check_case()


@over(flush_points, phase="flush", pe="none", **FIXED)
def test_flush(check_case):
    """Lower precisions read zero from the depth that rate and format predict."""
    check_case()
