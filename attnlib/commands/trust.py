"""``attnlib trust``: count how often attnlib's own verdicts and intervals are wrong on this machine.

``ab`` compares a checkout with itself, or with workers that do a given share of extra work, and counts the verdicts.
``compare`` draws two groups of six from at least twelve saved runs, at random and as consecutive runs, and compares
them as they are and with a phase or an encoding made 20 % slower. ``noise`` counts cases marked as disturbed in runs
with and without a busy loop. ``contrasts`` compares cases with themselves, in saved or new runs, and counts how often
they are called different. ``holds`` counts how often the interval of one saved run contains the mean of the others.
``apart`` compares ratios measured in short turns with ratios from turns so long that neither side finds the caches as
the other left them.
"""

import argparse
import json
import math
import os
import subprocess
import sys
import tempfile
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from operator import attrgetter
from pathlib import Path
from typing import Any

import numpy as np
from msgspec.structs import replace as replace_fields

from attnlib.compare import speed
from attnlib.compare.comparison import Comparison
from attnlib.compare.holds import FEWEST, by, by_kernel_and_length, holding, repeated, shared_by_runs, worst
from attnlib.compare.pairs import fields_in_words, floor, over_reference
from attnlib.compare.saved import MIN_RUNS, compare
from attnlib.compare.verdicts import of_pairs
from attnlib.errors import message
from attnlib.live.ab import FIRST, GROWTH, SUITE, Contender, Match, error_spent
from attnlib.live.process import HERE, Worker
from attnlib.measure import sampling
from attnlib.measure.rounds import rounds
from attnlib.runs.find import load_all
from attnlib.runs.load import Cell, Run, load
from attnlib.show.table import Column, Table

THRESHOLD = 0.02  # of attnlib ab
SLOWER = 1.2  # factor on the time of a phase or an encoding
LONG = (0.02, 0.04)  # seconds of untimed steps after a change of side, and of a turn: enough to refill caches
TIMING = [f"bench/test_{name}.py" for name in ("forward", "backward", "train_step", "encodings")]
SMOKE = 45.0  # seconds that the smoke preset takes on a core


def declare(commands: Any) -> None:
    """Add the command, and a subcommand with options for each kind of check."""
    command = commands.add_parser(
        "trust",
        help="count how often attnlib's own verdicts and intervals are wrong on this machine",
        description=__doc__,
        epilog="example: attnlib trust holds results/reference/*.json",
    )
    kinds = command.add_subparsers(dest="kind", required=True)

    def add(kind: str, check: Callable[[argparse.Namespace], None], text: str) -> Callable[..., Any]:
        command = kinds.add_parser(kind, help=text, description=__doc__)
        command.set_defaults(run=run, check=check)
        return command.add_argument  # type: ignore[no-any-return]

    option = add("ab", trust_ab, "verdicts of attnlib ab on a checkout against itself")
    option("--suites", type=int, default=25, help="how often all cases are compared (%(default)s)")
    option("--budget", type=float, default=300.0, help="seconds per suite (%(default)s)")
    option(
        "--extra-work",
        type=float,
        default=0.0,
        metavar="SHARE",
        help="extra work of the new side, as a share of a step (%(default)s)",
    )
    option(
        "--threshold", type=float, default=THRESHOLD, metavar="SHARE", help="smallest change that matters (%(default)s)"
    )
    option("--drawn", type=int, default=160, help="further cases, resampled from the measured pairs (%(default)s)")
    text = "slow-down of resampled cases, to count how often it is found (%(default)s)"
    option("--change", type=float, default=0.02, metavar="SHARE", help=text)
    option = add("compare", trust_compare, "verdicts of attnlib compare on saved runs")
    option("runs", nargs="+", type=Path, metavar="RUN", help="saved runs of the same code, twelve or more")
    option("--draws", type=int, default=100, help="how often two groups are drawn (%(default)s)")
    option("--seed", type=int, default=0, help="seed of the draws (%(default)s)")
    option = add("contrasts", trust_contrasts, "ratios of cases to themselves")
    option("runs", nargs="*", type=Path, metavar="RUN", help="saved runs, instead of new ones")
    option("--tries", type=int, default=5, help="runs of each encoding (%(default)s)")
    option("--preset", default="smoke", help="preset of new runs (%(default)s)")
    option("--pe", nargs="+", default=["none", "rotary"], help="encodings (%(default)s)")
    text = "seconds from the first case to the start of a busy loop, and for how many seconds the loop runs"
    option("--busy", nargs=2, type=float, metavar="SECONDS", help=text)
    option = add("holds", trust_holds, "intervals of one run against the other runs")
    option("runs", nargs="+", type=Path, metavar="RUN", help="saved runs of one machine, three or more")
    option = add("apart", trust_apart, "ratios from short and from long turns")
    option("--seq-lens", nargs="+", type=int, default=[64, 128, 256], help="sequence lengths T")
    option("--depths", nargs="+", type=int, default=[2, 8], help="numbers of layers L")
    names = ["learned", "rotary", "alibi", "t5", "shaw", "kerple", "fire"]
    option("--pe", nargs="+", default=names, help="encodings")
    option("--budget", type=float, default=6.0, help="seconds per case (%(default)s)")
    option = add("noise", trust_noise, "cases marked as disturbed, with and without a busy loop")
    option("--tries", type=int, default=20, help="runs with a busy loop, and as many without (%(default)s)")
    option("--seed", type=int, default=0, help="seed of the busy loop's times (%(default)s)")


def run(options: argparse.Namespace) -> int:
    """Run the chosen check, which prints its counts."""
    options.check(options)
    return 0


@dataclass(frozen=True)
class Burdened(Contender):
    """A side whose workers do extra work that they do not report, for checking that it is found.

    Args:
        extra_work: share of the reported work.
        least: smallest number of steps of a round; ``extra_work`` times ``least`` is a whole number.
    """

    extra_work: float = 0.0
    least: int = 1

    def start(self, denormals: str, threads: int | None) -> Worker:
        """Start a worker, see ``Contender.start``."""
        worker = super().start(denormals, threads)
        worker.ask = partial(burdened, worker.ask, self.extra_work, self.least)  # type: ignore[method-assign]
        return worker


def burdened(ask: Callable[..., dict[str, Any]], extra_work: float, least: int, **request: Any) -> dict[str, Any]:
    """Request rounds of (1 + extra_work) n steps and report the time as that of n, a multiple of ``least``."""
    if "iterations" not in request:
        return ask(**request)
    counted = least * math.ceil(request["iterations"] / least)
    done = counted + round(counted * extra_work)
    answer = ask(**request | {"iterations": done})
    return {"seconds": [seconds * done / counted for seconds in answer["seconds"]]}


def trust_ab(options: argparse.Namespace) -> None:
    """Measure suites and count verdicts; then count those of cases that are resampled from the measured pairs."""
    counts: Counter[str] = Counter()
    shares = (0.0, options.extra_work)
    least = round(1 / options.extra_work) if options.extra_work else 1
    base, new = (Burdened(HERE, sys.executable, extra_work=share, least=least) for share in shares)
    recorded: list[list[float]] = []
    for number in range(options.suites):
        begun = time.monotonic()
        match = Match((base, new), SUITE, options.threshold, say=lambda _: None)
        match.play(options.budget)
        words = [contest.verdict.word for contest in match.contests]
        counts.update(words)
        recorded += [contest.logs for contest in match.contests if contest.logs]
        logs = json.dumps([[round(log, 4) for log in contest.logs] for contest in match.contests])
        seconds = time.monotonic() - begun
        print(f"suite {number + 1}: {match.pairs} pairs in {seconds:.0f} s, {words} {logs}", flush=True)
    print(f"extra work {options.extra_work:.0%}: {dict(counts)} of {counts.total()} case verdicts")
    pairs = max(map(len, recorded), default=0)
    for change in (0.0, options.change):
        drawn = Counter(redrawn(recorded, n, options, pairs, change) for n in range(options.drawn if pairs else 0))
        print(f"resampled from these pairs, {change:+.0%}: {dict(drawn)} of {drawn.total()} case verdicts")


def redrawn(recorded: list[list[float]], number: int, options: argparse.Namespace, pairs: int, change: float) -> str:
    """Return the verdict on a case whose pairs are resampled from measured ones, after the interim tests of ``ab``.

    Args:
        recorded: log ratios of the measured pairs of every case.
        number: chooses the measured case and seeds the random numbers.
        options: ``threshold``.
        pairs: largest number of pairs.
        change: relative change of the new side's time, instead of the measured mean.
    """
    rng = np.random.default_rng(number)
    measured = np.array(recorded[number % len(recorded)])
    logs = rng.choice(measured - measured.mean(), size=pairs) + math.log1p(change)
    look, looked, word = FIRST, 0, "undecided"
    while word == "undecided" and look <= pairs:
        confidence = 1 - (error_spent(look / pairs) - error_spent(looked / pairs)) / len(SUITE)
        looked = look
        word = of_pairs(logs[:look].tolist(), confidence=confidence, threshold=options.threshold).word
        look = pairs if look < pairs < math.ceil(GROWTH * look) else math.ceil(GROWTH * look)
    return word


def trust_noise(options: argparse.Namespace) -> None:
    """Measure smoke runs with and without a busy loop for a third of the time; count runs with disturbed cases."""
    rng = np.random.default_rng(options.seed)
    for busy in (False, True):
        counts = []
        for _ in range(options.tries):
            start = float(rng.uniform()) * SMOKE * 2 / 3
            with tempfile.TemporaryDirectory() as folder:
                run = smoke_run(Path(folder, "run.json"), (start, SMOKE / 3) if busy else None)
            counts.append(sum(cell.disturbed for cell in run.cells))
        name, flagged = "with a busy loop" if busy else "without", sum(map(bool, counts))
        print(f"{name}: {flagged} of {options.tries} runs have disturbed cases, by run {counts}", flush=True)


def trust_holds(options: argparse.Namespace) -> None:
    """Print how often a run's interval contains the mean of the other runs, by phase, kernel and length."""
    runs, bad = load_all(options.runs)
    cells = repeated(runs)
    if bad or not cells:
        wrong = f"{len(runs)} runs have no ratio in common"
        raise ValueError("; ".join(bad) or message(wrong, do=f"name at least {FEWEST} with the same cases"))
    groups = [holding("all", cells), *by(cells, lambda one: one.cell.case.phase), *by_kernel_and_length(cells)]
    share = Column(lambda value: f"{value:.1%}", number=True)
    heads = {"group": Column(), "intervals": Column(number=True), "contain the others' mean": share}
    heads |= {"half-width": share, "its 90th percentile": share, "run to run": share}
    fields = attrgetter("name", "intervals", "share", "half_width", "wide", "deviation")
    rows = [dict(zip(heads, fields(group), strict=True)) for group in groups]
    print(f"{len(runs)} runs, {len(cells)} cells: intervals within a run against the geometric mean of the other runs")
    Table(heads, rows).print()
    if (apart := speed.spread(runs)) is not None:
        print(f"the machine's speed changed: {apart}; give this command the runs of each speed separately")
    deviations = np.array([cell.deviation for cell in cells])
    within = ", ".join(f"{np.mean(deviations <= limit):.1%} within {limit:.0%}" for limit in (0.02, 0.04, 0.08))
    print(f"standard deviation of a cell's log ratio from run to run: {within}, worst {deviations.max():.1%}")
    if (shared := shared_by_runs(cells)) is not None:
        print(f"of the variance between visits, {shared:.0%} is shared by the visits of a run")
    for cell in worst(cells):
        ratios = ", ".join(f"{ratio:.2f}" for ratio in cell.ratios)
        print(f"  {cell.deviation:.1%}  {cell.cell.label}: {ratios}")


def trust_apart(options: argparse.Namespace) -> None:
    """Print ratios of cases measured in short turns, as in a visit, and in turns long enough to refill the caches."""
    import torch

    from attnlib.cases.settings import Settings, on_this_heap
    from attnlib.cases.workload import build
    from attnlib.measure import clock
    from attnlib.measure.device import open_device
    from attnlib.measure.environment import refuse_changed, set_threads

    settings = on_this_heap(Settings.from_options({"preset": "laptop"}), asked=False)
    torch.set_flush_denormal(True)
    refuse_changed(settings.threads)
    set_threads(settings.threads)
    clock.bind(open_device("cpu"))
    differences: list[float] = []
    for T, L, pe in [(T, L, pe) for T in options.seq_lens for L in options.depths for pe in options.pe]:
        case = settings.case(seq_len=T, depth=L, pe=pe)
        beside, apart = both_ways([build(replace(case, pe="none")), build(case)], options.budget)
        differences.append(float(beside.mean() - apart.mean()))
        errors = [float(logs.std(ddof=1)) / math.sqrt(len(logs)) for logs in (beside, apart)]
        print(
            f"T={T} L={L} {pe}: short turns {np.exp(beside.mean()):.3f}, long turns {np.exp(apart.mean()):.3f}, "
            f"{differences[-1]:+.1%} +- {math.hypot(*errors):.1%}, {len(apart)} times each",
            flush=True,
        )
    rms, largest = np.sqrt(np.mean(np.square(differences))), max(differences, key=abs)
    print(f"{len(differences)} cells: rms {rms:.1%}, worst {largest:+.1%}")


def both_ways(sides: Sequence[Any], budget: float) -> tuple[np.ndarray, np.ndarray]:
    """Return the log ratios of a case to its reference from short turns, as in a visit, and from long ones.

    ``sides`` are the workloads of reference and case, which are measured for ``budget`` seconds.
    """
    usual = sampling.pilot(sides, [side.check() for side in sides], precision=1e-9, budget=0.25)
    steps = [sampling.warm_up(side, budget=0.02).step for side in sides]
    untimed = tuple(math.ceil(LONG[0] / step) for step in steps)
    each = max(1, math.ceil(LONG[1] / float(np.mean(steps))))
    long = replace(usual, untimed=untimed, each=each, blocks=2, rounds=4 * each, iterations=(1, 1))
    short_logs: list[float] = []
    long_logs: list[float] = []
    begun = time.monotonic()
    while time.monotonic() - begun < budget or len(short_logs) < 4:
        for logs, pilot in ((short_logs, usual), (long_logs, long)):
            reference, case = rounds(pilot.turns(sides), pilot.order())
            logs.append(float(np.median(np.log(case) - np.log(reference))))
    return np.array(short_logs), np.array(long_logs)


def trust_contrasts(options: argparse.Namespace) -> None:
    """Print how often cases are called different from themselves, in saved runs or in new ones of each encoding."""
    runs, bad = load_all(options.runs)
    if bad:
        raise ValueError("; ".join(bad))
    with tempfile.TemporaryDirectory() as folder:
        for number in range(0 if options.runs else options.tries):
            for pe in options.pe:
                chosen = ["--preset", options.preset, "--pe", pe, "--reference", f"pe={pe}"]
                chosen.append(f"--order-seed={number + 1}")
                runs.append(smoke_run(Path(folder, f"{number}-{pe}.json"), options.busy, *chosen, tests=TIMING[:3]))
    cells = [cell for run in runs for cell in run.cells if cell.ratio]
    for phase in dict.fromkeys(cell.case.phase for cell in cells):
        group = [cell for cell in cells if cell.case.phase == phase]
        ratios = defaultdict(list)
        for cell in group:
            if estimate := over_reference(cell):
                ratios[cell.case_id].append(math.log(estimate.value))
        spreads = [float(np.std(logs, ddof=1)) for logs in ratios.values() if len(logs) > 1]
        spread = f"; from run to run {np.median(spreads):.1%} (median cell)" if spreads else ""
        print(f"{phase}, {len(runs)} runs: {floor(group) or 'no case with itself as reference'}{spread}", flush=True)


def smoke_run(path: Path, busy: tuple[float, float] | None, *options: str, tests: Sequence[str] = TIMING) -> Run:
    """Measure a run in a process of its own, by default the smoke preset, and return it.

    ``busy`` are the seconds from the end of its first case to the start of a busy loop, and the length of the loop.
    """
    command = [sys.executable, "-m", "pytest", "-q", *tests, *(options or ("--preset", "smoke"))]
    command += [f"--benchmark-json={path}"]
    process = subprocess.Popen(
        command, cwd=HERE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, env=os.environ | {"PYTHONUNBUFFERED": "1"}
    )
    while process.stdout is not None and b"] " not in (line := process.stdout.readline()) and line:
        pass  # until the first case has been printed
    if busy is not None:
        time.sleep(busy[0])
        loop = subprocess.Popen([sys.executable, "-c", "while True: pass"])
        time.sleep(busy[1])
        loop.kill()
        loop.wait()
    process.communicate()
    return load(path)


def trust_compare(options: argparse.Namespace) -> None:
    """Compare groups of six saved runs, and print how many verdicts are false and how many slow-downs are found."""
    runs, bad = load_all(options.runs)
    if bad or len(runs) < 2 * MIN_RUNS:
        raise ValueError("; ".join(bad) or message(f"{len(runs)} runs are too few", do=f"name at least {2 * MIN_RUNS}"))
    rng = np.random.default_rng(options.seed)
    draws = {
        "shuffled": [rng.permutation(len(runs))[: 2 * MIN_RUNS] for _ in range(options.draws)],
        "blocks of time": [np.arange(s, s + 2 * MIN_RUNS) for s in range(len(runs) - 2 * MIN_RUNS + 1)],
    }
    for name, drawn in draws.items():
        comparisons = [halves(runs, draw) for draw in drawn]
        wrong = sum(bool({"slower", "faster"} & words(comparison)) for comparison in comparisons)
        drifted = sum(bool(comparison.notes) for comparison in comparisons)
        print(f"{name}: {wrong} of {len(comparisons)} suites with any false verdict, {drifted} drifted")
        rows = [row for comparison in comparisons for row in comparison.rows if row.base and row.base.reference]
        if rows:
            same = sum(row.verdict.word == "same" for row in rows)
            print(f"  same in {same / len(rows):.0%} of the ratios of cases")
        references = {fields_in_words(cell.ratio.reference) for cell in runs[0].cells if cell.ratio}
        names = dict.fromkeys(cell.fields[key] for key in ("phase", "pe") for cell in runs[0].cells if cell.timed)
        for slower in [name for name in names if name not in references]:
            slow = [slows(halves(runs, draw, slower), slower) for draw in drawn]
            print(f"  {slower} {SLOWER - 1:+.0%}: found in {sum(slow)} of {len(slow)}")


def slows(comparison: Comparison, name: str) -> bool:
    """Return True if a phase as a whole, or a case with an encoding, is called slower."""
    phases = [verdict for group, verdict in comparison.phases.items() if group.replace(",", "").split()[0] == name]
    cases = [row.verdict for row in comparison.rows if name in row.label.split()]
    return any(verdict.word == "slower" for verdict in phases + cases)


def halves(runs: Sequence[Run], draw: np.ndarray, slower: str | None = None) -> Comparison:
    """Compare the first six drawn runs with the others, in which the phase or encoding ``slower`` is slowed down."""
    base, new = ([runs[i] for i in half] for half in (draw[:MIN_RUNS], draw[MIN_RUNS:]))
    return compare(base, [delayed(run, slower) for run in new])


def delayed(run: Run, name: str | None) -> Run:
    """Return a run with the times of a phase, with its references, or of an encoding multiplied by ``SLOWER``."""
    cells = tuple(slowed(cell, name) if name in (cell.case.phase, cell.case.pe) else cell for cell in run.cells)
    return replace(run, cells=cells)


def slowed(cell: Cell, name: str | None) -> Cell:
    """Return a cell with its time multiplied by ``SLOWER``, and that of its reference too if ``name`` is a phase."""
    info = cell.info
    if info is not None and cell.ratio is not None:
        if name == cell.case.phase:
            time = replace_fields(info.time, reference_s=[SLOWER * seconds for seconds in info.time.reference_s or ()])
        else:
            ends = {end: SLOWER * getattr(cell.ratio, end) for end in ("value", "low", "high")}
            time = replace_fields(info.time, over_reference=replace_fields(cell.ratio, **ends))
        info = replace_fields(info, time=time)
    return replace(cell, samples=tuple(SLOWER * s for s in cell.samples), info=info)


def words(comparison: Comparison) -> set[str]:
    """Return the verdicts of a comparison on phases, cases and references."""
    verdicts = [*comparison.phases.values(), *(row.verdict for row in (*comparison.rows, *comparison.references))]
    return {verdict.word for verdict in verdicts}
