"""Training step (zero_grad, forward, loss, backward, SGD) over sequence length x depth x encoding."""

from bench.cases import over, product


@over(product, phase="train_step")
def test_train_step(measure):
    """Times and weighs one training step."""
    measure()
