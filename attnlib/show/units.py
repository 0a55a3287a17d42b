"""Formats of numbers for people: SI seconds, binary bytes, numbers with their intervals."""

from collections.abc import Callable

from attnlib.compare.intervals import Estimate

Form = Callable[[float], str]


def seconds(value: float) -> str:
    """Three digits with a unit: ``1.29 ms``."""
    for scale, unit in ((1.0, "s"), (1e-3, "ms"), (1e-6, "us")):
        if value >= scale:
            return f"{value / scale:.3g} {unit}"
    return f"{value / 1e-9:.3g} ns"


def joules(value: float) -> str:
    """Three digits with a unit: ``1.29 mJ``."""
    for scale, unit in ((1.0, "J"), (1e-3, "mJ")):
        if value >= scale:
            return f"{value / scale:.3g} {unit}"
    return f"{value / 1e-6:.3g} uJ"


def many(value: float) -> str:
    """Three digits with an SI prefix: ``1.23 G``."""
    for scale, prefix in ((1e15, "P"), (1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k")):
        if value >= scale:
            return f"{value / scale:.3g} {prefix}"
    return f"{value:g} "


def percent(share: float) -> str:
    """A share in percent, two digits below 1 %."""
    return f"{share:.0%}" if share >= 0.01 else f"{share:.2%}"


def duration(value: float) -> str:
    """Minutes and seconds: ``3 min 05 s``."""
    minutes, rest = divmod(round(value), 60)
    return f"{minutes} min {rest:02d} s" if minutes else f"{rest} s"


def digits(count: int) -> Form:
    """So many digits behind the point."""
    return lambda value: f"{value:.{count}f}"


def signed(estimate: Estimate) -> str:
    """Return a difference with its interval, signs written: ``-0.018 [-0.041, +0.004]``."""
    return f"{estimate.value:+.3f} [{estimate.low:+.3f}, {estimate.high:+.3f}]"


def with_interval(form: Form) -> Callable[[Estimate], str]:
    """A number and its interval, both as ``form`` writes them: ``1.29 ms [1.2 ms, 1.31 ms]``."""

    def write(estimate: Estimate) -> str:
        value, low, high = estimate
        return form(value) + (f" [{form(low)}, {form(high)}]" if low < high else "")

    return write
