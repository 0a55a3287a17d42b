"""Cost of each switch that people flip, in a pre-LN stack as they build it, and what it does to gradients.

Run it by name: ``pytest bench/test_switches.py`` takes the preset ``switches``. Times are beside the stack without the
switch; claims are those of ``attnlib/gradients/switches.py``.
"""

from attnlib.cases.switches import NONE, STACKS, SWITCHES, USUAL
from attnlib.errors import message
from attnlib.gradients.switches import CLAIMED
from attnlib.plugin import over

PLAIN = USUAL | {
    "block": "plain",
    "init": "torch_mha",
    "pe": "none",
    "causal": False,
    "ffn_mult": 0,
    "attention": "sdpa",
}
PLAIN |= {
    "device": "cpu",
    "dtype": "float64",
    "dropout": 0.0,
    "seq_len": 16,
    "n_heads": 4,
    "batch_size": 2,
    "depth": 64,
}
WIDTHS = ({"d_model": 64, "head_dim": 16}, {"d_model": 128, "head_dim": 32})


def switched(settings):
    """Every switch, and none, at every length and depth."""
    if settings.reference is not None and not USUAL.keys() <= settings.reference.keys():
        wrong = "bench/test_switches.py has references of its own"
        raise ValueError(message(wrong, do="leave out --preset and --reference"))
    return [
        {"seq_len": T, "depth": L, "switch": switch}
        for T in settings.seq_lens
        for L in settings.depths
        for switch in (NONE, *SWITCHES)
    ]


def claimed(settings):
    """Every switch that claims something, at two widths."""
    widths = WIDTHS[:1] if settings.preset == "smoke" else WIDTHS
    return [width | {"switch": switch} for width in widths for switch in CLAIMED]


def families(settings):
    """Every family of stacks."""
    names = list(STACKS)[:1] if settings.preset == "smoke" else STACKS
    return [{"switch": f"stack={name}"} for name in names]


@over(switched, phase="forward")
def test_forward(measure_case):
    """Times and weighs one forward pass."""
    measure_case()


@over(switched, phase="train_step")
def test_train_step(measure_case):
    """Times and weighs one training step."""
    measure_case()


@over(claimed, phase="switch", **PLAIN)
def test_claim(check_case):
    """Signals and gradients are what the switch's closed form says."""
    check_case()


@over(families, phase="family", **PLAIN | {"init": "unit", "batch_size": 4, "n_classes": 16, "d_model": 64})
def test_family(check_case):
    """Signals and gradients of the stacks that people build, deep ones too."""
    check_case()
