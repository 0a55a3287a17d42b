"""Entry point of ``attnlib``, also ``python -m attnlib.commands``: parse the command line and run a subcommand."""

import argparse
import sys
from collections.abc import Sequence
from importlib import import_module

from attnlib.commands.options import complain
from attnlib.runs.text import forgive

MODULES = (
    *("listing", "check", "predict", "frontier", "switches", "ab", "compare", "repeat", "sweep", "merge"),
    *("tables", "draw", "scaling", "export", "publish", "trust", "completion"),
)
COMMANDS = [import_module(f"attnlib.commands.{name}") for name in MODULES]
PASS_ON = ("repeat", "sweep")  # give unknown arguments to pytest


def parsed(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """Return the parsed command line; arguments for pytest, of ``repeat`` and ``sweep``, are in ``rest``."""
    parser = argparse.ArgumentParser(
        prog="attnlib",
        description="Measure, predict and compare the cost of stacks of self-attention layers.",
        epilog="example: attnlib costs results/reference/*.json; attnlib COMMAND --help has an example of each",
    )
    commands = parser.add_subparsers(dest="command", required=True)
    for module in COMMANDS:
        module.declare(commands)
    options, rest = parser.parse_known_args(argv)
    if rest and options.command not in PASS_ON:
        parser.error(f"unrecognized arguments: {' '.join(rest)}")
    options.rest, options.parser = [word for word in rest if word != "--"], parser
    return options


def main(argv: Sequence[str] | None = None) -> int:
    """Run a subcommand and return its exit code: 2 if nothing could be read, compared or decided."""
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
