"""Fenced blocks of README, CONTRIBUTING and docs, and the commands in them and in text."""

import re
import shlex
from typing import NamedTuple

from attnlib.tests import ROOT

PAGES = [
    *(ROOT / "README.md", ROOT / "CONTRIBUTING.md"),
    *sorted((ROOT / "docs").glob("*.md")),
    ROOT / "results" / "reference" / "README.md",
]
FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
PROGRAMS = ("pytest", "pytest-benchmark", "attnlib", "python", "python3", "pip", "tox")


class Block(NamedTuple):
    """A fenced block of a page."""

    page: str
    language: str
    text: str


def blocks(language=None):
    """Every fenced block, of one language or any."""
    found = [Block(page.name, *match) for page in PAGES for match in FENCE.findall(page.read_text())]
    return [block for block in found if language in (None, block.language)]


def commands():
    """Every command that a page shows, once, as words: lines of ``sh`` blocks, and code in text that begins as one."""
    lines = [line for block in blocks("sh") for line in block.text.splitlines()]
    for page in PAGES:
        lines += re.findall(r"`([^`\n]+)`", FENCE.sub("", page.read_text()))
    parts = [part.strip() for line in lines for part in line.split("&&")]
    words = [shlex.split(part, comments=True) for part in parts if part]
    shown = [[word.removeprefix(".venv/bin/") for word in own[:1]] + own[1:] for own in words]
    return list(dict.fromkeys(tuple(own) for own in shown if own and own[0] in PROGRAMS and len(own) > 1))
