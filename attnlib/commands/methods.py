"""``attnlib methods``: print a paragraph on how saved runs were measured, for a paper."""

import argparse
import textwrap
from typing import Any

from attnlib.commands.options import USAGE, add_names, cells_of
from attnlib.show.methods import methods

WIDTH = 110  # characters of a line


def declare(commands: Any) -> None:
    """Add the command and its options."""
    command = commands.add_parser(
        "methods",
        help="a paragraph on how saved runs were measured, for the methods section of a paper",
        description="Each fact comes from the runs: versions, commit, machine, stacks, visits, disturbances, memory.",
        epilog="example: attnlib methods results/reference/*.json",
    )
    add_names(command, "saved runs of one machine (default: the newest)")
    command.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Print the paragraph; return 4 if a file could not be read."""
    cells, left_out = cells_of(options)
    if cells is None:
        return USAGE
    print(textwrap.fill(methods(cells), WIDTH, break_long_words=False, break_on_hyphens=False))
    return USAGE if left_out else 0
