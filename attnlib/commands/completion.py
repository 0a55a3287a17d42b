"""``attnlib completion``: print a script for tab completion of ``attnlib`` in a shell."""

import argparse
from typing import Any


def declare(commands: Any) -> None:
    """Add the command and its options."""
    command = commands.add_parser(
        "completion",
        help="print a shell script for tab completion of subcommands and options",
        epilog='example: eval "$(attnlib completion bash)"',
    )
    command.add_argument("shell", choices=("bash", "zsh", "tcsh"), help="your shell")
    command.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Print the script."""
    import shtab  # here, so that no other command waits for it

    print(shtab.complete(options.parser, options.shell))
    return 0
