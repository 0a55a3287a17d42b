"""An independent prediction of signals and gradients: second moments, passed from component to component.

Two numbers follow the signal, two the gradient: the mean square of a token's numbers, and the mean product with another
token's. Formulas of single components are those of Kedia et al. (arXiv 2403.09635) at infinite width. How tokens become
alike layer by layer is the recursion of Giorlandino and Goldt (arXiv 2505.24333): all three initialisations lie below
its critical temperature, where attention averages its tokens. Nothing here uses ``closed_forms``.
"""

import math
from typing import NamedTuple

from attnlib.errors import message
from attnlib.model.config import StackConfig


class Moments(NamedTuple):
    """Second moments of tokens or of their gradients: ``square`` of one's numbers, ``product`` with another's."""

    square: float
    product: float

    @property
    def cosine(self) -> float:
        """Cosine of two tokens, at most 1."""
        return min(1.0, self.product / self.square) if self.square else 1.0

    def times(self, factor: float) -> "Moments":
        """Return both moments times a factor."""
        return Moments(self.square * factor, self.product * factor)

    def plus(self, other: "Moments") -> "Moments":
        """Return the moments of a sum of two independent parts."""
        return Moments(self.square + other.square, self.product + other.product)


class Gains(NamedTuple):
    """Factors on a mean square at initialisation: of query and key, whose product is a score's, of value and output.

    ``back`` is that of value and output on a gradient.
    """

    query_key: float
    value_out: float
    back: float


def gains(config: StackConfig) -> Gains:
    """Return the gains of a layer of attention, from the variances of its weights.

    A linear map with weights of variance s^2 multiplies a signal's mean square by its inputs times s^2, and a
    gradient's by its outputs times s^2.

    Raises:
        ValueError: the initialisation is not one of ours.
    """
    D, HK, rows = config.d_model, config.inner, config.inner + 2 * config.kv_inner
    variances = {  # of the fused projection and of the output
        "torch_mha": (2 / (D + rows), 1 / (3 * HK)),
        "linear": (1 / (3 * D), 1 / (3 * HK)),
        "unit": (1 / D, 1 / HK),
    }
    if config.init not in variances:
        raise ValueError(message(f"no variances are known for init {config.init!r}", choices=variances))
    fused, out = variances[config.init]
    return Gains((D * fused) ** 2, D * fused * HK * out, D * out * HK * fused)


class Attended(NamedTuple):
    """Attention at initialisation: sums over its weights, for a query with itself and for two queries."""

    own: float  # sum of squared weights
    other: float  # sum of products of two queries' weights


def attended(config: StackConfig, x: Moments, gain: Gains) -> Attended:
    """Return the sums of weights of random attention over T keys.

    Scores are normal; what they differ by from key to key has the variance s^2 = square (square - product) times the
    gain of queries and keys, and its covariance for two queries is smaller by their cosine. Exponentials of normal
    numbers give exp(s^2) / T and exp(cosine s^2) / T; both are 1 / T where scores vanish.
    """
    spread = gain.query_key * x.square * (x.square - x.product)
    most = math.log(config.seq_len)  # one key has all the weight
    return Attended(*(math.exp(min(spread * share, most)) / config.seq_len for share in (1.0, x.cosine)))


def attention(config: StackConfig, x: Moments) -> Moments:
    """Return the moments after attention and output projection: the common part stays, differences are averaged."""
    gain = gains(config)
    weights, apart = attended(config, x, gain), x.square - x.product
    return Moments(x.product + apart * weights.own, x.product + apart * weights.other).times(gain.value_out)


def attention_back(config: StackConfig, x: Moments, g: Moments) -> Moments:
    """Return the moments of the gradient before attention, by way of the values: a sum over the T queries."""
    gain, T = gains(config), config.seq_len
    weights = attended(config, x, gain)
    other = 1 / T  # products of the weights that two keys get from any queries: those of random keys
    return Moments(
        g.square * weights.own + (T - 1) * g.product * weights.other, (g.square + (T - 1) * g.product) * other
    ).times(gain.back)


def relu_kernel(cosine: float) -> float:
    """Return the mean product of two ReLUs of normal numbers of variance 1 with this correlation; 1/2 at 1."""
    return (math.sqrt(1 - cosine**2) + cosine * (math.pi - math.acos(cosine))) / (2 * math.pi)


def feed_forward(x: Moments) -> Moments:
    """Return the moments after a unit-gain feed-forward: the ReLU halves the square, and makes tokens more alike."""
    return Moments(x.square / 2, x.square * relu_kernel(x.cosine))


def feed_forward_back(x: Moments, g: Moments) -> Moments:
    """Return the moments of the gradient before a unit-gain feed-forward: where both ReLUs are open, it passes."""
    return Moments(g.square / 2, g.product * (1 / 4 + math.asin(x.cosine) / (2 * math.pi)))


def normed(x: Moments) -> Moments:
    """Return the moments after a norm."""
    return Moments(1.0, x.cosine)


class Predicted(NamedTuple):
    """Prediction of a stack: its output's mean square, its tokens' cosine, |gradient| at the L + 1 layer boundaries."""

    variance: float
    cosine: float
    gradients: list[float]


def predict(config: StackConfig, start: Moments, gradient: Moments) -> Predicted:
    """Pass a signal and a gradient through a stack, with feed-forwards if it has them; without its last norm.

    Args:
        config: the stack, in one of the blocks ``BLOCKS``.
        start: moments of the tokens.
        gradient: moments of the gradient at the output.

    Raises:
        ValueError: block or initialisation are none of those known here.
    """
    known = ("plain", "residual", "pre_ln", "post_ln", "peri_ln", "lns")
    if config.block not in known:
        raise ValueError(message(f"moments of block {config.block!r} are not known", choices=known))
    x, inputs = start, []
    sublayers = 2 if config.ffn_mult else 1
    for index in range(config.depth * sublayers):
        inputs.append(x)
        x = sublayer(config, x, index, sublayers)
    out, g, sizes = x, gradient, [math.sqrt(gradient.square)]
    for index in reversed(range(config.depth * sublayers)):
        g = sublayer_back(config, inputs[index], g, index, sublayers)
        sizes.append(math.sqrt(g.square))
    return Predicted(out.square, out.cosine, sizes[::-sublayers])


def scale_of(config: StackConfig, index: int, sublayers: int) -> tuple[float, float]:
    """Return the factors on mean squares before and after a branch: of ``lns``, and of ``depth_scale``."""
    before = 1 / (index // sublayers + 1) if config.block == "lns" else 1.0
    return before, 1.0 if config.depth_scale == "none" else 1 / (config.depth * sublayers)


def branch(config: StackConfig, x: Moments, index: int, sublayers: int) -> Moments:
    """Return the moments after a sublayer of number ``index``, alternately attention and feed-forward."""
    return feed_forward(x) if sublayers == 2 and index % 2 else attention(config, x)


def sublayer(config: StackConfig, x: Moments, index: int, sublayers: int) -> Moments:
    """Return the moments after a sublayer with its skip connection and norms."""
    before, after = scale_of(config, index, sublayers)
    inside = x if config.block in ("plain", "residual", "post_ln") else normed(x).times(before)
    y = branch(config, inside, index, sublayers).times(after)
    if config.block == "plain":
        return y
    if config.block == "peri_ln":
        y = normed(y)
    return normed(x.plus(y)) if config.block == "post_ln" else x.plus(y)


def sublayer_back(config: StackConfig, x: Moments, g: Moments, index: int, sublayers: int) -> Moments:
    """Return the moments of the gradient before a sublayer whose input has the moments ``x``.

    A norm divides a gradient by the root mean square of what it is given.
    """
    before, after = scale_of(config, index, sublayers)
    outer = config.block not in ("plain", "residual", "post_ln")
    inside = normed(x).times(before) if outer else x
    y = branch(config, inside, index, sublayers).times(after)
    if config.block == "post_ln":
        g = g.times(1 / x.plus(y).square)
    through = g.times(after / (y.square if config.block == "peri_ln" else 1.0))
    back = (
        feed_forward_back(inside, through) if sublayers == 2 and index % 2 else attention_back(config, inside, through)
    )
    if outer:
        back = back.times(before / x.square)
    return back if config.block == "plain" else g.plus(back)


def critical(config: StackConfig, cosine: float) -> tuple[float, float]:
    """Return beta of a stack and the beta above which attention picks single keys (arXiv 2505.24333).

    beta^2 log T is the variance of the scores of tokens with mean square 1; the critical value is sqrt(2 / (1 - p)) for
    tokens of cosine p. Below it attention returns the mean of the tokens, and they become alike (rank collapse); above
    it, one key of each query has most of the weight (entropy collapse).
    """
    beta = math.sqrt(gains(config).query_key / math.log(config.seq_len))
    return beta, math.sqrt(2 / (1 - cosine)) if cosine < 1 else math.inf
