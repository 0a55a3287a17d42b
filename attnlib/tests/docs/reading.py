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
HEADING = re.compile(r"^## (.+)$", re.MULTILINE)
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


def sections():
    """Return the prose of every page by page and heading, as ``docs/cost.md#Time``, each in one line.

    Blocks of code, figures, targets of links, and marks of bold and italics are left out; tables are kept.
    """
    found = {}
    for page in PAGES:
        first, *rest = HEADING.split(FENCE.sub("", page.read_text()))
        parts = ["", first, *rest]
        for heading, text in zip(parts[::2], parts[1::2], strict=True):
            text = re.sub(r"!\[[^]]*\]\([^)]*\)", "", text)
            text = re.sub(r"\[([^]]*)\]\([^)]*\)", r"\1", text)
            text = re.sub(r"(`[^`]*`)|\*", lambda match: match[1] or "", text)
            found[f"{page.relative_to(ROOT).as_posix()}#{heading}"] = " ".join(text.split())
    return found
