"""Replicates: the same benchmark in several fresh processes, one after another."""

import glob
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from attnlib.runs.find import RESULTS, load_all, with_bench

FAILED = 1  # pytest's exit code where a case failed; the run is saved and the next may go on


def repeat(
    count: int, arguments: Sequence[str], *, order_seed: int = 1, name: str | None = None, folder: Path = RESULTS
) -> tuple[int, list[Path]]:
    """Run ``pytest`` ``count`` times, each in a fresh process with another order of cases, and save each run.

    Args:
        count: how many.
        arguments: of pytest, with ``bench/`` unless one begins so; with ``--resume`` and a name, runs that are saved
            whole are left out, and the one that was killed goes on.
        order_seed: of the first run; it counts up, and is saved.
        name: that the runs are saved under, by default the commit and the time.
        folder: where the suite saves its runs.

    Returns:
        the worst exit code of the processes that ran; anything but success and a failed case stops at once. And the
        files that were saved, in order.
    """
    saving = "--benchmark-autosave" if name is None else f"--run-name={name}"
    command = [sys.executable, "-m", "pytest", *with_bench(arguments), saving]
    done = finished(name, arguments, folder) if name is not None and "--resume" in arguments else set()
    before, worst = set(folder.glob("*/*.json")), 0
    for run in range(count):
        if order_seed + run in done:
            print(f"attnlib: run {run + 1} of {count} is saved already", flush=True)
            continue
        print(f"attnlib: run {run + 1} of {count}", flush=True)
        process = subprocess.Popen([*command, f"--order-seed={order_seed + run}"])
        try:
            code = process.wait()
        except KeyboardInterrupt:  # it heard it too, and is finishing its file
            process.wait()
            raise
        worst = max(worst, abs(code))
        if code not in (0, FAILED):
            break
    return worst, sorted(set(folder.glob("*/*.json")) - before)


def finished(name: str, arguments: Sequence[str], folder: Path) -> set[Any]:
    """The order seeds of the whole runs of this name that were asked for with these arguments."""
    runs, _ = load_all(sorted(folder.glob(f"*/[0-9][0-9][0-9][0-9]_{glob.escape(name)}.json")))
    asked = set(" ".join(arguments).replace(" --", "\n--").replace(" ", "=").splitlines()) - {"--resume"}
    options = {word for word in asked if word.startswith("--")}
    whole = [run for run in runs if all(cell.status != "interrupted" for cell in run.cells)]
    ours = [run.data["attnlib"] for run in whole]
    return {own.get("order_seed") for own in ours if options <= set(map(str, own.get("command") or []))}
