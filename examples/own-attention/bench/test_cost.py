"""Cost of the attention: a train step over sequence length x depth x encoding."""

from attnlib.plugin import over, product


@over(product, phase="train_step")
def test_train_step(measure_case):
    measure_case()
