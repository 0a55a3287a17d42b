"""Entry point of ``attnlib``, also ``python -m attnlib.commands``: parse the command line and run a subcommand."""

import argparse
import errno
import io
import os
import signal
import sys
import traceback
from collections.abc import Sequence
from importlib import import_module
from typing import Any, NoReturn

from attnlib.commands.options import FAILURE, OUTPUT, USAGE, complain
from attnlib.errors import message
from attnlib.runs.text import forgive

MODULES = (
    *("listing", "check", "predict", "frontier", "theory", "switches", "ab", "compare", "repeat", "sweep", "merge"),
    *("tables", "machines", "draw", "scaling", "export", "publish", "methods", "share", "schema"),
    *("trust", "completion"),
)
COMMANDS = [import_module(f"attnlib.commands.{name}") for name in MODULES]
PASS_ON = ("repeat", "sweep")  # give unknown arguments to pytest


class Parser(argparse.ArgumentParser):
    """An ``ArgumentParser`` that exits with 4, as pytest does: 2 is a verdict."""

    def error(self, message: str) -> NoReturn:
        """Print the usage and the message, and exit."""
        self.print_usage(sys.stderr)
        self.exit(USAGE, f"{self.prog}: error: {message}\n")


class Output(io.FileIO):
    """A file that keeps the first error of its writes and writes nothing after it, so that the output has no hole.

    A reader that leaves early does not change the exit code.
    """

    failed: OSError | None = None

    def write(self, data: Any) -> int:
        """Write as much as the file takes; from the first error on act as if all were written."""
        if self.failed is None:
            try:
                if (written := super().write(data)) is not None:
                    return written
                self.failed = BlockingIOError(errno.EAGAIN, "a pipe that does not block is full")
            except OSError as error:
                self.failed = error
        return len(data)


def parsed(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """Return the parsed command line; arguments for pytest, of ``repeat`` and ``sweep``, are in ``rest``."""
    parser = Parser(
        prog="attnlib",
        description="Measure, predict and compare the cost of stacks of self-attention layers.",
        epilog="example: attnlib costs results/reference/*.json; attnlib COMMAND --help has an example of each",
    )
    commands = parser.add_subparsers(dest="command", required=True)
    for module in COMMANDS:
        module.declare(commands)
    options, rest = parser.parse_known_args(argv)
    if rest and options.command not in PASS_ON:
        parser.error(message(f"unrecognized arguments: {' '.join(rest)}"))
    options.rest, options.parser = [word for word in rest if word != "--"], parser
    return options


def check_folder() -> None:
    """Refuse to run in a folder that was deleted, where MKL ends a process that imports torch with exit code 2.

    Raises:
        ValueError: it was.
    """
    try:
        os.getcwd()  # noqa: PTH109
    except FileNotFoundError:
        raise ValueError(message("the current folder was deleted", do="start in another one")) from None


def main(argv: Sequence[str] | None = None) -> int:
    """Run a subcommand and return its exit code; ``docs/ci.md`` has a table of them."""
    forgive()
    try:
        options = parsed(argv)
        check_folder()
        return int(options.run(options))
    except ValueError as error:
        complain([str(error)])
        return USAGE
    except OSError as error:
        complain([str(error)])
        return OUTPUT
    except KeyboardInterrupt:
        complain(["interrupted"])
        return 128 + signal.SIGINT
    except Exception:  # noqa: BLE001 - Python would exit with 1, which says that something became slower
        traceback.print_exc()
        return FAILURE


def entry(argv: Sequence[str] | None = None) -> NoReturn:
    """Run ``main`` as this process, and exit with its code; with 74 if its output cannot be written."""
    outputs = []
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)  # None where it was closed before Python began
        outputs.append(raw := Output(os.devnull if stream is None else os.dup(stream.fileno()), "w"))
        text = io.TextIOWrapper(io.BufferedWriter(raw), "utf-8" if stream is None else stream.encoding)
        text.reconfigure(line_buffering=raw.isatty())
        setattr(sys, name, text)
    code: int | str | None
    try:
        code = main(argv)
    except SystemExit as end:  # of argparse, after a help or wrong options
        code = end.code
    sys.stdout.flush()
    sys.stderr.flush()
    failed = [raw.failed for raw in outputs if raw.failed and not isinstance(raw.failed, BrokenPipeError)]
    if failed:
        complain([message(f"cannot write the output: {failed[0].strerror}")])
    sys.exit(OUTPUT if failed else code)


if __name__ == "__main__":
    entry()
