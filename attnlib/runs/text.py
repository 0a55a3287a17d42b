"""Text that a terminal can show safely, and short names of parts."""

import io
import re
import sys
from collections.abc import Iterable
from typing import Any

# what moves a terminal's cursor, colours, turns or breaks a line, hides text, or is half a character
UNPRINTABLE = re.compile(
    r"[\x00-\x1f\x7f-\x9f\u061c\u200b-\u200f\u2028-\u202e\u2060-\u2069\ud800-\udfff\ufeff\ufff9-\ufffb]"
)


def docstring_summary(described: Any) -> str:
    """Return the first line of an object's docstring without its back-ticks, or that Python dropped it."""
    text: str = described.__doc__ or "not described: Python's option -OO drops descriptions"
    return text.partition("\n")[0].replace("``", "")


def printable(text: str) -> str:
    """Return a text with a replacement character for each character that would act on a terminal or break the line."""
    return UNPRINTABLE.sub("\ufffd", text)


def forgive() -> None:
    """Make output streams replace characters that the console cannot show, instead of raising an error."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")


def short_names(names: Iterable[str]) -> dict[str, str]:
    """Return the name that tables and ids show for each: ``MyPE`` for ``mylab.attn:MyPE``, others as they are.

    Module names are put in front, the innermost first, until no two names are alike: ``attn.MyPE``.
    """
    names = list(dict.fromkeys(names))
    shown = {name: [name] for name in names if ":" not in name}
    for name in names:
        if ":" in name:
            module, _, attribute = name.partition(":")
            parts = [*module.split("."), attribute]
            shown[name] = [".".join(parts[start:]) for start in range(len(parts) - 1, -1, -1)] + [name]
    found = {name: candidates[0] for name, candidates in shown.items()}
    while twins := [name for name in names if list(found.values()).count(found[name]) > 1 and len(shown[name]) > 1]:
        for name in twins:
            shown[name].pop(0)
            found[name] = shown[name][0]
    return found
