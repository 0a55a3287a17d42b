"""Cost of the models: a train step over sequence length x depth."""

from attnlib.plugin import over, product


@over(product, phase="train_step")
def test_train_step(measure_case):
    measure_case()
