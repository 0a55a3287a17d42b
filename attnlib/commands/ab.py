"""``attnlib ab``: decide whether a change made it slower."""

import argparse
import json
import sys
from contextlib import ExitStack
from itertools import product
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
from attnlib.errors import message
from attnlib.live.ab import SUITE, Contender, Match, suite_of
from attnlib.live.checkouts import checked_out
from attnlib.live.process import checkout_here
from attnlib.show.comparison import contested


def declare(commands: Any) -> None:
    """Add the command and its options."""
    command = commands.add_parser(
        "ab",
        epilog="example: attnlib ab attention=math attention=sdpa --case seq_len=256 --budget 60",
        help="decide whether a change made it slower: two live workers take turns",
        description="Compares two checkouts (--base, --new), two interpreters, or two sets of fields: "
        "attnlib ab attention=math attention=sdpa. With TESTS, two checkouts of any repository whose tests use the "
        f"fixture beside: attnlib ab --base main tests/bench/test_mine.py. {CODES}",
    )
    text = "the base's and the new side's own fields; or tests, as pytest takes them: files, folders, ids"
    command.add_argument("fields", nargs="*", metavar="FIELDS|TESTS", help=text)
    text = "checkout from {} the change, or a git ref; by default the current folder, or else the installed package"
    command.add_argument("--base", type=Path, metavar="DIR|REF", help=text.format("before"))
    command.add_argument("--new", type=Path, metavar="DIR|REF", help=text.format("after"))
    command.add_argument("--base-python", default=sys.executable, metavar="PYTHON", help="interpreter of the base")
    command.add_argument("--new-python", default=sys.executable, metavar="PYTHON", help="interpreter of the new side")
    command.add_argument(
        "--case",
        action="append",
        metavar="FIELDS",
        help="a case, as phase=train_step,seq_len=512,pe=rotary; repeat it for a suite; four cases by default",
    )
    command.add_argument(
        "--budget",
        type=positive,
        default=300.0,
        metavar="SECONDS",
        help="seconds in all: no pair of workers is begun that would not fit (%(default)s)",
    )
    command.add_argument(
        "--denormals", choices=("flush", "keep"), default="flush", help="set subnormal numbers to zero, or keep them"
    )
    command.add_argument(
        "--threads", type=count, metavar="N", help="torch's intra-op threads; one core stays free by default"
    )
    add_import_path(command)
    add_verdict_options(command, 0.02, "smallest change that matters (%(default)s)")
    command.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Play the match, then show it.

    Raises:
        ValueError: fields that are no case, **or** a process in which nothing is measured, see ``refuse_changed``.
    """
    from attnlib.cases.case import timed_case
    from attnlib.measure.environment import SET_BY_TESTS, refuse_changed

    import_from(options)
    tests = tuple(options.fields) if any(map(names_tests, options.fields)) else ()
    if tests and options.case:
        raise ValueError(message("ab takes tests or --case, not both"))
    if not tests and len(options.fields) not in (0, 2):
        raise ValueError(message(f"ab takes no fields, or those of base and of new, not {len(options.fields)}"))
    own = [{}, {}] if tests or not options.fields else [fields_of(text) for text in options.fields]
    cases = [fields_of(text) for text in options.case] if options.case else SUITE
    refuse_changed(options.threads, SET_BY_TESTS if tests else ())
    if not tests and options.base is options.new is None:  # what this checkout refuses, another one may know
        for case, fields in product(cases, own):
            timed_case(case | fields)
    here = Path() if tests else checkout_here()
    with ExitStack() as stack:
        base, new = (
            Contender(stack.enter_context(checked_out(place or here)), python, fields, tests=tests)
            for place, python, fields in zip(
                (options.base, options.new), (options.base_python, options.new_python), own, strict=True
            )
        )
        match = Match(
            (base, new),
            suite_of((base, new), options.denormals, options.threads) if tests else cases,
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


def names_tests(text: str) -> bool:
    """Return True for what names tests and no fields: a file or folder, or a test's id."""
    return "::" in text or text.endswith(".py") or ("=" not in text and Path(text).exists())
