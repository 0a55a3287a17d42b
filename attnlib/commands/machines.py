"""``attnlib machines``: set saved runs of several machines side by side."""

import argparse
import json
from typing import Any

from attnlib.commands.options import USAGE, add_markdown, add_names, output, runs_of
from attnlib.compare.machines import as_json, machines
from attnlib.show.machines import machine_tables


def declare(commands: Any) -> None:
    """Add the command and its options."""
    command = commands.add_parser(
        "machines",
        help="saved runs of several machines side by side: ratios, what holds on all of them, seconds",
        description="Machines may differ in anything; the runs must be of the same kind of stack.",
        epilog="example: attnlib machines results/reference/*.json",
    )
    add_names(command, "saved runs of one machine or more (default: the newest)")
    command.add_argument("--json", action="store_true", help="print JSON")
    add_markdown(command)
    command.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Print the tables; return 4 if a file could not be read."""
    runs, left_out = runs_of(options.runs)
    found = machines(runs)
    tables = [table for own in machine_tables(found).values() for table in own]
    if options.json:
        print(json.dumps(as_json(found), indent=2))
    else:
        output(*tables, as_markdown=options.markdown)
    return USAGE if left_out else 0
