"""``attnlib compare``: set two groups of saved runs side by side."""

import argparse
import json
from pathlib import Path
from typing import Any

from attnlib.commands.options import CODES, add_verdict_options, complain, output
from attnlib.compare.saved import compare
from attnlib.runs.find import load_all
from attnlib.show.comparison import compared


def declare(commands: Any) -> None:
    """Its options."""
    command = commands.add_parser(
        "compare",
        help="set two groups of saved runs side by side",
        description=CODES,
        epilog="example: attnlib compare --base before --new after",
    )
    text = "saved runs: files, run names or numbers"
    command.add_argument("--base", nargs="+", type=Path, required=True, metavar="RUN", help=f"{text}, before")
    command.add_argument("--new", nargs="+", type=Path, required=True, metavar="RUN", help=f"{text}, after")
    command.add_argument("--force", action="store_true", help="decide although machines or settings differ")
    command.add_argument("--allow-missing", action="store_true", help="exit 0 although cases of the base are gone")
    add_verdict_options(command, None, "smallest change that matters (0.05 on a CPU, else 0.02)")
    command.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Compare, then show it."""
    base, bad = load_all(options.base)
    new, worse = load_all(options.new)
    complain(bad + worse)
    if not base or not new:
        raise ValueError("nothing to compare")
    comparison = compare(base, new, threshold=options.threshold, force=options.force)
    if options.json:
        print(json.dumps(comparison.as_json(), indent=2))
    else:
        output(compared(comparison), as_markdown=options.markdown)
    code = comparison.exit_code(allow_undecided=options.allow_undecided, allow_missing=options.allow_missing)
    return code or (2 if bad or worse else 0)
