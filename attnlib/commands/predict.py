"""``attnlib predict``: what one step should cost here, before any is run."""

import argparse
import json
from typing import TYPE_CHECKING, Any

import numpy as np

from attnlib.cases.text import fields_of
from attnlib.commands.options import add_markdown, count, output
from attnlib.runs.find import newest
from attnlib.runs.load import BadRun, load
from attnlib.show.prediction import predicted
from attnlib.show.units import percent

if TYPE_CHECKING:
    from attnlib.cases.case import Case


def declare(commands: Any) -> None:
    """Add the command and its options."""
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
    """Predict, then show it."""
    from attnlib.cases.case import timed_case
    from attnlib.measure.environment import use_threads
    from attnlib.predict.forecast import forecast

    case = timed_case(fields_of(options.fields) if options.fields else {})
    use_threads(options.threads)
    found = forecast(case)
    if options.json:
        print(json.dumps(found, indent=2))
        return 0
    reached = share_reached(case) if found.get("floor_s") else None
    for table in predicted(found, reached):
        output(table, as_markdown=options.markdown)
    return 0


def share_reached(case: "Case") -> str | None:
    """Return in words which share of the ceilings like cases of this machine's newest run reached; None without any."""
    from attnlib.measure.environment import node

    path = newest()
    try:
        run = None if path is None else load(path)
    except BadRun:  # it says nothing; whoever reads it is told
        return None
    if run is None or run.data["machine_info"].get("node") != node():
        return None
    like = [
        cell
        for cell in run.cells
        if cell.case.phase == case.phase
        and cell.case.device.partition(":")[0] == case.device.partition(":")[0]
        and cell.fields.get("dtype") == case.dtype
    ]
    shares = [share for cell in like if (share := cell.share_of_ceiling)]
    return (
        f"{percent(float(np.median(shares)))} of their ceilings: median of {len(shares)} cases in {run.name}"
        if shares
        else None
    )
