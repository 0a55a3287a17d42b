"""Switches by name, families of them, and the options that choose them."""

import pytest

from attnlib.cases.case import Case, unsupported
from attnlib.cases.settings import Settings
from attnlib.cases.switches import NONE, STACKS, SWITCHES, USUAL, fields_of_switch


def chosen(**options):
    return Settings.from_options({"device": "cpu"} | options)


@pytest.mark.parametrize("switch", SWITCHES)
def test_each_switch_is_one_field_of_a_case_that_runs(switch):
    """It changes one field, which the reference sets back, and the case is supported."""
    settings = chosen(preset="switches")
    case = settings.case(switch=switch, seq_len=128, depth=2, phase="train_step")
    plain = settings.case(switch=NONE, seq_len=128, depth=2, phase="train_step")
    (field,) = fields_of_switch(switch, 8)

    assert unsupported(case) is None
    assert {name for name in case.values if getattr(case, name) != getattr(plain, name)} == {field}
    assert settings.reference == USUAL
    assert chosen(preset="switches", block="post_ln", pe="alibi").reference == USUAL | {
        "block": "post_ln",
        "pe": "alibi",
    }
    assert field in USUAL
    assert all(getattr(plain, name) == value for name, value in USUAL.items())


def test_a_family_sets_its_switches_together():
    """Llama's beside the 2017 stack; its encoding is the only one unless others are asked for."""
    settings = chosen(stack="llama", d_model="256", heads="8")
    base = settings.base

    assert (base.block, base.norm, base.activation, base.kv_heads, base.causal) == ("pre_ln", "rms", "swiglu", 2, True)
    assert (base.d_model, base.n_heads, base.ffn_mult) == (256, 8, 4)
    assert settings.pe == ("rotary",)
    assert settings.reference["block"] == "post_ln"
    assert settings.reference["pe"] == "sinusoidal"
    assert settings.reference["kv_heads"] is None
    assert chosen(stack="llama", pe="none,alibi").pe == ("none", "alibi")


def test_options_override_a_family():
    """Any option overrides its part; sizes are of both sides; a reference of one's own stays."""
    assert chosen(stack="llama", norm="layer").base.norm == "layer"
    assert chosen(stack="llama", heads="6", d_model="96").base.kv_heads == 3  # two share one: four do not divide six
    assert chosen(stack="llama", heads="5", d_model="80").base.kv_heads == 5
    assert chosen(stack="llama", kv_heads="none").base.kv_heads is None
    assert chosen(stack="llama", ffn_mult="2", causal="false").reference["ffn_mult"] == 2
    assert chosen(stack="llama", ffn_mult="2", causal="false").reference["causal"] is False
    assert chosen(stack="gpt2", reference="pe=none").reference == {"pe": "none"}
    assert chosen(stack="gpt2", reference="off").reference is None
    assert chosen().reference == {"pe": "none"}


@pytest.mark.parametrize("stack", STACKS)
def test_every_family_is_supported_beside_vanilla(stack):
    """The stack and its reference exist, and differ but for vanilla itself."""
    settings = chosen(stack=stack)
    case = settings.case(seq_len=64, depth=2, pe=settings.pe[0])
    other = Case(**case.values | dict(settings.reference))

    assert unsupported(case) is unsupported(other) is None
    assert (case == other) == (stack == "vanilla")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"stack": "bert"}, "unknown stack 'bert'; choose from vanilla, gpt2, llama, gemma; attnlib list says"),
        ({"norm": "batch"}, "unknown norm 'batch'; choose from layer, rms"),
        ({"qk_norm": "yes"}, "--qk-norm takes true or false, not 'yes'"),
        ({"kv_heads": "3"}, "kv_heads=3 does not divide n_heads=4"),
        ({"kv_heads": "half"}, "--kv-heads takes positive integers separated by commas, not 'half'"),
        ({"window": "0"}, "--window takes positive integers"),
        ({"window": "wide"}, "--window takes positive integers"),
        ({"ffn_mult": "big"}, "--ffn-mult takes positive integers"),
        ({"softmax": "off_by_one"}, "unknown softmax 'off_by_one'; choose from usual, plus_one"),
    ],
)
def test_bad_values_are_one_line(options, message):
    """It names the value and the choices."""
    with pytest.raises(ValueError, match=message):
        chosen(**options)


def test_a_feed_forward_can_be_taken_away():
    """``none`` is a width of 0."""
    assert chosen(preset="switches", ffn_mult="none").base.ffn_mult == 0
    assert chosen(ffn_mult="2").base.ffn_mult == 2
