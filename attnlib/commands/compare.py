"""``attnlib compare``: compare saved runs from before and after a change."""

import argparse
import json
from pathlib import Path
from typing import Any

from attnlib.commands.options import CODES, USAGE, add_verdict_options, complain, output
from attnlib.compare.saved import compare
from attnlib.errors import message
from attnlib.runs.find import load_all
from attnlib.show.comparison import compared


def declare(commands: Any) -> None:
    """Add the command and its options."""
    command = commands.add_parser(
        "compare",
        help="compare saved runs from before and after a change",
        description=f"Judges new / base of each phase and case; times and ratios need six runs a side. {CODES}",
        epilog="example: attnlib compare --base before --new after",
    )
    text = "saved runs: files, run names or numbers"
    command.add_argument(
        "--base", nargs="+", type=Path, required=True, metavar="RUN", help=f"{text}, from before the change"
    )
    command.add_argument(
        "--new", nargs="+", type=Path, required=True, metavar="RUN", help=f"{text}, from after the change"
    )
    command.add_argument(
        "--force", action="store_true", help="compare even if the machines, their settings or their speed differ"
    )
    command.add_argument(
        "--allow-missing", action="store_true", help="exit 0 even if the new runs lack cases of the base"
    )
    add_verdict_options(command, None, "smallest change that matters (0.05 on a CPU, else 0.02)")
    command.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Compare the runs, print the result, and return the exit code."""
    base, bad = load_all(options.base)
    new, worse = load_all(options.new)
    complain(bad + worse)
    if not base or not new:
        raise ValueError(message("nothing to compare: --base and --new each need a run that can be read"))
    comparison = compare(base, new, threshold=options.threshold, force=options.force)
    if options.json:
        print(json.dumps(comparison.as_json(), indent=2))
    else:
        output(compared(comparison), as_markdown=options.markdown)
    code = comparison.exit_code(allow_undecided=options.allow_undecided, allow_missing=options.allow_missing)
    return code or (USAGE if bad or worse else 0)
