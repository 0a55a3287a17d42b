"""``python -m bench.trust``: how often our own comparisons err on this machine, on code that is the same or slower.

``ab`` plays suites of the very same checkout against itself, or against workers that do a share more of the same work.
``compare`` draws twice six of at least twelve saved runs, shuffled and in blocks of time, as they are and with a phase
that takes 20 % longer. ``noise`` makes runs beside a busy loop, and alone.
"""

import argparse
import json
import math
import os
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from attnlib.compare.ab import Contender, Match
from attnlib.compare.comparison import Comparison
from attnlib.compare.saved import MIN_RUNS, compare
from attnlib.compare.worker import Worker
from attnlib.runs.load import Run, load, load_all

ROOT = Path(__file__).parent.parent
THRESHOLD = 0.02  # of attnlib ab
SLOWER = 1.2  # what a phase takes longer
TIMING = [f"bench/test_{name}.py" for name in ("forward", "backward", "train_step", "encodings")]
SMOKE = 6.0  # seconds of its cases on 2 cores
SUITE = [
    {"phase": phase, "pe": pe, "seq_len": 64, "depth": 2}
    for phase in ("forward", "train_step")
    for pe in ("none", "learned", "rotary", "alibi")
]


@dataclass(frozen=True)
class Burdened(Contender):
    """A side whose workers do a share more of the same work than they say, in rounds of ``least`` steps or more."""

    extra_work: float = 0.0
    least: int = 1  # of which the share is a whole number

    def start(self, denormals: str, threads: int | None) -> Worker:
        """A fresh worker."""
        worker = super().start(denormals, threads)
        worker.ask = partial(burdened, worker.ask, self.extra_work, self.least)  # type: ignore[method-assign]
        return worker


def burdened(ask: Callable[..., dict[str, Any]], extra_work: float, least: int, **request: Any) -> dict[str, Any]:
    """Ask for rounds of (1 + extra_work) n steps, n a multiple of ``least``, and count n of them."""
    if "iterations" not in request:
        return ask(**request)
    counted = least * math.ceil(request["iterations"] / least)
    done = counted + round(counted * extra_work)
    answer = ask(**request | {"iterations": done})
    return {"seconds": [seconds * done / counted for seconds in answer["seconds"]]}


def trust_ab(options: argparse.Namespace) -> None:
    """Play the suites and count verdicts."""
    counts: Counter[str] = Counter()
    shares = (0.0, options.extra_work)
    least = round(1 / options.extra_work) if options.extra_work else 1
    base, new = (Burdened(ROOT, sys.executable, extra_work=share, least=least) for share in shares)
    for number in range(options.suites):
        begun = time.monotonic()
        match = Match((base, new), SUITE[: options.cases], THRESHOLD, say=quiet)
        match.play(options.budget)
        words = [contest.verdict.word for contest in match.contests]
        counts.update(words)
        note = json.dumps([[round(log, 4) for log in contest.logs] for contest in match.contests])
        spent = time.monotonic() - begun
        print(f"suite {number + 1}: {match.pairs} pairs in {spent:.0f} s, {words} {note}", flush=True)
    print(f"extra work {options.extra_work:.0%}: {dict(counts)} of {counts.total()} case verdicts")


def trust_noise(options: argparse.Namespace) -> None:
    """Run the smoke preset's timing cases, with and without a busy loop in a third of them, and count flagged runs."""
    rng = np.random.default_rng(options.seed)
    for busy in (False, True):
        counts = []
        for _ in range(options.tries):
            with tempfile.TemporaryDirectory() as folder:
                run = smoke_run(Path(folder, "run.json"), rng.uniform() if busy else None)
            counts.append(sum(cell.disturbed for cell in run.cells))
        name, flagged = "beside a busy loop" if busy else "left alone", sum(map(bool, counts))
        print(f"{name}: {flagged} of {options.tries} runs flagged; disturbed cases a run {counts}", flush=True)


def smoke_run(path: Path, place: float | None) -> Run:
    """One run; where ``place`` is a share, a busy loop takes a third of its time, from so far into the rest on."""
    command = [sys.executable, "-m", "pytest", "-q", *TIMING, "--preset", "smoke", f"--benchmark-json={path}"]
    process = subprocess.Popen(
        command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, env=os.environ | {"PYTHONUNBUFFERED": "1"}
    )
    while process.stdout is not None and b"] " not in (line := process.stdout.readline()) and line:
        pass  # until its first case is through
    if place is not None:
        time.sleep(place * SMOKE * 2 / 3)
        loop = subprocess.Popen([sys.executable, "-c", "while True: pass"])
        time.sleep(SMOKE / 3)
        loop.kill()
        loop.wait()
    process.communicate()
    return load(path)


def quiet(text: str) -> None:
    """Say nothing."""


def trust_compare(options: argparse.Namespace) -> None:
    """Draw, compare and count suites and phases."""
    runs, bad = load_all(options.runs)
    if bad or len(runs) < 2 * MIN_RUNS:
        raise SystemExit("; ".join(bad) or f"{len(runs)} runs, {2 * MIN_RUNS} are needed")
    rng = np.random.default_rng(options.seed)
    draws = {
        "shuffled": [rng.permutation(len(runs))[: 2 * MIN_RUNS] for _ in range(options.draws)],
        "blocks of time": [np.arange(s, s + 2 * MIN_RUNS) for s in range(len(runs) - 2 * MIN_RUNS + 1)],
    }
    for name, drawn in draws.items():
        found = [halves(runs, draw) for draw in drawn]
        wrong = sum(any(word in ("slower", "faster") for word in words(c)) for c in found)
        drifted = sum(bool(comparison.notes) for comparison in found)
        print(f"{name}: {wrong} of {len(found)} suites with any false verdict, {drifted} drifted")
        for phase in found[0].phases:
            slow = [halves(runs, draw, phase).phases[phase].word == "slower" for draw in drawn]
            same = sum(c.phases[phase].word == "same" for c in found)
            print(f"  {phase}: same in {same}; with {SLOWER - 1:+.0%} slower in {sum(slow)} of {len(slow)}")


def halves(runs: Sequence[Run], draw: np.ndarray, slower: str | None = None) -> Comparison:
    """The first six drawn runs against the others, in which one phase may take longer."""
    base, new = ([runs[i] for i in half] for half in (draw[:MIN_RUNS], draw[MIN_RUNS:]))
    return compare(base, [delayed(run, slower) for run in new])


def delayed(run: Run, phase: str | None) -> Run:
    """A run in which a phase takes ``SLOWER`` times as long."""
    cells = (
        replace(cell, samples=tuple(SLOWER * s for s in cell.samples)) if cell.case["phase"] == phase else cell
        for cell in run.cells
    )
    return replace(run, cells=tuple(cells))


def words(comparison: Comparison) -> list[str]:
    """Every verdict of a comparison."""
    verdicts = [*comparison.phases.values(), *(row.verdict for row in comparison.rows)]
    return [verdict.word for verdict in verdicts]


def parsed(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """The options of a command line."""
    parser = argparse.ArgumentParser(prog="python -m bench.trust", description=__doc__)
    commands = parser.add_subparsers(required=True)
    command = commands.add_parser("ab")
    command.add_argument("--suites", type=int, default=25)
    command.add_argument("--cases", type=int, default=len(SUITE))
    command.add_argument("--budget", type=float, default=300.0, help="seconds a suite (%(default)s)")
    command.add_argument("--extra-work", type=float, default=0.0, metavar="SHARE", help="of the new side")
    command.set_defaults(run=trust_ab)
    command = commands.add_parser("compare")
    command.add_argument("runs", nargs="+", type=Path, metavar="RUN")
    command.add_argument("--draws", type=int, default=100)
    command.add_argument("--seed", type=int, default=0)
    command.set_defaults(run=trust_compare)
    command = commands.add_parser("noise")
    command.add_argument("--tries", type=int, default=20)
    command.add_argument("--seed", type=int, default=0)
    command.set_defaults(run=trust_noise)
    return parser.parse_args(argv)


def main() -> None:
    """Read the options, then count."""
    options = parsed()
    options.run(options)


if __name__ == "__main__":
    main()
