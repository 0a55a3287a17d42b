"""Forward pass without gradients, over the two slices through the middle of the grid."""

from bench.cases import over, slices


@over(slices, phase="forward")
def test_forward(measure):
    """Times and weighs one forward pass."""
    measure()
