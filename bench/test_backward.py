"""Backward pass, forward excluded and a fresh graph each round, over the two slices through the middle of the grid."""

from attnlib.plugin import over, slices


@over(slices, phase="backward")
def test_backward(measure_case):
    """Times and weighs one backward pass; the memory is that of forward and backward together."""
    measure_case()
