"""``attnlib frontier``: print the longest sequences and deepest stacks that fit into memory."""

import argparse
import json
from pathlib import Path
from typing import Any

from attnlib.cases.text import fields_of
from attnlib.commands.options import add_import_path, add_markdown, count, counts, import_from, memory, output
from attnlib.runs.load import encoding_label
from attnlib.runs.text import short_names
from attnlib.show.frontier import far

DEPTHS, SEQ_LENS = [2, 4, 8, 16, 32, 64], [512, 1024, 2048, 4096, 8192, 16384]


def declare(commands: Any) -> None:
    """Add the command and its options."""
    command = commands.add_parser(
        "frontier",
        epilog="example: attnlib frontier checkpoint=true,batch_size=1 --memory 24GiB --pe none,t5",
        help="the longest sequence at each depth, and the deepest stack at each length, that fit into memory",
        description="Memory is the predicted peak of torch's allocator; the process itself needs more.",
    )
    text = "fields of the stack, such as checkpoint=true,batch_size=1,d_model=512,n_heads=8"
    command.add_argument("fields", nargs="?", metavar="FIELDS", help=text)
    command.add_argument(
        "--memory", type=memory, required=True, metavar="BYTES", help="memory to fit into, such as 24GiB"
    )
    command.add_argument(
        "--depths", type=counts, default=DEPTHS, metavar="L,L,...", help="find the longest T at each depth"
    )
    command.add_argument(
        "--seq-lens", type=counts, default=SEQ_LENS, metavar="T,T,...", help="find the largest L at each length"
    )
    command.add_argument("--pe", type=lambda text: text.split(","), metavar="PE,PE,...", help="positional encodings")
    text = "tokens per step instead of a batch size: B = max(1, tokens // T)"
    command.add_argument("--tokens-per-batch", type=count, metavar="N", help=text)
    command.add_argument("--threads", type=count, metavar="N", help="torch's intra-op threads")
    command.add_argument("--out", type=Path, metavar="FOLDER", help="draw frontier.png and frontier.svg there")
    add_import_path(command)
    command.add_argument("--json", action="store_true", help="print JSON")
    add_markdown(command)
    command.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Search the frontier of each encoding and print it."""
    from attnlib.cases.case import timed_case
    from attnlib.measure.environment import refuse_changed, set_threads
    from attnlib.predict.frontier import frontier

    import_from(options)
    fields = fields_of(options.fields) if options.fields else {}
    cases = {pe: timed_case(fields | {"pe": pe}) for pe in options.pe or [fields.get("pe", "none")]}
    refuse_changed(options.threads)
    set_threads(options.threads)
    limits = (options.memory, options.depths, options.seq_lens, options.tokens_per_batch)
    model = fields.get("model", "stack")
    short = short_names([*cases, model])
    shown = {pe: encoding_label(short[model], short[pe]) for pe in cases}
    frontiers = {shown[pe]: frontier(case, *limits) for pe, case in cases.items()}
    if options.json:
        print(json.dumps({"memory": options.memory, "frontier": frontiers}, indent=2))
    else:
        output(*far(frontiers, options.memory), as_markdown=options.markdown)
    if options.out:
        from attnlib.show.figures.frontier import draw_frontier  # matplotlib takes a second

        print(draw_frontier(frontiers, options.memory, options.out))
    return 0
