"""Positional encodings, one family a file, and their registry."""

from collections.abc import Callable
from functools import partial

from attnlib.model.positional.absolute import Learned, LearnedOffset, Sinusoidal
from attnlib.model.positional.alibi import Alibi
from attnlib.model.positional.base import PositionalEncoding
from attnlib.model.positional.cope import Cope
from attnlib.model.positional.fire import Fire
from attnlib.model.positional.kerple import Kerple
from attnlib.model.positional.own import own_encoding
from attnlib.model.positional.rotary import Rotary, ntk_frequencies, partial_frequencies, yarn_frequencies
from attnlib.model.positional.shaw import Shaw
from attnlib.model.positional.t5 import T5
from attnlib.model.registry import Registry

__all__ = ["POSITIONAL", "PositionalEncoding"]

BUILT_IN: dict[str, Callable[..., PositionalEncoding]] = {
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
    "learned_0.02": partial(Learned, scale=0.02),  # as BERT and GPT-2 start
    "learned_0.71": partial(Learned, scale=0.5**0.5),  # the root mean square of the sinusoidal table
    "rotary_partial": partial(Rotary, frequencies=partial_frequencies),
    "rotary_ntk": partial(Rotary, frequencies=ntk_frequencies),
    "rotary_yarn": partial(Rotary, frequencies=yarn_frequencies),
    "cope": Cope,
    "learned_offset": LearnedOffset,
}
POSITIONAL = Registry("pe", BUILT_IN, own_encoding, "attnlib.encodings")
