"""Forward pass without gradients, over the two slices through the middle of the grid."""

from attnlib.plugin import over, slices


@over(slices, phase="forward")
def test_forward(measure_case):
    """Times and weighs one forward pass."""
    measure_case()
