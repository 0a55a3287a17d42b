"""``attnlib scaling``: fit the growth of time with sequence length and with depth."""

import argparse
from typing import Any

from attnlib.commands.options import USAGE, add_runs, cells_of, output
from attnlib.errors import message, shown
from attnlib.show.scaling import by_depth, by_length


def declare(commands: Any) -> None:
    """Add the command and its options."""
    command = commands.add_parser(
        "scaling",
        epilog="example: attnlib scaling results/reference/*.json --phase forward",
        help="fit the growth of time with length, t = a + b T + c T^2, and with depth, t = a + b L",
        description="Brackets are 95 % intervals over the runs; a, b and c are constrained to be at least 0.",
    )
    command.add_argument("--phase", default="train_step", help="forward, backward, train_step, ... (%(default)s)")
    add_runs(command)
    command.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Fit and print both tables; return 4 if a file could not be read."""
    cells, left_out = cells_of(options)
    if cells is None:
        return USAGE
    if options.phase not in (phases := cells.axis("phase")):
        raise ValueError(message(f"no phase {shown(options.phase)} in these runs", choices=phases))
    tables = [table for make in (by_length, by_depth) if (table := make(cells, phase=options.phase)).rows]
    if not tables:
        wrong = f"no {options.phase} at three lengths or three depths in these runs, which a fit needs"
        raise ValueError(message(wrong, do="name other runs"))
    output(*tables, as_markdown=options.markdown)
    return USAGE if left_out else 0
