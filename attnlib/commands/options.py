"""What subcommands share: kinds of values, options that several have, and how they complain."""

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from attnlib.compare.cells import Cells, read_cells
from attnlib.show.table import Table

CODES = "Exit code: 0 no regression, 1 a regression, 2 nothing could be decided or compared."


def share(text: str) -> float:
    """A number above 0 and below 1, for argparse."""
    number = float(text)
    if not 0 < number < 1:
        raise ValueError(text)
    return number


def positive(text: str) -> float:
    """A positive number, for argparse."""
    number = float(text)
    if not 0 < number < float("inf"):
        raise ValueError(text)
    return number


def count(text: str) -> int:
    """A positive integer, for argparse."""
    if int(text) < 1:
        raise ValueError(text)
    return int(text)


def fields_of(text: str) -> dict[str, Any]:
    """Fields of a case from ``seq_len=512,pe=rotary,causal=true``.

    Raises:
        ValueError: an entry has no name or no value.
    """
    fields = {}
    for entry in text.split(","):
        name, _, value = entry.partition("=")
        if not name or not value:
            raise ValueError(f"{text!r} is no list of fields such as phase=train_step,seq_len=512,pe=rotary")
        try:
            fields[name] = json.loads(value)
        except ValueError:  # a word
            fields[name] = value
    return fields


def add_runs(command: argparse.ArgumentParser) -> None:
    """Saved runs as arguments, and Markdown as an output; see ``cells_of`` and ``output``."""
    command.add_argument("runs", nargs="*", type=Path, metavar="RUN", help="saved runs of one machine; the newest")
    add_markdown(command)


def add_markdown(command: argparse.ArgumentParser) -> None:
    """``--markdown``."""
    command.add_argument("--markdown", action="store_true", help="print the table as Markdown")


def add_verdict_options(command: argparse.ArgumentParser, threshold: float | None, text: str) -> None:
    """What ``ab`` and ``compare`` share."""
    command.add_argument("--threshold", type=share, default=threshold, metavar="SHARE", help=text)
    command.add_argument("--allow-undecided", action="store_true", help="exit 0 where time is undecided")
    command.add_argument("--json", action="store_true", help="print JSON")
    add_markdown(command)


def cells_of(options: argparse.Namespace) -> tuple[Cells | None, bool]:
    """The cells of the named runs, None without a good one; and whether a file was left out, which is said."""
    cells, left_out = read_cells(options.runs)
    complain(left_out)
    return cells, bool(left_out)


def output(table: Table, *, as_markdown: bool) -> None:
    """Print a table."""
    if as_markdown:
        print(table.markdown())
    else:
        table.print()


def complain(lines: Sequence[str]) -> None:
    """Say what is wrong, a line each."""
    for line in lines:
        print(f"attnlib: {line}", file=sys.stderr)
