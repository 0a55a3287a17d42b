"""``attnlib costs``, ``attnlib encodings`` and others: print a table of ``attnlib.show.registry`` of saved runs."""

import argparse
from typing import Any

from attnlib.commands.options import USAGE, add_runs, cells_of, complain, output
from attnlib.errors import message
from attnlib.show.registry import TABLES


def declare(commands: Any) -> None:
    """Add a subcommand for each table."""
    for name, (_, text) in TABLES.items():
        command = commands.add_parser(name, help=text.replace("%", "%%"), epilog=f"example: attnlib {name} 0003")
        add_runs(command)
        command.set_defaults(run=run, table=name)


def run(options: argparse.Namespace) -> int:
    """Print the table; return 4 if it is empty or a file could not be read."""
    cells, left_out = cells_of(options)
    if cells is None:
        return USAGE
    make, _ = TABLES[options.table]
    tables = [table for table in make(cells) if table.rows]
    if not tables:
        complain([message(f"these runs have no data for the table {options.table}")])
        return USAGE
    output(*tables, as_markdown=options.markdown)
    return USAGE if left_out else 0
