"""``attnlib predict``: what one step should cost here, before any is run."""

import argparse
import json
from typing import Any

from attnlib.cases.text import fields_of
from attnlib.commands.options import add_markdown, asked, count, output
from attnlib.show.prediction import predicted


def declare(commands: Any) -> None:
    """Its options."""
    command = commands.add_parser(
        "predict",
        epilog="example: attnlib predict seq_len=512,depth=8,pe=rotary",
        help="what a step should cost: parameters, FLOPs, peak memory, time",
        description="Nothing is allocated but what reads this machine's ceilings. A device that is not here is "
        "predicted without a time: attnlib predict device=cuda,dtype=bfloat16,seq_len=4096.",
    )
    text = "a case, as phase=train_step,seq_len=512,depth=8,pe=rotary; what is left out is the default"
    command.add_argument("fields", nargs="?", metavar="FIELDS", help=text)
    command.add_argument("--threads", type=count, metavar="N", help="torch's intra-op threads")
    command.add_argument("--json", action="store_true", help="print JSON")
    add_markdown(command)
    command.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Ask a worker, then show it."""
    (found,) = asked(options.threads, {"predict": fields_of(options.fields) if options.fields else {}})
    if options.json:
        print(json.dumps(found, indent=2))
        return 0
    for table in predicted(found):
        output(table, as_markdown=options.markdown)
    return 0
