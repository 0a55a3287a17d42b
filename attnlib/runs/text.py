"""For people: SI seconds, binary bytes, and words that cannot do anything."""

import re

# what moves a terminal's cursor, colours, turns or breaks a line, hides text, or is half a character
UNPRINTABLE = re.compile(
    r"[\x00-\x1f\x7f-\x9f\u061c\u200b-\u200f\u2028-\u202e\u2060-\u2069\ud800-\udfff\ufeff\ufff9-\ufffb]"
)


def printable(text: str) -> str:
    """The text in one line, with a replacement character for each that would act on a terminal."""
    return UNPRINTABLE.sub("\ufffd", text)


def seconds(value: float) -> str:
    """Three digits with a unit: ``1.29 ms``."""
    for scale, unit in ((1.0, "s"), (1e-3, "ms"), (1e-6, "us")):
        if value >= scale:
            return f"{value / scale:.3g} {unit}"
    return f"{value / 1e-9:.3g} ns"


def size(value: int) -> str:
    """Three digits in MiB, or GiB from 1024 MiB on; a MiB is 2**20 bytes."""
    return f"{value / 2**20:.3g} MiB" if value < 2**30 else f"{value / 2**30:.3g} GiB"


def duration(value: float) -> str:
    """Minutes and seconds: ``3 min 05 s``."""
    minutes, rest = divmod(round(value), 60)
    return f"{minutes} min {rest:02d} s" if minutes else f"{rest} s"
