"""``attnlib encodings``, ``attnlib findings``: the tables that ``attnlib.show`` makes of saved runs, by name."""

import argparse
from typing import Any

from attnlib.commands.options import add_runs, cells_of, complain, output
from attnlib.show.registry import TABLES


def declare(commands: Any) -> None:
    """A subcommand a table."""
    for name, (_, text) in TABLES.items():
        command = commands.add_parser(name, help=text.replace("%", "%%"), epilog=f"example: attnlib {name} 0003")
        add_runs(command)
        command.set_defaults(run=run, table=name)


def run(options: argparse.Namespace) -> int:
    """Make the table and show it."""
    cells, left_out = cells_of(options)
    if cells is None:
        return 2
    make, _ = TABLES[options.table]
    found = [table for table in make(cells) if table.rows]
    if not found:
        complain([f"nothing for the table of {options.table}"])
        return 2
    for table in found:
        output(table, as_markdown=options.markdown)
    return 2 if left_out else 0
