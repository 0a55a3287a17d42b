"""Closed forms that the probes are held against. No measurement in here."""

import math


def layer_gain(init: str, *, d_model: int, inner: int) -> float:
    """Return g = g_V g_O, by which a plain layer scales a backward signal once attention has averaged tokens.

    With a weight's variance s^2, W_O scales a gradient's norm by sqrt(HK s_O^2) and W_V by sqrt(D s_V^2), so
    g^2 = 2D / (3 (D + 3HK)) for ``torch_mha``, 1/9 for ``linear`` and 1 for ``unit``.

    Args:
        init: a name in ``attnlib.attention.INITS``.
        d_model: D.
        inner: HK, the width of all heads together.

    Raises:
        ValueError: no closed form is known for ``init``.
    """
    squared = {"torch_mha": 2 * d_model / (3 * (d_model + 3 * inner)), "linear": 1 / 9, "unit": 1.0}
    if init not in squared:
        raise ValueError(f"no closed form for init {init!r}; choose from {', '.join(squared)}")
    return math.sqrt(squared[init])


def decay_rate(init: str, *, d_model: int, inner: int) -> float:
    """Expected slope of log10 |gradient| in decades a plain layer, negative where gradients vanish.

    log10(g) - (1/D + 1/HK) / (2 ln 10): a fit of the logarithm estimates the mean of the log, which lies below the log
    of the mean by the second term at finite width.

    Args:
        init: a name in ``attnlib.attention.INITS``.
        d_model: D.
        inner: HK.
    """
    return math.log10(layer_gain(init, d_model=d_model, inner=inner)) - (1 / d_model + 1 / inner) / (2 * math.log(10))
