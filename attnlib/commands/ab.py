"""``attnlib ab``: decide whether a change made it slower."""

import argparse
import json
import sys
from pathlib import Path
from typing import Any

from attnlib.cases.text import fields_of
from attnlib.commands.options import (
    CODES,
    add_import_path,
    add_verdict_options,
    count,
    import_from,
    output,
    positive,
    say,
)
from attnlib.live.ab import SUITE, Contender, Match
from attnlib.live.process import checkout_here
from attnlib.show.comparison import contested


def declare(commands: Any) -> None:
    """Its options."""
    command = commands.add_parser(
        "ab",
        epilog="example: attnlib ab attention=math attention=sdpa --case seq_len=256 --budget 60",
        help="decide whether a change made it slower: two live workers take turns",
        description="Two checkouts (--base, --new), two interpreters, or two sets of fields: "
        f"attnlib ab attention=math attention=sdpa. {CODES}",
    )
    command.add_argument("fields", nargs="*", metavar="FIELDS", help="the base's and the new side's own fields")
    text = "checkout {}; by default the current folder, or the installed package where that is none"
    command.add_argument("--base", type=Path, metavar="DIR", help=text.format("before"))
    command.add_argument("--new", type=Path, metavar="DIR", help=text.format("after"))
    command.add_argument("--base-python", default=sys.executable, metavar="PYTHON", help="interpreter before")
    command.add_argument("--new-python", default=sys.executable, metavar="PYTHON", help="interpreter after")
    command.add_argument(
        "--case",
        action="append",
        metavar="FIELDS",
        help="a case, as phase=train_step,seq_len=512,pe=rotary; repeat it for a suite; four cases by default",
    )
    command.add_argument(
        "--budget", type=positive, default=300.0, metavar="SECONDS", help="no pair that would not fit (%(default)s)"
    )
    command.add_argument("--denormals", choices=("flush", "keep"), default="flush", help="subnormal numbers")
    command.add_argument(
        "--threads", type=count, metavar="N", help="torch's intra-op threads; one core stays free by default"
    )
    add_import_path(command)
    add_verdict_options(command, 0.02, "smallest change that matters (%(default)s)")
    command.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Play the match, then show it."""
    import_from(options)
    if len(options.fields) not in (0, 2):
        raise ValueError(f"ab takes no fields or those of base and new, not {len(options.fields)}")
    own = [fields_of(text) for text in options.fields] or [{}, {}]
    match = Match(
        (
            Contender((options.base or checkout_here()).resolve(), options.base_python, own[0]),
            Contender((options.new or checkout_here()).resolve(), options.new_python, own[1]),
        ),
        [fields_of(text) for text in options.case] if options.case else SUITE,
        options.threshold,
        denormals=options.denormals,
        threads=options.threads,
        say=say,
    )
    match.play(options.budget)
    if options.json:
        print(json.dumps(match.as_json(), indent=2))
    else:
        output(contested(match), as_markdown=options.markdown)
    return match.exit_code(allow_undecided=options.allow_undecided)
