"""``attnlib publish``: log saved runs to an experiment tracker."""

import argparse
import os
import tempfile
from collections import Counter
from pathlib import Path
from typing import Any

from attnlib.commands.options import USAGE, add_names, runs_of
from attnlib.compare.cells import Cells
from attnlib.errors import message
from attnlib.runs.load import Run
from attnlib.show.tidy import tidy

LONGEST = 128  # characters of a run's name that W&B takes; in its offline mode it says so only when the run is synced


def declare(commands: Any) -> None:
    """Add the command and its options."""
    command = commands.add_parser(
        "publish",
        help="log runs to Weights & Biases: configuration, a table of cases, figures",
        description="The key comes from WANDB_API_KEY; WANDB_MODE=offline writes to the folder wandb/ and needs none.",
        epilog="example: WANDB_MODE=offline attnlib publish results/reference/laptop-cpu-1.json --wandb",
    )
    add_names(command)
    text = "log to Weights & Biases; needs the extra wandb"
    command.add_argument("--wandb", action="store_true", required=True, help=text)
    command.add_argument("--project", default="attnlib", metavar="NAME", help="project to log to (%(default)s)")
    command.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Log each saved run as a run of the tracker; return 4 if a file could not be read."""
    runs, left_out = runs_of(options.runs)
    try:
        import wandb
    except ImportError:
        raise ValueError(message("wandb is not installed", do="pip install 'attnlib[wandb]'")) from None
    online = os.environ.get("WANDB_MODE", "online") not in ("offline", "disabled", "dryrun")
    if online and not os.environ.get("WANDB_API_KEY"):
        raise ValueError(message("WANDB_API_KEY is not set", do="set it, or WANDB_MODE=offline"))
    try:
        for saved in runs:
            log(wandb, saved, options.project)
    except wandb.Error as error:
        raise ValueError(message(f"wandb: {error}")) from None
    return USAGE if left_out else 0


def log(wandb: Any, run: Run, project: str) -> None:
    """Log one run: its name, settings and machine, a table of cases, how many have which status, and all figures."""
    from attnlib.show.figures.files import draw  # matplotlib takes a second

    rows = tidy([run])
    ours = run.data["attnlib"]
    config = {name: ours.get(name) for name in ("preset", "command", "order_seed", "schema", "axes")}
    config |= {"name": run.name, "machine": run.machines[0]}
    name = run.name if len(run.name) <= LONGEST else f"{run.name[: LONGEST - 3]}..."
    columns = list(rows[0]) if rows else []
    table = wandb.Table(columns=columns, data=[list(row.values()) for row in rows], allow_mixed_types=True)
    with tempfile.TemporaryDirectory() as folder:
        figures = {name: png for name, png in draw(Cells([run]), Path(folder)).items() if png is not None}
        with wandb.init(project=project, name=name, config=config) as logged:
            logged.log({"cases": table} | {name: wandb.Image(str(png)) for name, png in figures.items()})
            statuses = Counter(row["status"] for row in rows)
            logged.summary.update({f"cases/{status}": count for status, count in statuses.items()})
