"""``attnlib merge``: join the shards of a sweep, or runs that measured a part each, into one saved run."""

import argparse
import glob
import os
from pathlib import Path
from typing import Any

from attnlib.commands.options import run_name
from attnlib.errors import message
from attnlib.runs.find import find, results
from attnlib.runs.save import save_new, save_over, token_in
from attnlib.sweep.folder import Sweep
from attnlib.sweep.merge import Merged, of_parts, of_sweep


def declare(commands: Any) -> None:
    """Add the command and its options."""
    command = commands.add_parser(
        "merge",
        epilog="example: attnlib merge results/sweeps/before",
        help="join the shards of a sweep, or runs that measured a part each, into one saved run",
        description="Tables, figures and comparisons read the merged run like any other.",
    )
    command.add_argument(
        "parts", nargs="+", type=Path, metavar="FOLDER|RUN", help="a sweep, or saved runs and journals"
    )
    command.add_argument(
        "--partial", action="store_true", help="merge although cases are missing: their status is interrupted"
    )
    text = "name of the saved run (default: that of the sweep or of the first part)"
    command.add_argument("--run-name", type=run_name, metavar="NAME", help=text)
    command.add_argument("--out", type=Path, metavar="FILE", help="save one run here instead of in results/")
    command.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Merge, and print the path of each merged run."""
    for merged, parts, folder, name in asked(options):
        if options.out is not None:
            try:
                save_over(options.out, merged.chunks(parts), merged.token)
            except OSError as error:
                raise OSError(message(f"cannot write {options.out}: {error.strerror}")) from None
            path = options.out
        else:
            path = save_in(folder, options.run_name or name, merged, parts)
        missing = len(merged.gaps.keys() - merged.rows.keys())
        note = f", {missing} cases are missing" if missing else ""
        print(f"{path}: {len(merged.rows)} cases of {len(parts)} parts on {len(merged.nodes)} nodes{note}")
    return 0


def asked(options: argparse.Namespace) -> list[tuple[Merged, list[Path], Path, str]]:
    """Return each run to merge with its parts, and the folder and name to save it under.

    Raises:
        ValueError: ``--out`` names one file for several runs, **or** several sweeps are given.
    """
    first, *others = options.parts
    if not os.path.isdir(first):  # noqa: PTH112 - False of what cannot be looked at
        parts = [path for part in options.parts for path in find(part)]
        if absent := [path for path in parts if not os.path.isfile(path)]:  # noqa: PTH113
            raise ValueError(message(f"{absent[0]}: no such file"))
        return [(of_parts(parts, partial=options.partial), parts, parts[0].resolve().parent, parts[0].stem)]
    if others:
        raise ValueError(message("only one sweep can be merged at a time", do=f"leave out {others[0]}"))
    sweep = Sweep(first)
    if options.out is not None and sweep.asked.runs > 1:
        wrong = f"--out names one file for {sweep.asked.runs} runs"
        raise ValueError(message(wrong, do="leave it out, or use --run-name NAME"))
    folder = results() / sweep.plan.platform if sweep.plan else results()
    runs = [of_sweep(sweep, run, partial=options.partial) for run in range(1, sweep.asked.runs + 1)]
    return [(merged, parts, folder, sweep.asked.name) for merged, parts in runs]


def save_in(folder: Path, name: str, merged: Merged, parts: list[Path]) -> Path:
    """Save a run under the next free number, or in place of an earlier merge of the same parts; return the path."""
    folder.mkdir(parents=True, exist_ok=True)
    for path in folder.glob(f"[0-9]*_{glob.escape(name)}.json"):
        if token_in(path) == merged.token:
            save_over(path, merged.chunks(parts), merged.token)
            return path
    return save_new(folder, name, merged.chunks(parts), merged.token)
