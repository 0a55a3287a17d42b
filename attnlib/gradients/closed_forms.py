"""Closed forms that the probes are held against. No measurement in here.

A plain layer maps tokens to A x W_V W_O, with row-stochastic A and random W. Once the tokens are alike (collapsed), A
acts on what little they differ by, and both the signal and its gradient see random matrices only.
"""

import math

import torch

from attnlib.model.attention import causal_mask
from attnlib.model.positional import PositionalEncoding


def layer_gain(init: str, *, d_model: int, inner: int) -> float:
    """Return g = g_V g_O, by which a plain layer scales a backward signal once attention has averaged tokens.

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
    """Expected slope of log10 |gradient| in decades a plain layer, negative where gradients vanish.

    log10(g) - (1/D + 1/HK) / (2 ln 10): a fit of the logarithm estimates the mean of the log, which lies below the log
    of the mean by the second term at finite width.

    Args:
        init: a name in ``attnlib.model.attention.INITS``.
        d_model: D.
        inner: HK.
    """
    return math.log10(layer_gain(init, d_model=d_model, inner=inner)) - (1 / d_model + 1 / inner) / (2 * math.log(10))


def flush_depth(dtype: torch.dtype, *, start: float, rate: float) -> float:
    """Layers until a number that starts at ``start`` and changes by ``rate`` decades a layer is 0 in ``dtype``.

    Rounding takes it to 0 below half the smallest subnormal number.

    Raises:
        ValueError: ``rate`` is not negative.
    """
    if rate >= 0:
        raise ValueError(f"nothing vanishes at {rate} decades a layer")
    least = torch.finfo(dtype).smallest_normal * torch.finfo(dtype).eps
    return (math.log10(least / 2) - math.log10(start)) / rate


def key_bias_is_idle(encoding: PositionalEncoding) -> bool:
    """Whether a key bias shifts all scores of a query alike, so that the softmax drops it and its gradient is 0.

    So it is unless keys are turned by their positions.
    """
    return not encoding.overrides("rotate")


def query_key_powers(encoding: PositionalEncoding) -> dict[str, float]:
    """Exponents a in |g_Q|, |g_K| ~ |g_V| |x|^2 (1 - cosine)^a, as the tokens collapse.

    The softmax's gradient is of the order of the values' differences, (1 - cosine)^(1/2). A query's gradient weighs the
    keys' differences with it: as small again where keys differ as tokens do, but not where positions tell equal tokens
    apart (rotary; Shaw's table for queries only). A key's gradient does the same with queries.
    """
    turned, shifted = encoding.overrides("rotate"), encoding.overrides("query_bias")
    return {"q": 0.5 if turned or shifted else 1.0, "k": 0.5 if turned else 1.0}


def collapse_exponent(encoding: PositionalEncoding) -> int:
    """The exponent a in r_{l+1} ~ r_l^a for the relative rank-1 residual r of a plain stack, as r goes to 0.

    3 (Dong et al., arXiv 2103.03404) where nothing but content tells tokens apart within a layer: then attention rows
    differ in second order of r only. 1 where a mask or an encoding acts in every layer.
    """
    return 1 if encoding.causal or encoding.biases or encoding.overrides("rotate") else 3


@torch.no_grad()
def position_contraction(encoding: PositionalEncoding, seq_len: int) -> float | None:
    """Factor a plain layer by which r shrinks, from the attention that positions alone give; None if content decides.

    Tokens 1 c + d, with every row of d small, become 1 c' + sum_h A_h d W_h with A_h = softmax(bias_h) and independent
    W_h; modulo 1, the second moment of d evolves by the mean over h of (P A_h P) x (P A_h P), P = I - 1 1^T / T. The
    factor is the square root of its spectral radius: with one head |second eigenvalue of A|, 0 for uniform attention.
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
    """The factor of ``position_contraction`` for x + F(x) and LN(x + F(x)), as the mean of its logarithm gives it.

    The common part of the tokens grows by sqrt(1 + g^2) at infinite width, their differences by sqrt(1 + g^2 f^2). At
    finite width its square has mean 1 + g^2 and variance 4 g^2 / D + g^4 (2 / D + 2 / HK), so that the mean of its
    logarithm lies lower by that variance / (2 (1 + g^2)^2): tokens become alike a little more slowly.

    Args:
        contraction: f.
        gain: g, see ``layer_gain``.
        d_model: D.
        inner: HK.
    """
    variance = 4 * gain**2 / d_model + gain**4 * (2 / d_model + 2 / inner)
    common = math.log1p(gain**2) - variance / (2 * (1 + gain**2) ** 2)
    return math.exp((math.log1p((gain * contraction) ** 2) - common) / 2)


def pre_norm_variance(sublayers: int) -> tuple[float, float]:
    """Bounds on E|x|^2 / D after so many sublayers of a pre-LN stack of unit gain: attention and feed-forward in turn.

    1 + l/2 and 1 + 3l/2 after l layers of two (Xiong et al., arXiv 2002.04745, Lemma 2).
    """
    return 1 + sublayers / 4, 1 + 3 * sublayers / 4


def peri_norm_variance(sublayers: int) -> float:
    """E|x|^2 / D after so many sublayers of a Peri-LN stack, each adding a normalised output (arXiv 2502.02732)."""
    return 1.0 + sublayers
