"""Shared by subcommands: argument types, options that several have, and output."""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from attnlib.cases.options import search
from attnlib.cases.text import bytes_of
from attnlib.compare.cells import Cells, read_cells
from attnlib.errors import message
from attnlib.runs.find import chosen
from attnlib.runs.load import Run
from attnlib.runs.save import check_name
from attnlib.show.table import Table

# Exit codes 1 and 2 are results of some commands, see docs/ci.md; what else ends one, as pytest and sysexits.h have it:
USAGE, FAILURE, OUTPUT = 4, 70, 74  # wrong options or files; an error of attnlib's own; a result that cannot be written
CODES = "Exit code: 0 no regression, 1 a regression, 2 nothing could be decided or compared; 4 wrong options or files."


def share(text: str) -> float:
    """Return a number between 0 and 1, both excluded; an argparse type."""
    return number_below(1, text, "a number between 0 and 1")


def positive(text: str) -> float:
    """Return a positive, finite number; an argparse type."""
    return number_below(float("inf"), text, "a positive number")


def number_below(limit: float, text: str, words: str) -> float:
    """Return a positive number below a limit.

    Raises:
        argparse.ArgumentTypeError: the text is no such number; the message says in **words** which it should be.
    """
    try:
        number = float(text)
    except ValueError:
        number = limit
    if not 0 < number < limit:
        raise argparse.ArgumentTypeError(message(f"takes {words}", text))
    return number


def count(text: str) -> int:
    """Return a positive integer; an argparse type."""
    try:
        number = int(text)
    except ValueError:
        number = 0
    if number < 1:
        raise argparse.ArgumentTypeError(message("takes a positive integer", text))
    return number


def run_name(text: str) -> str:
    """Return the name of a run, see ``check_name``; an argparse type."""
    try:
        return check_name(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def counts(text: str) -> list[int]:
    """Return positive integers from comma-separated text, each once; an argparse type."""
    return list(dict.fromkeys(count(entry) for entry in text.split(",")))


def memory(text: str) -> int:
    """Return bytes from text such as 24GiB; an argparse type."""
    try:
        return bytes_of(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def runs_of(paths: Sequence[Path]) -> tuple[list[Run], bool]:
    """Return the named runs, or the newest; and True if a file could not be read, which is reported on stderr.

    Raises:
        ValueError: no run could be read.
    """
    runs, left_out = chosen(paths)
    if not runs:
        raise ValueError("; ".join(left_out))
    complain(left_out)
    return runs, bool(left_out)


def add_names(
    command: argparse.ArgumentParser, text: str = "saved runs: files, run names or numbers (default: the newest)"
) -> None:
    """Add saved runs as arguments; see ``runs_of`` and ``cells_of``."""
    command.add_argument("runs", nargs="*", type=Path, metavar="RUN", help=text)


def add_runs(command: argparse.ArgumentParser) -> None:
    """Add saved runs of one machine as arguments, and ``--markdown``; see ``cells_of`` and ``output``."""
    add_names(command, "saved runs of one machine (default: the newest)")
    add_markdown(command)


def add_markdown(command: argparse.ArgumentParser) -> None:
    """Add ``--markdown``."""
    command.add_argument("--markdown", action="store_true", help="print the table as Markdown")


def add_import_path(command: argparse.ArgumentParser) -> None:
    """``--import-path``, for commands that take parts by place; see ``import_from``."""
    text = "look there first for parts given as package.module:Attribute; may be repeated"
    command.add_argument("--import-path", type=Path, action="append", default=[], metavar="FOLDER", help=text)


def import_from(options: argparse.Namespace) -> None:
    """Put the folders of ``--import-path`` on the import path, the first one first.

    Raises:
        ValueError: there is no such folder.
    """
    for folder in reversed(options.import_path):
        search(folder)


def add_verdict_options(command: argparse.ArgumentParser, threshold: float | None, text: str) -> None:
    """Add the options that ``ab`` and ``compare`` share."""
    command.add_argument("--threshold", type=share, default=threshold, metavar="SHARE", help=text)
    command.add_argument("--allow-undecided", action="store_true", help="exit with 0 if times are undecided")
    command.add_argument("--json", action="store_true", help="print JSON")
    add_markdown(command)


def cells_of(options: argparse.Namespace) -> tuple[Cells | None, bool]:
    """Return the cells of the named runs, or None; and True if a file could not be read, which is reported."""
    cells, left_out = read_cells(options.runs)
    complain(left_out)
    return cells, bool(left_out)


def output(*tables: Table, as_markdown: bool) -> None:
    """Print tables."""
    for table in tables:
        if as_markdown:
            print(table.markdown())
        else:
            table.print()


def say(text: str) -> None:
    """Print a message on stderr, apart from results."""
    print(f"attnlib: {text}", file=sys.stderr, flush=True)


def complain(lines: Sequence[str]) -> None:
    """Print error messages on stderr, one per line."""
    for line in lines:
        say(line)
