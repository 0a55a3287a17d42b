"""``attnlib``, or ``python -m attnlib.commands``: read the command line and run a subcommand."""

import argparse
import sys
from collections.abc import Sequence

from attnlib.commands import (
    ab,
    check,
    compare,
    completion,
    draw,
    export,
    frontier,
    listing,
    merge,
    predict,
    publish,
    repeat,
    scaling,
    sweep,
    switches,
    tables,
    trust,
)
from attnlib.commands.options import complain
from attnlib.runs.text import forgive

COMMANDS = (
    *(listing, check, predict, frontier, switches, ab, compare, repeat, sweep, merge),
    *(tables, draw, scaling, export, publish, trust, completion),
)
HANDING_ON = (repeat.NAME, sweep.NAME)


def parsed(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """The options of a command line; what ``repeat`` and ``sweep`` hand on to pytest is their ``rest``."""
    parser = argparse.ArgumentParser(
        prog="attnlib",
        description="What stacks of self-attention cost, compared.",
        epilog="example: attnlib costs results/reference/*.json; attnlib COMMAND --help shows one of each",
    )
    commands = parser.add_subparsers(dest="command", required=True)
    for module in COMMANDS:
        module.declare(commands)
    options, rest = parser.parse_known_args(argv)
    if rest and options.command not in HANDING_ON:
        parser.error(f"unrecognized arguments: {' '.join(rest)}")
    options.rest, options.parser = [word for word in rest if word != "--"], parser
    return options


def main(argv: Sequence[str] | None = None) -> int:
    """Run a subcommand; returns its exit code, 2 where nothing could be read, compared or decided."""
    forgive()
    options = parsed(argv)
    try:
        code: int = options.run(options)
    except ValueError as error:
        complain([str(error)])
        return 2
    except KeyboardInterrupt:
        complain(["interrupted"])
        return 130
    return code


if __name__ == "__main__":
    sys.exit(main())
