"""Two sets of runs side by side: a run is one replicate, exact figures compare exactly, and times may be undecided."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from attnlib.compare.comparison import LIMITED, WORST, Compared, Comparison, Summary
from attnlib.compare.verdicts import Replicate, Verdict, between_runs
from attnlib.runs.load import Cell, Run

MIN_RUNS = 6  # a side, undisturbed: with fewer the spread between runs is hardly known
ERROR = 0.05  # chance of any false verdict: half of it is shared by the phases, half by the cases
THRESHOLDS = {"cpu": 0.05}
THRESHOLD = 0.02  # of any other device
DRIFT = 0.03  # of the canary from side to side, or the threshold where that is smaller
# options that choose cases
SELECTING = ("--preset", "--pe", "--seq-lens", "--depths", "--fixed-depth", "--fixed-seq-len", "-k")
LIMITS = ("--memory-limit", "--case-timeout")  # options that end them
EXACT = ("status", "bytes", "flops", "params")  # compared exactly


@dataclass(frozen=True)
class Judge:
    """Gives verdicts: none but ``same`` for the very same runs, none but ``undecided`` where there is a reason.

    ``threshold`` is the chosen one; None is that of the devices of the cases.
    """

    threshold: float | None
    same: bool
    reason: str | None

    def __call__(self, base: Sequence[Replicate], new: Sequence[Replicate], tests: int, devices: set[str]) -> Verdict:
        """The verdict on one of ``tests`` tests of a kind, of cases on these devices."""
        if self.same:
            return Verdict("same", 1.0, 1.0, 1.0, runs=(len(base), len(new)))
        short = None if min(len(base), len(new)) >= MIN_RUNS else f"{a_side(len(base), len(new))} undisturbed"
        reason = self.reason or short
        confidence = 1 - ERROR / 2 / max(1, tests)
        threshold = self.threshold or max(THRESHOLDS.get(kind, THRESHOLD) for kind in devices)
        return between_runs(base, new, confidence=confidence, threshold=threshold, reason=reason)


def compare(
    base: Sequence[Run], new: Sequence[Run], *, threshold: float | None = None, force: bool = False
) -> Comparison:
    """Compare two sets of runs; the very same runs are the same, with every ratio exactly 1.

    Args:
        base: runs before.
        new: runs after.
        threshold: smallest change of time that matters; None is 0.05 on a CPU and 0.02 elsewhere.
        force: decide although the machines or their settings differ.

    Raises:
        ValueError: a run is on both sides, but not all of them are, **or** no run has a case.
    """
    if not any(run.cells for run in (*base, *new)):
        raise ValueError("no cases in these runs")
    sides = [{run.token: run.path.name for run in side} for side in (base, new)]
    same = sides[0].keys() == sides[1].keys()
    if not same and (both := sides[0].keys() & sides[1].keys()):
        raise ValueError(f"{min(sides[0][token] for token in both)} is on both sides")
    shown = threshold or THRESHOLDS.get(base[0].device_kind, THRESHOLD)
    machine = machine_differences(base, new)
    drift = None if same else canary(base, new, min(DRIFT, shown))
    notes = () if same else why_not(len(base), len(new), () if force else machine, drift)
    judge = Judge(threshold, same, notes[0] if notes else None)
    cells = by_case(base), by_case(new)
    timed = [i for i in cells[0] if i in cells[1] and all(any(c.timed for c in side[i]) for side in cells)]
    ids: dict[str, list[str]] = {}
    for case_id in timed:
        ids.setdefault(cells[0][case_id][0].case["phase"], []).append(case_id)
    runs = [*base, *new]
    phases = {
        phase: judge(*of_phase(own, runs, len(base)), len(ids), {kind_of(cells[0][i][0]) for i in own})
        for phase, own in ids.items()
    }
    limits = bool(said(new, LIMITS) - said(base, LIMITS))
    rows = [row_of(case_id, cells, judge, len(timed), limits) for case_id in {**cells[0], **cells[1]}]
    if force and machine:
        notes += ("forced: verdicts are given although the machines or their settings differ",)
    selected = bool(said(new, SELECTING, paths=True) - said(base, SELECTING, paths=True))
    tests = len(ids), len(timed)
    return Comparison(phases, tuple(with_twins(rows, cells)), machine, notes, selected, drift, shown, tests)


def said(runs: Sequence[Run], options: Sequence[str], *, paths: bool = False) -> set[str]:
    """What of the runs' command lines is one of these options, or a path that is a part of ``bench``."""
    found = set()
    for run in runs:
        command = run.data["attnlib"].get("command") or []
        words = [str(word) for word in command[1:]] if isinstance(command, list) else []
        found |= {word for word in words if word.partition("=")[0] in options}
        names = {word.rstrip("/").rpartition("/")[2] for word in words if not word.startswith("-")}
        found |= names - {"bench", ""} if paths else set()
    return found


def a_side(base: int, new: int) -> str:
    """How many runs there are: ``3 runs a side`` or ``3 and 6 runs a side``."""
    return f"{base} run{'s' * (base != 1)} a side" if base == new else f"{base} and {new} runs a side"


def why_not(base: int, new: int, machine: Sequence[str], drift: Verdict | None) -> tuple[str, ...]:
    """Why no time can be decided at all, a line a reason."""
    notes = ["another machine or other settings (--force decides all the same)"] if machine else []
    if min(base, new) < MIN_RUNS:
        notes.append(f"{a_side(base, new)}, {MIN_RUNS} are needed")
    elif drift and drift.low and drift.high and drift.word != "same" and not drift.low <= 1 <= drift.high:
        notes.append("the machine drifted")
    return tuple(notes)


def canary(base: Sequence[Run], new: Sequence[Run], threshold: float) -> Verdict | None:
    """How the canary changed from side to side, with a 95 % interval; None unless two runs a side have one."""
    before, after = ([(run.canary, None) for run in side if run.canary is not None] for side in (base, new))
    if min(len(before), len(after)) < 2:
        return None
    return between_runs(before, after, confidence=0.95, threshold=threshold)


def kind_of(cell: Cell) -> str:
    """The kind of device that a case runs on."""
    return str(cell.case.get("device", "cpu")).partition(":")[0]


def by_case(runs: Sequence[Run]) -> dict[str, list[Cell]]:
    """Cells by case, one a run."""
    cells: dict[str, list[Cell]] = {}
    for run in runs:
        for cell in run.cells:
            cells.setdefault(cell.case_id, []).append(cell)
    return cells


def of_phase(ids: Sequence[str], runs: Sequence[Run], base: int) -> tuple[list[Replicate], list[Replicate]]:
    """Geometric means over these cases and over their canaries, one pair a run, base and new.

    Each case counts relative to the middle between its means on the two sides, so that a run may lack some: disturbed
    cases are left out, and so is a run that lacks more than half of them, and a case that a side lacks altogether.
    """
    cells = [{c.case_id: c for c in run.cells if c.timed and not c.disturbed} for run in runs]
    ids = [i for i in ids if any(i in own for own in cells[:base]) and any(i in own for own in cells[base:])]
    if not ids:
        return [], []
    times = [[own[i].median if i in own else None for i in ids] for own in cells]
    logs = np.log(np.array(times, dtype=float))  # None becomes NaN, which stays in here
    known = ~np.isnan(logs)
    centre = (np.nanmean(logs[:base], axis=0) + np.nanmean(logs[base:], axis=0)) / 2
    sides: tuple[list[Replicate], list[Replicate]] = ([], [])
    for place, own in enumerate(cells):
        if 2 * known[place].sum() >= len(ids):
            canaries = [own[i].canary for i in ids if i in own]
            heard = None if None in canaries else float(np.exp(np.mean(np.log(np.array(canaries, dtype=float)))))
            mean = (logs[place] - centre)[known[place]].mean()
            sides[place >= base].append((float(np.exp(mean)), heard))
    return sides


def row_of(
    case_id: str, sides: Sequence[dict[str, list[Cell]]], judge: Judge, tests: int, other_limits: bool
) -> Compared:
    """One case's row."""
    cells = [side.get(case_id, []) for side in sides]
    base, new = (summary(own) for own in cells)
    before, after = (replicates(own) for own in cells)
    verdict = judge(before, after, tests, {kind_of(own[0]) for own in cells if own})
    if base is None or new is None or base.seconds is None or new.seconds is None:
        verdict = Verdict("undecided", None, reason="no time")
    elif not judge.same and not (before and after):
        verdict = replace(verdict, reason=f"disturbed in every run of {'new' if before else 'base'}")
    if base is None or new is None:
        changes = ["only in new" if base is None else "only in base"]
    else:
        names = EXACT if base.status == new.status else ("status",)  # without a status ok there is nothing else
        exact = ((name, getattr(base, name), getattr(new, name)) for name in names)
        changes = [f"{name} {old} -> {now}" for name, old, now in exact if old != now]
        if other_limits and changes and new.status in LIMITED:
            changes.append("under other limits")
    return Compared(case_id, (cells[0] or cells[1])[0].label, base, new, verdict, tuple(changes), other_limits)


def replicates(cells: Sequence[Cell]) -> list[Replicate]:
    """Seconds and canary of each run in which the case was not disturbed."""
    return [(cell.median, cell.canary) for cell in cells if cell.timed and cell.median and not cell.disturbed]


def summary(cells: Sequence[Cell]) -> Summary | None:
    """What one side knows of a case: its worst status and its largest bytes; None without a run."""
    if not cells:
        return None
    times = [cell.median for cell in cells if cell.timed and cell.median]
    return Summary(
        status=min((cell.status for cell in cells), key=WORST.index),
        seconds=float(np.median(times)) if times else None,
        bytes=max((cell.peak for cell in cells if cell.peak is not None), default=None),
        flops=max((flops for cell in cells if (flops := cell.cost("flops")) is not None), default=None),
        params=max((params for cell in cells if (params := cell.cost("params")) is not None), default=None),
        runs=len(cells),
        disturbed=sum(cell.disturbed for cell in cells),
    )


def with_twins(rows: Sequence[Compared], sides: Sequence[dict[str, list[Cell]]]) -> list[Compared]:
    """Rows of one side only say what the same test measures on the other: its configuration has changed."""
    tests = [{cells[0].test: cells[0] for cells in side.values()} for side in sides]
    named = []
    for row in rows:
        if row.base is None or row.new is None:
            own, others = (sides[0], tests[1]) if row.new is None else (sides[1], tests[0])
            cell = own[row.case_id][0]
            twin = others[cell.test].case if cell.test in others else cell.case
            changed = [
                f"{key}={value} for {twin.get(key)}" for key, value in cell.case.items() if value != twin.get(key)
            ]
            row = replace(row, changes=(f"{row.changes[0]}{': ' * bool(changed)}{', '.join(changed)}",))
        named.append(row)
    return named


def machine_differences(base: Sequence[Run], new: Sequence[Run]) -> tuple[str, ...]:
    """What differs between the first machine and settings of the base and any other, a line each."""
    first = base[0].machines[0]
    lines = {
        f"{key}: {first[key]} | {machine[key]}": None
        for run in (*base, *new)
        for machine in run.machines
        for key in first
        if machine[key] != first[key]
    }
    return tuple(lines)
