"""Training step (zero_grad, forward, loss, backward, SGD) over sequence length x depth x encoding."""

from attnlib.plugin import over, product


@over(product, phase="train_step")
def test_train_step(measure_case):
    """Times and weighs one training step."""
    measure_case()
