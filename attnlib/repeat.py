"""Replicates: the same benchmark in several fresh processes, one after another."""

import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from attnlib.runs.load import RESULTS

FAILED = 1  # pytest's exit code where a case failed; the run is saved and the next may go on
ONE_FILE = "--benchmark-json"


def repeat(count: int, arguments: Sequence[str], folder: Path = RESULTS) -> tuple[int, list[Path]]:
    """Run ``pytest`` ``count`` times, each in a fresh process with another order of cases, and save each run.

    Args:
        count: how many.
        arguments: of pytest, with ``bench/`` unless one begins so; the order seeds, which are saved, count up from
            ``--order-seed``, by default 1.
        folder: where the suite saves its runs.

    Returns:
        the worst exit code of the processes that ran; anything but success and a failed case stops at once. And the
        files that were saved, in order.

    Raises:
        ValueError: an argument would make all runs write the same file, or is no order seed.
    """
    if any(argument.partition("=")[0] == ONE_FILE for argument in arguments):
        raise ValueError(f"{ONE_FILE} names one file for all runs; use --run-name NAME or nothing")
    seed, rest = order_seed(arguments)
    saving = any(argument.partition("=")[0] in ("--run-name", "--benchmark-save") for argument in rest)
    named = any(argument.startswith("bench/") for argument in rest)
    command = [sys.executable, "-m", "pytest", *([] if named else ["bench/"]), *rest]
    command += [] if saving else ["--benchmark-autosave"]
    before, worst = set(folder.glob("*/*.json")), 0
    for run in range(count):
        print(f"attnlib: run {run + 1} of {count}", flush=True)
        process = subprocess.Popen([*command, f"--order-seed={seed + run}"])
        try:
            code = process.wait()
        except KeyboardInterrupt:  # it heard it too, and is finishing its file
            process.wait()
            raise
        worst = max(worst, abs(code))
        if code not in (0, FAILED):
            break
    return worst, sorted(set(folder.glob("*/*.json")) - before)


def order_seed(arguments: Sequence[str]) -> tuple[int, list[str]]:
    """The first order seed, and the arguments without it.

    Raises:
        ValueError: it is not a positive integer.
    """
    rest, seed = list(arguments), "1"
    for index, argument in enumerate(arguments):
        if argument.startswith("--order-seed="):
            seed = rest.pop(index).partition("=")[2]
            break
        if argument == "--order-seed":
            seed = "".join(rest[index + 1 : index + 2])
            del rest[index : index + 2]
            break
    if not seed.isascii() or not seed.isdigit() or int(seed) < 1:
        raise ValueError(f"--order-seed takes one positive integer, not {seed!r}")
    return int(seed), rest
