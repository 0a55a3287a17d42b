"""``attnlib scaling``: how time grows with length and with depth."""

import argparse
from typing import Any

from attnlib.commands.options import add_runs, cells_of, output
from attnlib.show.scaling import by_depth, by_length


def declare(commands: Any) -> None:
    """Its options."""
    command = commands.add_parser(
        "scaling",
        epilog="example: attnlib scaling results/reference/*.json --phase forward",
        help="how time grows: t = a + b T + c T^2 and t = a + b L, with intervals over the runs",
        description="Brackets are 95 %% intervals over the runs; a, b and c are not negative.",
    )
    command.add_argument("--phase", default="train_step", help="forward, backward, train_step, ... (%(default)s)")
    add_runs(command)
    command.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Fit, then show both tables."""
    cells, left_out = cells_of(options)
    if cells is None:
        return 2
    if options.phase not in (phases := cells.axis("phase")):
        raise ValueError(f"no phase {options.phase!r} in these runs; choose from {', '.join(phases)}")
    found = [table for make in (by_length, by_depth) if (table := make(cells, phase=options.phase)).rows]
    if not found:
        raise ValueError(f"no {options.phase} at three lengths or three depths")
    for table in found:
        output(table, as_markdown=options.markdown)
    return 2 if left_out else 0
