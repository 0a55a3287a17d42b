"""``attnlib completion``: a script that completes ``attnlib`` in a shell; nothing is paid for it at any other time."""

import argparse
from typing import Any


def declare(commands: Any) -> None:
    """Its options."""
    command = commands.add_parser(
        "completion",
        help="print a script that completes attnlib's subcommands and options",
        epilog='example: eval "$(attnlib completion bash)"',
    )
    command.add_argument("shell", choices=("bash", "zsh", "tcsh"), help="your shell")
    command.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Print the script."""
    import shtab

    print(shtab.complete(options.parser, options.shell))
    return 0
