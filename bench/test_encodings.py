"""Each encoding alone, forward and backward, over sequence length: what it costs without a stack around it."""

from attnlib.plugin import lengths, over


@over(lengths, phase="encoding", depth=0)
def test_encoding(measure_case):
    """Times and weighs one encoding."""
    measure_case()
