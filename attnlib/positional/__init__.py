"""Positional encodings, one family a file, and their registry."""

from collections.abc import Callable
from functools import partial

from attnlib.positional.absolute import Learned, Sinusoidal
from attnlib.positional.alibi import Alibi
from attnlib.positional.base import PositionalEncoding
from attnlib.positional.fire import Fire
from attnlib.positional.kerple import Kerple
from attnlib.positional.rotary import Rotary
from attnlib.positional.shaw import Shaw
from attnlib.positional.t5 import T5

__all__ = ["POSITIONAL", "PositionalEncoding"]

POSITIONAL: dict[str, Callable[..., PositionalEncoding]] = {
    "none": PositionalEncoding,
    "sinusoidal": Sinusoidal,
    "learned": Learned,
    "rotary": Rotary,
    "rotary_interleaved": partial(Rotary, interleaved=True),
    "alibi": Alibi,
    "t5": T5,
    "shaw": Shaw,
    "kerple": Kerple,
    "fire": Fire,
}
