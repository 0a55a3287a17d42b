"""Closed forms of decay and collapse at initialisation, which the probes' readings are compared with.

A plain layer maps tokens to A x W_V W_O, with row-stochastic A and random W. Once the tokens are alike (collapsed), A
acts only on their small differences, and both the signal and its gradient are multiplied by random matrices only.
"""

import math

import torch

from attnlib.errors import message
from attnlib.model.attention import hidden_pairs
from attnlib.model.config import StackConfig
from attnlib.model.positional import PositionalEncoding


def layer_gain(config: StackConfig) -> float:
    """Return the gain g = g_V g_O by which a plain layer scales a gradient once attention has averaged the tokens.

    With a weight's variance s^2, W_O scales a gradient's norm by sqrt(HK s_O^2) and W_V by sqrt(D s_V^2), also where
    heads share values; g^2 = 2D / (3 (D + (H + 2G) K)) for ``torch_mha``, 1/9 for ``linear`` and 1 for ``unit``. The
    mean of V with the first layer's (``value_residual``) and a sigmoid gate, whose mean is 1/2, each halve g.

    Raises:
        ValueError: no closed form is known for the initialisation.
    """
    D, rows = config.d_model, config.inner + 2 * config.kv_inner
    squared = {"torch_mha": 2 * D / (3 * (D + rows)), "linear": 1 / 9, "unit": 1.0}
    if config.init not in squared:
        raise ValueError(message(f"no closed form for init {config.init!r}", choices=squared))
    halves = config.value_residual + (config.gate == "sigmoid")
    return math.sqrt(squared[config.init]) * 0.5**halves


def decay_rate(config: StackConfig) -> float:
    """Return the expected slope of log10 |gradient| in decades a plain layer; negative if gradients vanish.

    log10(g) - (1/D + 1/GK) / (2 ln 10): a fit of the logarithm estimates the mean of the log, which at finite width
    lies below the log of the mean by the second term. With a sink attention gives only T / (T + 1) of the values' mean
    once scores are small, or less under a mask: ``attention_gain``.

    Raises:
        ValueError: no closed form is known for the initialisation.
    """
    finite = (1 / config.d_model + 1 / config.kv_inner) / (2 * math.log(10))
    return math.log10(layer_gain(config)) + math.log10(attention_gain(config)) - finite


def attention_gain(config: StackConfig) -> float:
    """Return the largest eigenvalue of attention whose scores are all 0: 1 but with a sink.

    Each query then sees n keys with weights 1 / (n + 1). Without a mask n = T, and the eigenvalue is T / (T + 1). With
    a causal mask the matrix is triangular, with 1/2, 1/3, ... on its diagonal: the first token keeps a half.
    """
    if not config.sink:
        return 1.0
    attention = uniform_attention(config)
    return float(torch.linalg.eigvals(attention).abs().max())


def uniform_attention(config: StackConfig) -> torch.Tensor:
    """Return the attention of a head whose scores are 0: float64 ``[T, T]``; with a sink rows sum to n / (n + 1)."""
    T = config.seq_len
    hidden = hidden_pairs(config, T, torch.device("cpu"))
    seen = torch.ones(T, T, dtype=torch.float64) if hidden is None else (~hidden).double()
    return seen / (seen.sum(1, keepdim=True) + config.sink)


def flush_depth(dtype: torch.dtype, *, start: float, rate: float) -> float:
    """Return the layers until a number that decays from ``start`` by ``rate`` decades a layer is 0 in ``dtype``.

    Below half the smallest subnormal number it is rounded to 0.

    Raises:
        ValueError: ``rate`` is not negative.
    """
    if rate >= 0:
        raise ValueError(message("gradients vanish at a negative rate of decades a layer", rate))
    least = torch.finfo(dtype).smallest_normal * torch.finfo(dtype).eps
    return (math.log10(least / 2) - math.log10(start)) / rate


def key_bias_is_idle(encoding: PositionalEncoding, config: StackConfig) -> bool:
    """Return True if a key bias has gradient 0, since the softmax ignores a shift that all scores of a query share.

    Holds unless the encoding rotates keys by their positions or has gates of them, keys are normalised, or a sink's
    score stays where it is.
    """
    return not (encoding.overrides("rotate", "pair_bias") or config.qk_norm or config.sink)


def query_key_powers(encoding: PositionalEncoding) -> dict[str, float]:
    """Return the exponents a in |g_Q|, |g_K| ~ |g_V| |x|^2 (1 - cosine)^a as the tokens collapse, by role q and k.

    The softmax's gradient is of the order of the values' differences, (1 - cosine)^(1/2). A query's gradient multiplies
    it with the keys' differences, which are of the same order, unless positions distinguish the keys of equal tokens
    (rotary; for queries also Shaw's table). A key's gradient multiplies it with the queries' differences, unless keys
    act on the scores of alike queries too, as CoPE's gates do.
    """
    turned, shifted = encoding.overrides("rotate", "pair_bias"), encoding.by_content
    return {"q": 0.5 if turned or shifted else 1.0, "k": 0.5 if turned else 1.0}


def collapse_exponent(encoding: PositionalEncoding, config: StackConfig) -> int:
    """Return the exponent a in r_{l+1} ~ r_l^a for the relative rank-1 residual r of a plain stack, as r goes to 0.

    3 (Dong et al., arXiv 2103.03404) if attention depends on content only: its rows then differ in second order of r.
    1 if a mask, a window or an encoding acts in every layer. 2 with CoPE and no mask: alike queries
    give a key the same position, so that the rows of attention are equal but for differences of first order of r.
    """
    masked = config.causal or (config.window or config.seq_len) < config.seq_len
    if masked or encoding.overrides("rotate", "bias", "by_distance", "query_bias"):
        return 1
    return 2 if encoding.overrides("pair_bias") else 3


@torch.no_grad()
def position_contraction(encoding: PositionalEncoding, config: StackConfig) -> float | None:
    """Return the factor by which r shrinks in a plain layer if positions alone decide attention; None if they do not.

    Tokens 1 c + d, with every row of d small, become 1 c' + sum_h A_h d W_h with A_h = softmax(bias_h) and independent
    W_h; up to the common part, the second moment of d evolves by the mean over h of the Kronecker squares of P A_h P,
    P = I - 1 1^T / T. The factor is the square root of its spectral radius: with one head |second eigenvalue of A|, 0
    for uniform attention.
    """
    if encoding.overrides("rotate") or encoding.by_content:
        return None
    T = config.seq_len
    bias = encoding.bias(T)
    scores = torch.zeros(1, T, T, dtype=torch.float64) if bias is None else bias.cpu().double()
    if (hidden := hidden_pairs(config, T, scores.device)) is not None:
        scores = scores.masked_fill(hidden, -math.inf)
    centre = torch.eye(T, dtype=torch.float64) - 1 / T
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


def branch_weights(config: StackConfig) -> list[float]:
    """Return what a unit-gain pre-LN stack multiplies each branch's variance by, first layer to last.

    1; 1/N with N branches under ``depth_scale``; in layer l also 1/l in a block ``lns``. A layer has a branch for its
    attention and one for its feed-forward, if there is one.
    """
    sublayers = 2 if config.ffn_mult else 1
    scale = 1.0 if config.depth_scale == "none" else 1 / (config.depth * sublayers)
    layers = range(1, config.depth + 1)
    return [scale / (layer if config.block == "lns" else 1) for layer in layers for _ in range(sublayers)]


def pre_norm_variance(config: StackConfig) -> tuple[float, float]:
    """Return the bounds on E|x|^2 / D after a unit-gain pre-LN stack with ReLU feed-forwards, from a variance of 1.

    A feed-forward adds w / 2 (the ReLU halves it), and attention between 0 and w, as far as the tokens that it averages
    are alike, with w as ``branch_weights`` has it: without scaling 1 + L/2 and 1 + 3L/2 (Xiong et al., arXiv
    2002.04745, Lemma 2), with ``depth_scale`` 5/4 and 7/4 at any depth, with ``lns`` 1 + H_L/2 and 1 + 3 H_L/2 with the
    harmonic number H_L = 1 + 1/2 + ... + 1/L, about ln L + 0.58 (arXiv 2502.05795).
    """
    weights = branch_weights(config)
    attention, feed_forward = sum(weights[::2]), sum(weights[1::2])
    return 1 + feed_forward / 2, 1 + feed_forward / 2 + attention


def alike_variance(config: StackConfig) -> float:
    """Return E|x|^2 / D after unit-gain attention layers of tokens that are all alike, from a variance of 1.

    Attention then leaves values as they are. With a norm in the branch each layer adds its ``branch_weights``: 1 + L
    without scaling, 2 with ``depth_scale``, 1 + H_L with ``lns``. Without a norm (``residual``) it multiplies by
    1 + its weight: 2^L, or (1 + 1/L)^L, which tends to e (arXiv 2310.02244).
    """
    weights = branch_weights(config)
    return math.prod(1 + w for w in weights) if config.block == "residual" else 1 + sum(weights)


def peri_norm_variance(sublayers: int) -> float:
    """Return E|x|^2 / D after ``sublayers`` of a Peri-LN stack; each adds a normalised output (arXiv 2502.02732)."""
    return 1.0 + sublayers
