"""Draw saved runs: ``python plots.py [RUN ...]`` is ``attnlib draw``."""

import sys
from collections.abc import Sequence

from attnlib.commands import __main__ as attnlib


def main(words: Sequence[str]) -> int:
    """Draw, with the options of ``attnlib draw``; return its exit code."""
    return attnlib.main(["draw", *words])


if __name__ == "__main__":
    attnlib.entry(["draw", *sys.argv[1:]])
