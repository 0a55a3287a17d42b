"""Closed forms of decay and collapse at initialisation, which the probes' readings are compared with.

A plain layer maps tokens to A x W_V W_O, with row-stochastic A and random W. Once the tokens are alike (collapsed), A
acts only on their small differences, and both the signal and its gradient are multiplied by random matrices only.
"""

import math

import torch

from attnlib.model.attention import causal_mask
from attnlib.model.positional import PositionalEncoding


def layer_gain(init: str, *, d_model: int, inner: int) -> float:
    """Return the gain g = g_V g_O by which a plain layer scales a gradient once attention has averaged the tokens.

    With a weight's variance s^2, W_O scales a gradient's norm by sqrt(HK s_O^2) and W_V by sqrt(D s_V^2), so
    g^2 = 2D / (3 (D + 3HK)) for ``torch_mha``, 1/9 for ``linear`` and 1 for ``unit``.

    Args:
        init: a name in ``attnlib.model.attention.INITS``.
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
    """Return the expected slope of log10 |gradient| in decades a plain layer; negative if gradients vanish.

    log10(g) - (1/D + 1/HK) / (2 ln 10): a fit of the logarithm estimates the mean of the log, which at finite width
    lies below the log of the mean by the second term.

    Args:
        init: a name in ``attnlib.model.attention.INITS``.
        d_model: D.
        inner: HK, the width of all heads together.

    Raises:
        ValueError: no closed form is known for ``init``.
    """
    return math.log10(layer_gain(init, d_model=d_model, inner=inner)) - (1 / d_model + 1 / inner) / (2 * math.log(10))


def flush_depth(dtype: torch.dtype, *, start: float, rate: float) -> float:
    """Return the layers until a number that decays from ``start`` by ``rate`` decades a layer is 0 in ``dtype``.

    Below half the smallest subnormal number it is rounded to 0.

    Raises:
        ValueError: ``rate`` is not negative.
    """
    if rate >= 0:
        raise ValueError(f"nothing vanishes at {rate} decades a layer: give a negative rate")
    least = torch.finfo(dtype).smallest_normal * torch.finfo(dtype).eps
    return (math.log10(least / 2) - math.log10(start)) / rate


def key_bias_is_idle(encoding: PositionalEncoding) -> bool:
    """Return True if a key bias has gradient 0, since the softmax ignores a shift that all scores of a query share.

    Holds unless the encoding rotates keys by their positions.
    """
    return not encoding.overrides("rotate")


def query_key_powers(encoding: PositionalEncoding) -> dict[str, float]:
    """Return the exponents a in |g_Q|, |g_K| ~ |g_V| |x|^2 (1 - cosine)^a as the tokens collapse, by role q and k.

    The softmax's gradient is of the order of the values' differences, (1 - cosine)^(1/2). A query's gradient multiplies
    it with the keys' differences, which are of the same order, unless positions distinguish the keys of equal tokens
    (rotary; for queries also Shaw's table). A key's gradient multiplies it with the queries' differences.
    """
    turned, shifted = encoding.overrides("rotate"), encoding.overrides("query_bias")
    return {"q": 0.5 if turned or shifted else 1.0, "k": 0.5 if turned else 1.0}


def collapse_exponent(encoding: PositionalEncoding) -> int:
    """Return the exponent a in r_{l+1} ~ r_l^a for the relative rank-1 residual r of a plain stack, as r goes to 0.

    3 (Dong et al., arXiv 2103.03404) if attention depends on content only: its rows then differ in second order of r.
    1 if a mask or an encoding acts in every layer.
    """
    return 1 if encoding.causal or encoding.biases or encoding.overrides("rotate") else 3


@torch.no_grad()
def position_contraction(encoding: PositionalEncoding, seq_len: int) -> float | None:
    """Return the factor by which r shrinks in a plain layer if positions alone decide attention; None if they do not.

    Tokens 1 c + d, with every row of d small, become 1 c' + sum_h A_h d W_h with A_h = softmax(bias_h) and independent
    W_h; up to the common part, the second moment of d evolves by the mean over h of the Kronecker squares of P A_h P,
    P = I - 1 1^T / T. The factor is the square root of its spectral radius: with one head |second eigenvalue of A|, 0
    for uniform attention.
    """
    if encoding.overrides("rotate", "query_bias"):
        return None
    bias = encoding.bias(seq_len)
    scores = torch.zeros(1, seq_len, seq_len, dtype=torch.float64) if bias is None else bias.cpu().double()
    if encoding.causal:
        scores = scores.masked_fill(causal_mask(seq_len, scores.device), -math.inf)
    centre = torch.eye(seq_len, dtype=torch.float64) - 1 / seq_len
    heads = centre @ scores.softmax(-1) @ centre
    moment = torch.stack([torch.kron(head, head) for head in heads]).mean(0)
    return math.sqrt(float(torch.linalg.eigvals(moment).abs().max()))


def skip_contraction(contraction: float, gain: float, *, d_model: int, inner: int) -> float:
    """Return the factor by which r shrinks in x + F(x) or LN(x + F(x)): the exponential of its mean logarithm.

    The common part of the tokens grows by sqrt(1 + g^2) at infinite width, their differences by sqrt(1 + g^2 f^2). At
    finite width the square of the first has mean 1 + g^2 and variance 4 g^2 / D + g^4 (2 / D + 2 / HK), which lowers
    the mean of its logarithm by that variance / (2 (1 + g^2)^2): tokens become alike a little more slowly.

    Args:
        contraction: f, see ``position_contraction``.
        gain: g, see ``layer_gain``.
        d_model: D.
        inner: HK, the width of all heads together.
    """
    variance = 4 * gain**2 / d_model + gain**4 * (2 / d_model + 2 / inner)
    common = math.log1p(gain**2) - variance / (2 * (1 + gain**2) ** 2)
    return math.exp((math.log1p((gain * contraction) ** 2) - common) / 2)


def pre_norm_variance(sublayers: int) -> tuple[float, float]:
    """Return the bounds on E|x|^2 / D after ``sublayers`` (attention, feed-forward, ...) of a unit-gain pre-LN stack.

    1 + l/2 and 1 + 3l/2 after l layers of two sublayers (Xiong et al., arXiv 2002.04745, Lemma 2).
    """
    return 1 + sublayers / 4, 1 + 3 * sublayers / 4


def peri_norm_variance(sublayers: int) -> float:
    """Return E|x|^2 / D after ``sublayers`` of a Peri-LN stack; each adds a normalised output (arXiv 2502.02732)."""
    return 1.0 + sublayers
