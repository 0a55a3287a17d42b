"""Words that cannot do anything."""

import io
import re
import sys

# what moves a terminal's cursor, colours, turns or breaks a line, hides text, or is half a character
UNPRINTABLE = re.compile(
    r"[\x00-\x1f\x7f-\x9f\u061c\u200b-\u200f\u2028-\u202e\u2060-\u2069\ud800-\udfff\ufeff\ufff9-\ufffb]"
)


def printable(text: str) -> str:
    """The text in one line, with a replacement character for each that would act on a terminal."""
    return UNPRINTABLE.sub("\ufffd", text)


def forgive() -> None:
    """Let a console that cannot show a character show the rest."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")
