"""Checks of gradients with parts that are somebody else's: intervals, and theory where they state one."""

import pytest

from attnlib.cases.case import Case
from attnlib.gradients.checks import collapse, profile, rate
from attnlib.gradients.controls import control

SMALL = {
    "dtype": "float64",
    "seq_len": 16,
    "n_heads": 4,
    "batch_size": 2,
    "d_model": 64,
    "block": "plain",
    "init": "torch_mha",
}
STATED = """
class Stated:
    theory = {THEORY}

    def __init__(self, **sizes):
        pass

    def embed(self, x):
        return x
"""


def test_without_theory_there_are_intervals(lab):
    """Rates, profiles and collapse are fitted, and say that there is no closed form; nothing is held."""
    name = f"{lab()}:MyRotary"
    found = [
        rate(Case(**SMALL, pe=name, depth=16), seeds=range(2)),
        profile(Case(**SMALL | {"init": "unit"}, pe=name, depth=12), seeds=range(2)),
        collapse(Case(**SMALL | {"init": "unit"}, pe=name, depth=12), seeds=range(2)),
    ]

    for finding in found:
        assert finding.claims
        assert finding.problems == []
        assert all(claim.theory is None for claim in finding.claims)
        assert all("no closed form" in str(claim) for claim in finding.claims)


@pytest.mark.parametrize(("stated", "held"), [(-0.3963, True), (-0.5, False)])
def test_a_stated_rate_is_held(lab, stated, held):
    """An encoding that states the decades a layer is held to it like one of ours."""
    name = f"{lab(STATED.replace('{THEORY}', str({'rate': stated})))}:Stated"
    finding = rate(Case(**SMALL, pe=name, depth=32), seeds=range(8))

    assert (finding.problems == []) is held
    assert all(claim.theory == stated for claim in finding.claims)


@pytest.mark.parametrize(("stated", "held"), [(3, True), (1, False)])
def test_a_stated_collapse_is_held(lab, stated, held):
    """And one that states by which power tokens become alike."""
    name = f"{lab(STATED.replace('{THEORY}', str({'collapse_exponent': stated})))}:Stated"
    finding = collapse(Case(**SMALL | {"init": "unit"}, pe=name, depth=24), seeds=range(4))

    assert (finding.problems == []) is held


@pytest.mark.parametrize(("theory", "held"), [("{}", True), ("{'rate': 0.0}", True), ("{'rate': -0.4}", False)])
def test_a_block_is_held_to_the_rate_that_it_states(lab, theory, held):
    """A damped residual block keeps gradients: stated so it holds, stated otherwise it does not."""
    text = f"""
        class Damped:
            theory = {theory}

            def __init__(self, depth):
                self.scale = depth ** -0.5

            def sublayer(self, x, function, index):
                return x + self.scale * function(x)
    """
    case = Case(
        **SMALL | {"init": "unit", "block": f"{lab(text)}:Damped"}, pe="none", depth=64, n_classes=16, ffn_mult=1
    )
    finding = control(case, seeds=range(2))

    assert (finding.problems == []) is held
