"""``attnlib predict``: predict the cost of one step on this machine without running it."""

import argparse
import json
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import numpy as np

from attnlib.cases.text import fields_of
from attnlib.commands.options import add_import_path, add_markdown, count, import_from, output
from attnlib.errors import message
from attnlib.runs.find import newest_first
from attnlib.runs.load import BadRun, Run, load, processor
from attnlib.show.prediction import predicted
from attnlib.show.units import percent

if TYPE_CHECKING:
    from attnlib.cases.case import Case
    from attnlib.measure.ceilings import Rates


NEWEST = 5  # saved runs that are looked at, each of which takes a moment to read


def declare(commands: Any) -> None:
    """Add the command and its options."""
    command = commands.add_parser(
        "predict",
        epilog="example: attnlib predict seq_len=512,depth=8,pe=rotary",
        help="predict the parameters, FLOPs, peak memory and least time of a step",
        description="No model is allocated; only the machine's peak rates are measured. For a device that is not here "
        "no time is predicted: attnlib predict device=cuda,dtype=bfloat16,seq_len=4096.",
    )
    text = "a case, such as phase=train_step,seq_len=512,depth=8,pe=rotary; other fields have their defaults"
    command.add_argument("fields", nargs="?", metavar="FIELDS", help=text)
    command.add_argument("--threads", type=count, metavar="N", help="torch's intra-op threads")
    text = "a GPU that stands for device=cuda: its compute capability and version of cuDNN, such as 9.0,9.19"
    command.add_argument("--card", metavar="CAPABILITY,CUDNN", help=text)
    add_import_path(command)
    command.add_argument("--json", action="store_true", help="print JSON")
    add_markdown(command)
    command.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Predict the cost of a step and print it."""
    from attnlib.cases.case import timed_case
    from attnlib.measure.environment import refuse_changed, set_threads
    from attnlib.predict.choice import card_of
    from attnlib.predict.forecast import forecast

    import_from(options)
    case = timed_case(fields_of(options.fields) if options.fields else {})
    card = None if options.card is None else card_of(options.card)
    if card is not None and not case.device.startswith("cuda"):
        raise ValueError(message("--card needs a case with device=cuda", case.device))
    refuse_changed(options.threads)
    set_threads(options.threads)
    runs = runs_here()
    prediction = forecast(case, next((rates for run in runs if (rates := saved_rates(run, case))), None), card)
    if options.json:
        print(json.dumps(prediction, indent=2))
        return 0
    reached = share_reached(runs[0], case) if runs and prediction.get("floor_s") else None
    output(*predicted(prediction, reached), as_markdown=options.markdown)
    return 0


def runs_here() -> list[Run]:
    """Return those of the ``NEWEST`` saved runs that are of this machine, the newest first.

    Virtual machines may share a name and have unlike processors; a run that names none counts.
    """
    import cpuinfo  # as pytest-benchmark, which wrote what is compared and installs it

    from attnlib.measure.environment import node

    found = []
    for path in newest_first()[:NEWEST]:
        with suppress(BadRun):  # reported by the commands that read it
            found.append(load(path))
    alike = [run for run in found if run.data["machine_info"].get("node") == node()]
    here = processor({"cpu": cpuinfo.get_cpu_info()}) if alike else None
    return [run for run in alike if processor(run.data["machine_info"]) in (None, here)]


def saved_rates(run: Run, case: "Case") -> "Rates | None":
    """Return the median of a run's undisturbed ceilings for a case's device and dtype; None if it has none."""
    import torch

    from attnlib.measure.ceilings import Rates, typical
    from attnlib.measure.device import open_device

    try:
        card = open_device(case.device).describe()["uuid"]
    except ValueError:  # the device is not here
        return None
    there = run.data["machine_info"]["attnlib"]
    known = there.get("threads"), there.get("versions", {}).get("torch"), (there.get("device") or {}).get("uuid")
    if known != (torch.get_num_threads(), torch.__version__, card):
        return None
    readings = [reading for reading in run.data["attnlib"].get("canary") or () if reading.get("rates")]
    found = [
        Rates(
            rates["flops_per_s"],
            tuple(map(tuple, rates["copies"])),
            rates["operator_s"],
            rates.get("overlap", False),
        )
        for reading in readings
        if (rates := reading["rates"])["dtype"] == case.dtype
        and rates.get("disturbed") == []
        and reading.get("device") == case.device.partition(":")[0]
    ]
    return typical(found) if found else None


def share_reached(run: Run, case: "Case") -> str | None:
    """Return a text with the share of the ceilings that similar cases reached in a run, or None."""

    def kind(of: Any) -> tuple[str, str]:
        return of.phase, of.device.partition(":")[0]

    similar = [cell for cell in run.cells if kind(cell.case) == kind(case) and cell.fields.get("dtype") == case.dtype]
    shares = [share for cell in similar if (share := cell.share_of_ceiling)]
    if not shares:
        return None
    return f"{percent(float(np.median(shares)))} of their ceilings: median of {len(shares)} cases in {run.name}"
