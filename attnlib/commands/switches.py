"""``attnlib switches``: measure the effect of backend, checkpointing, dtype, threads, compiler and allocator."""

import argparse
import sys
from typing import Any

from attnlib.cases.text import fields_of
from attnlib.commands.options import add_import_path, add_markdown, count, import_from, output, say
from attnlib.live.process import checkout_here
from attnlib.live.switches import switches
from attnlib.show.switches import worths


def declare(commands: Any) -> None:
    """Add the command and its options."""
    command = commands.add_parser(
        "switches",
        epilog="example: attnlib switches seq_len=512,depth=8",
        help="measure what each switch changes in time and memory against a base",
        description="Takes about half a minute per switch, more if steps are slow.",
    )
    command.add_argument(
        "fields", nargs="?", default="phase=train_step", metavar="FIELDS", help="fields of the base (%(default)s)"
    )
    command.add_argument("--threads", type=count, metavar="N", help="torch's intra-op threads of the base")
    add_import_path(command)
    add_markdown(command)
    command.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Measure every switch and print a table.

    Raises:
        ValueError: the base cannot be measured, **or** nothing is in this process, see ``refuse_changed``.
    """
    from attnlib.cases.case import timed_case
    from attnlib.measure.environment import refuse_changed

    import_from(options)
    refuse_changed(options.threads)  # before any worker starts
    timed_case(fields_of(options.fields))
    base, *rest = switches(checkout_here(), sys.executable, fields_of(options.fields), options.threads, say)
    if base.status != "ok":
        raise ValueError(base.status)
    output(worths([base, *rest], options.fields), as_markdown=options.markdown)
    return 0
