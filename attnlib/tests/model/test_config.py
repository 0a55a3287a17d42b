"""StackConfig refuses what cannot be built."""

import re

import pytest

from attnlib.model.config import StackConfig, choose


@pytest.mark.parametrize("value", [0, -1, 1.5, "64", True])
def test_sizes_are_positive_integers(value):
    """A size that is no positive integer is refused by name and value."""
    with pytest.raises(ValueError, match=re.escape(f"seq_len must be an integer of at least 1, not {value!r}")):
        StackConfig(seq_len=value)


def test_depth_may_be_zero():
    """Depth 0 is the identity and allowed; -1 is not."""
    assert StackConfig(depth=0).depth == 0
    with pytest.raises(ValueError, match="depth must be an integer of at least 0, not -1"):
        StackConfig(depth=-1)


def test_heads_divide_the_width_unless_head_dim_is_given():
    """Heads that do not divide D need an explicit head width."""
    with pytest.raises(ValueError, match="n_heads=3 does not divide d_model=64; give head_dim"):
        StackConfig(d_model=64, n_heads=3)
    assert StackConfig(d_model=64, n_heads=3, head_dim=10).head_width == 10


def test_dropout_is_a_probability_below_one():
    """Dropout outside [0, 1) is refused."""
    with pytest.raises(ValueError, match=r"dropout must lie in \[0, 1\), not 1.0"):
        StackConfig(dropout=1.0)


@pytest.mark.parametrize("name", ["causal", "checkpoint"])
def test_truth_values_are_no_words(name):
    """The word False would be true."""
    with pytest.raises(ValueError, match=f"{name} must be true or false, not 'False'"):
        StackConfig(**{name: "False"})


def test_choose_names_value_and_choices():
    """An unknown name is answered with the choices."""
    with pytest.raises(ValueError, match="unknown pe 'ropee'; choose from a, b"):
        choose("pe", "ropee", {"a": 1, "b": 2})
