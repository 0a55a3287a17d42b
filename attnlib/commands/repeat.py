"""``attnlib repeat``: save several runs from fresh processes, one after another."""

import argparse
from typing import Any

from attnlib.commands.options import count
from attnlib.live.repeat import repeat

NAME = "repeat"


def declare(commands: Any) -> None:
    """Its options; any other goes to pytest."""
    command = commands.add_parser(
        NAME,
        allow_abbrev=False,
        epilog="example: attnlib repeat 6 --preset smoke --run-name before",
        help="save several runs from fresh processes, one after another",
        description="Other arguments go to pytest, as attnlib repeat 6 --preset smoke --run-name before",
    )
    command.add_argument("count", type=count, metavar="N", help="how many")
    command.add_argument(
        "--order-seed", type=count, default=1, metavar="SEED", help="of the first run; it counts up (%(default)s)"
    )
    command.add_argument(
        "--run-name", "--benchmark-save", metavar="NAME", help="save every run under this name, each with its number"
    )
    command.add_argument("--benchmark-json", help=argparse.SUPPRESS)
    command.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Repeat, then say what was saved."""
    if options.benchmark_json is not None:
        raise ValueError("--benchmark-json names one file for all runs; use --run-name NAME or nothing")
    code, saved = repeat(options.count, options.rest, order_seed=options.order_seed, name=options.run_name)
    for path in saved:
        print(path)
    return code
