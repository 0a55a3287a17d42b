"""``attnlib list``: the names that options and fields take, each with what it is and where it comes from."""

import argparse
from typing import Any

from attnlib.commands.options import add_markdown, asked, output
from attnlib.show.table import Column, Table

COLUMNS = {name: Column() for name in ("name", "what it is", "source")}


def declare(commands: Any) -> None:
    """Its options."""
    command = commands.add_parser(
        "list",
        help="encodings, blocks, attentions, initialisations and presets, a line each with its source",
        epilog="example: attnlib list pe",
    )
    command.add_argument("kind", nargs="?", metavar="KIND", help="one kind: pe, block, attention, init or preset")
    add_markdown(command)
    command.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Ask a worker, since the registries are with the models, then show a table a kind."""
    (found,) = asked(None, {"list": True})
    if options.kind not in (None, *found):
        raise ValueError(f"unknown kind {options.kind!r}; choose from {', '.join(found)}")
    for kind, entries in found.items():
        if options.kind in (None, kind):
            rows = [dict(zip(COLUMNS, entry, strict=True)) for entry in entries]
            output(Table(COLUMNS, rows, before=[kind], after=[""]), as_markdown=options.markdown)
    return 0
