"""``attnlib schema``: print the JSON Schema of saved runs."""

import argparse
from typing import Any

from attnlib.runs.json_schema import as_text, json_schema


def declare(commands: Any) -> None:
    """Add the command and its options."""
    command = commands.add_parser(
        "schema",
        help="print the JSON Schema of saved runs",
        description="docs/run.schema.json is its output.",
        epilog="example: attnlib schema",
    )
    command.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:  # noqa: ARG001
    """Print the schema."""
    print(as_text(json_schema()))
    return 0
