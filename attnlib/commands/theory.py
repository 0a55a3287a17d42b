"""``attnlib theory``: closed forms, a recursion of moments and measured stacks, side by side."""

import argparse
from typing import Any

from attnlib.commands.options import add_markdown, output
from attnlib.show.agreement import agreement_tables


def declare(commands: Any) -> None:
    """Add the command and its options."""
    command = commands.add_parser(
        "theory",
        help="closed forms of gradients and signals beside an independent recursion and measured stacks",
        description="Measures eight seeds of each stack in float64; takes about a minute.",
        epilog="example: attnlib theory",
    )
    add_markdown(command)
    command.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Measure and print the tables; 0 whether or not they agree."""
    from attnlib.gradients.agreement import agreements, temperatures

    output(*agreement_tables(list(agreements()), list(temperatures())), as_markdown=options.markdown)
    return 0
