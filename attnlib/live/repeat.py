"""Repeated runs: the same benchmarks in several fresh processes, one after another."""

import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from attnlib.runs.find import load_all, named, results, with_bench

FAILED = 1  # pytest's exit code where a case failed; the run is saved, and the next one is started


def repeat(
    count: int, arguments: Sequence[str], *, order_seed: int = 1, name: str | None = None, folder: Path | None = None
) -> tuple[int, list[Path]]:
    """Measure and save ``count`` runs, each in a fresh pytest process with another order of cases.

    An exit code other than success and a failed case ends it.

    Args:
        count: number of runs.
        arguments: of pytest; ``bench/`` is added unless one begins so. With ``--resume`` and a name, complete runs are
            skipped and an interrupted one is resumed.
        order_seed: seed of the order of cases in the first run; each further run adds 1.
        name: of the saved runs, by default the commit and the time.
        folder: the folder of saved runs; None for ``results``.

    Returns:
        the largest exit code, 128 + N where signal N killed a process, and the saved files in order.
    """
    saving = "--benchmark-autosave" if name is None else f"--run-name={name}"
    command = [sys.executable, "-m", "pytest", *with_bench(arguments), saving]
    done = finished(name, arguments, folder) if name is not None and "--resume" in arguments else set()
    before, worst = set((folder or results()).glob("*/*.json")), 0
    for run in range(count):
        if order_seed + run in done:
            print(f"attnlib: run {run + 1} of {count} is saved already", flush=True)
            continue
        print(f"attnlib: run {run + 1} of {count}", flush=True)
        process = subprocess.Popen([*command, f"--order-seed={order_seed + run}"])
        try:
            code = process.wait()
        except KeyboardInterrupt:  # pytest got Ctrl-C too, and is finishing its file
            process.wait()
            raise
        worst = max(worst, code if code >= 0 else 128 - code)  # a child killed by signal N has -N, a shell 128 + N
        if code not in (0, FAILED):
            break
    # the first run of a repository makes its results/, which is the nearest one from then on
    return worst, sorted(set((folder or results()).glob("*/*.json")) - before)


def finished(name: str, arguments: Sequence[str], folder: Path | None) -> set[Any]:
    """Return the order seeds of the complete runs with this name and these options of pytest."""
    runs, _ = load_all(named(name, folder or results()))
    # saved commands have --option=value
    words = " ".join(arguments).replace(" --", "\n--").replace(" ", "=").splitlines()
    options = {word for word in words if word.startswith("--")} - {"--resume"}
    complete = [run.data["attnlib"] for run in runs if all(cell.status != "interrupted" for cell in run.cells)]
    return {ours.get("order_seed") for ours in complete if options <= set(map(str, ours.get("command") or []))}
