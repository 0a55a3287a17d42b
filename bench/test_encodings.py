"""Each encoding alone, forward and backward, over sequence length: what it costs without a stack around it."""

from bench.cases import lengths, over


@over(lengths, phase="encoding", depth=0)
def test_encoding(measure):
    """Times and weighs one encoding."""
    measure()
