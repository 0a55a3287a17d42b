"""``attnlib repeat``: measure and save several runs, each in a fresh process."""

import argparse
from typing import Any

from attnlib.commands.options import count, run_name
from attnlib.errors import message
from attnlib.live.repeat import repeat


def declare(commands: Any) -> None:
    """Add the command and its options; all other arguments go to pytest."""
    command = commands.add_parser(
        "repeat",
        allow_abbrev=False,
        epilog="example: attnlib repeat 6 --preset smoke --run-name before",
        help="measure and save several runs, each in a fresh process",
        description="All other arguments go to pytest. Exit code: the largest of pytest's, such as 0 no case failed, "
        "1 one did; 128 + N if signal N ended a run.",
    )
    command.add_argument("count", type=count, metavar="N", help="number of runs")
    text = "seed of the order of cases in the first run; each further run adds 1 (%(default)s)"
    command.add_argument("--order-seed", type=count, default=1, metavar="SEED", help=text)
    text = "save all runs under this name, with a number each"
    command.add_argument("--run-name", "--benchmark-save", type=run_name, metavar="NAME", help=text)
    command.add_argument("--benchmark-json", help=argparse.SUPPRESS)
    command.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Measure the runs and print the path of each."""
    if options.benchmark_json is not None:
        advice = "leave it out, or use --run-name NAME"
        raise ValueError(message("--benchmark-json names one file for all runs", do=advice))
    code, saved = repeat(options.count, options.rest, order_seed=options.order_seed, name=options.run_name)
    for path in saved:
        print(path)
    return code
