"""``attnlib frontier``: how long and how deep a stack may be before memory ends."""

import argparse
import json
from pathlib import Path
from typing import Any

from attnlib.cases.text import fields_of
from attnlib.commands.options import add_markdown, asked, count, counts, memory, output
from attnlib.show.frontier import far, proof

DEPTHS, SEQ_LENS = [2, 4, 8, 16, 32, 64], [512, 1024, 2048, 4096, 8192, 16384]


def declare(commands: Any) -> None:
    """Its options."""
    command = commands.add_parser(
        "frontier",
        epilog="example: attnlib frontier checkpoint=true,batch_size=1 --memory 24GiB --pe none,t5",
        help="the longest sequence at each depth, and the deepest stack at each length, within some memory",
        description="By predicted peak of torch's allocator; the process itself comes on top.",
    )
    text = "fields of the stack, as checkpoint=true,batch_size=1,d_model=512,n_heads=8"
    command.add_argument("fields", nargs="?", metavar="FIELDS", help=text)
    command.add_argument("--memory", type=memory, required=True, metavar="BYTES", help="as 24GiB")
    command.add_argument("--depths", type=counts, default=DEPTHS, metavar="L,L,...", help="numbers of layers")
    command.add_argument("--seq-lens", type=counts, default=SEQ_LENS, metavar="T,T,...", help="sequence lengths")
    command.add_argument("--pe", type=lambda text: text.split(","), metavar="PE,PE,...", help="encodings")
    text = "tokens a step instead of a batch size: B = max(1, tokens // T)"
    command.add_argument("--tokens-per-batch", type=count, metavar="N", help=text)
    command.add_argument("--threads", type=count, metavar="N", help="torch's intra-op threads")
    text = "run a step just inside each longest point, and weigh one just outside, which is refused"
    command.add_argument("--verify", action="store_true", help=text)
    command.add_argument("--out", type=Path, metavar="FOLDER", help="draw frontier.png and frontier.svg there")
    command.add_argument("--json", action="store_true", help="print JSON")
    add_markdown(command)
    command.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Ask a worker, then show it; 1 where a point was not as predicted."""
    fields = fields_of(options.fields) if options.fields else {}
    encodings = options.pe or [fields.get("pe", "none")]
    limits = {"memory": options.memory, "depths": options.depths, "seq_lens": options.seq_lens}
    requests = [{"frontier": fields | {"pe": pe}, "tokens": options.tokens_per_batch} | limits for pe in encodings]
    found = dict(zip(encodings, asked(options.threads, *requests), strict=True))
    verified, code = {}, 0
    if options.verify:
        request = {"verify": fields, "memory": options.memory, "tokens": options.tokens_per_batch}
        points = [{"pe": pe, **point} for pe in encodings for point in found[pe]["longest"]]
        (verified,) = asked(options.threads, request | {"points": points})
        code = 0 if all(point["as_predicted"] for point in verified["points"]) else 1
    if options.json:
        print(json.dumps({"memory": options.memory, "frontier": found} | verified, indent=2))
    else:
        for table in [*far(found, options.memory), *([proof(verified["points"], options.memory)] if verified else [])]:
            output(table, as_markdown=options.markdown)
    if options.out:
        from attnlib.show.figures.frontier import draw_frontier  # matplotlib takes a second

        print(draw_frontier(found, options.memory, options.out))
    return code
