"""Comparison of two sets of runs: a run is one replicate, exact figures compare exactly, times may be undecided."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from attnlib.compare import speed
from attnlib.compare.beside import by_test
from attnlib.compare.comparison import LIMITED, WORST, Compared, Comparison, Summary
from attnlib.compare.pairs import fields_in_words, over_reference
from attnlib.compare.quantities import RATIO, REFERENCE, Quantity, Readings, of_group, readings
from attnlib.compare.verdicts import Prior, Replicate, Verdict, between_runs, prior
from attnlib.errors import message
from attnlib.runs.find import check_agreement
from attnlib.runs.load import Cell, Run
from attnlib.runs.schema import BesideRow

MIN_RUNS = 6  # a side, undisturbed: with fewer the spread between runs is hardly known
FEW = 3  # undisturbed ones, where sides are of MIN_RUNS, for a ratio
ERROR = 0.05  # chance of any false verdict: half of it is shared by the phases, half by the cases
THRESHOLDS = {"cpu": 0.05}
THRESHOLD = 0.02  # of any other device
DRIFT = 0.03  # of the canary from side to side, or the threshold where that is smaller
# options that choose cases
SELECTING = ("--preset", "--pe", "--seq-lens", "--depths", "--fixed-depth", "--fixed-seq-len", "-k")
DRIFTED = "the machine drifted"
LIMITS = ("--memory-limit", "--case-timeout")  # options that end them
EXACT = ("status", "bytes", "flops", "params")  # compared exactly


@dataclass(frozen=True)
class Judge:
    """Maker of verdicts: always ``same`` if both sides are the same runs, else ``undecided`` if there is a reason.

    ``threshold`` None stands for the default of the cases' devices. A machine that drifted leaves seconds undecided,
    but not ratios, whose two sides it slowed alike. If the speed changed by ``speed.FAR``, ratios are undecided too.
    """

    threshold: float | None
    same: bool
    reason: str | None
    drifted: str | None
    spread: dict[str, Prior]  # of ratios, by case id

    def __call__(self, base: Sequence[Replicate], new: Sequence[Replicate], of: set[Quantity], tests: int) -> Verdict:
        """Return the verdict on these quantities, which is one of ``tests`` tests that share an error probability."""
        if self.same:
            return Verdict("same", 1.0, 1.0, 1.0, runs=(len(base), len(new)))
        ratios = all(q.kind == RATIO for q in of)
        enough = min(len(base), len(new)) >= (FEW if ratios else MIN_RUNS)
        short = None if enough else f"{a_side(len(base), len(new))} undisturbed"
        drifted = None if ratios else self.drifted
        confidence = 1 - ERROR / 2 / max(1, tests)
        threshold = self.threshold or max(THRESHOLDS.get(q.device, THRESHOLD) for q in of)
        reason = self.reason or drifted or short
        others = self.spread.get(next(iter(of)).key) if ratios and len(of) == 1 else None
        return between_runs(base, new, confidence=confidence, threshold=threshold, reason=reason, others=others)


def compare(
    base: Sequence[Run], new: Sequence[Run], *, threshold: float | None = None, force: bool = False
) -> Comparison:
    """Compare two sets of runs; if both are the same runs, each verdict is ``same`` and each ratio exactly 1.

    Args:
        base: runs before.
        new: runs after.
        threshold: smallest change of time that matters; None is 0.05 on a CPU and 0.02 elsewhere.
        force: give verdicts although the machines, their settings or their speed differ.

    Raises:
        ValueError: see ``are_same``, **or** no run has a case.
    """
    if not any(run.cells or run.beside for run in (*base, *new)):
        raise ValueError(message("no cases in these runs", do="name other runs"))
    same = are_same(base, new)
    shown = threshold or THRESHOLDS.get(base[0].device_kind, THRESHOLD)
    cells = by_case(base), by_case(new)
    if same:
        met = Conditions(machine_differences(base, new))
    else:
        met = conditions(base, new, cells, min(DRIFT, shown), force=force)
    runs, n = readings([*base, *new], disturbed=same), len(base)
    before, after = ({quantity for own in side for quantity in own} for side in (runs[:n], runs[n:]))
    shared = sorted(before & after)
    groups = {name: [q for q in shared if q.group == name] for name in dict.fromkeys(q.group for q in shared)}
    judge = Judge(threshold, same, met.reason, met.drifted, spread_of_ratios(shared, runs, n, widths_of([*base, *new])))
    phases = {name: judge(*of_group(of, runs, n), set(of), len(groups)) for name, of in groups.items()}
    verdicts = {q: judge(*replicates(q, runs, n), {q}, len(shared)) for q in shared}
    limits = bool(said(new, LIMITS) - said(base, LIMITS))
    of_case = {q.key: (q, verdict) for q, verdict in verdicts.items() if q.kind != REFERENCE}
    rows = [row_of(case_id, cells, of_case.get(case_id), limits) for case_id in {**cells[0], **cells[1]}]
    rows = with_twins(rows, cells) + rows_beside(base, new, of_case)
    own = [row_of_reference(q, replicates(q, runs, n), v) for q, v in verdicts.items() if q.kind == REFERENCE]
    selected = bool(said(new, SELECTING, paths=True) - said(base, SELECTING, paths=True))
    return Comparison(
        phases,
        tuple(rows),
        tuple(own),
        met.machine,
        met.notes,
        selected,
        met.drift,
        shown,
        (len(groups), len(shared)),
        changes=tuple(changed_parts(base, new)),
    )


@dataclass(frozen=True)
class Conditions:
    """How the machine differs between two sides, and why that leaves numbers undecided.

    Args:
        machine: differences between the machines or their settings, a line each.
        drift: verdict on the canary.
        reason: reason why no number can be decided; None if some may be.
        drifted: reason why seconds cannot be decided; None if they may be.
        notes: lines for the reader.
    """

    machine: tuple[str, ...] = ()
    drift: Verdict | None = None
    reason: str | None = None
    drifted: str | None = None
    notes: tuple[str, ...] = ()


def conditions(
    base: Sequence[Run],
    new: Sequence[Run],
    cells: Sequence[dict[str, list[Cell]]],
    threshold: float,
    *,
    force: bool,
) -> Conditions:
    """Return the conditions of two sides of different runs.

    Args:
        base: runs before.
        new: runs after.
        cells: cells of either side by case.
        threshold: smallest change of the canary that matters.
        force: give no reason that lies in the machines, their settings or their speed.
    """
    machine = machine_differences(base, new)
    changed = speed.change(*([speed.of_run(run) for run in side] for side in (base, new)))
    drift = canary(base, new, threshold)
    reason = why_not(len(base), len(new), () if force else machine, None if force else changed)
    drifted = None if reason else against_seconds(drift, () if force else cells)
    notes = [note for note in (reason, drifted) if note]
    forced = ["the machines or their settings differ"] * bool(machine)
    forced += [f"the speed of the machine changed: {changed}"] * (changed is not None)
    if force and forced:
        notes.append(f"forced: verdicts are given although {' and '.join(forced)}")
    return Conditions(machine, drift, reason, drifted, tuple(notes))


def are_same(base: Sequence[Run], new: Sequence[Run]) -> bool:
    """Return True if both sides are the very same runs.

    Raises:
        ValueError: a run is on both sides, but not all of them are, **or** its files there say different numbers.
    """
    sides = [{run.token: run for run in side} for side in (base, new)]
    both = sides[0].keys() & sides[1].keys()
    for token in both:
        check_agreement([side[token] for side in sides])
    if both and sides[0].keys() != sides[1].keys():
        twice = min(sides[0][token].path.name for token in both)
        raise ValueError(message(f"{twice} is on both sides", do="name it on one"))
    return bool(both)


def changed_parts(base: Sequence[Run], new: Sequence[Run]) -> list[str]:
    """Return a line for each part that is not attnlib's and whose version or source file changed from base to new."""
    sides: list[dict[str, set[str]]] = []
    for runs in (base, new):
        found: dict[str, set[str]] = {}
        for part in (part for run in runs for cell in run.cells for part in cell.parts.values()):
            found.setdefault(part.name, set()).add(f"{part.version or 'no version'}, source {part.source or 'unknown'}")
        sides.append(found)
    before, after = ({name: " and ".join(sorted(words)) for name, words in side.items()} for side in sides)
    return [
        f"{name} changed: {before[name]} -> {after[name]}"
        for name in before
        if name in after and before[name] != after[name]
    ]


def said(runs: Sequence[Run], options: Sequence[str], *, paths: bool = False) -> set[str]:
    """Return those options that the runs' commands have, with values; with ``paths`` also names of test paths."""
    found = set()
    for run in runs:
        command = run.data["attnlib"].get("command") or []
        words = [str(word) for word in command[1:]] if isinstance(command, list) else []
        found |= {word for word in words if word.partition("=")[0] in options}
        names = {word.rstrip("/").rpartition("/")[2] for word in words if not word.startswith("-")}
        found |= names - {"bench", ""} if paths else set()
    return found


def a_side(base: int, new: int) -> str:
    """Return the number of runs in words: ``3 runs a side`` or ``3 and 6 runs a side``."""
    return f"{base} run{'s' * (base != 1)} a side" if base == new else f"{base} and {new} runs a side"


def why_not(base: int, new: int, machine: Sequence[str], changed: str | None) -> str | None:
    """Return the reason why no number can be decided at all; None if some may be.

    Args:
        base: number of runs.
        new: number of runs.
        machine: differences between the machines or their settings.
        changed: how the speed of the machine changed, in words.
    """
    if machine:
        return "another machine or other settings (--force decides all the same)"
    if min(base, new) < MIN_RUNS:
        return f"{a_side(base, new)}, {MIN_RUNS} are needed"
    if changed:
        return f"the machine had another speed in new: {changed} (--force decides ratios all the same)"
    return None


def has_drifted(drift: Verdict) -> bool:
    """Return True if the interval of the canary's change excludes 1 and is not wholly within its threshold."""
    return bool(drift.low and drift.high and drift.word != "same" and not drift.low <= 1 <= drift.high)


def canary(base: Sequence[Run], new: Sequence[Run], threshold: float) -> Verdict | None:
    """Return the verdict on the canary's change from side to side, at 95 %; None unless two runs a side have one."""
    before, after = ([(run.canary, None) for run in side if run.canary is not None] for side in (base, new))
    if min(len(before), len(after)) < 2:
        return None
    return between_runs(before, after, confidence=0.95, threshold=threshold)


def by_case(runs: Sequence[Run]) -> dict[str, list[Cell]]:
    """Return the cells by case, one a run."""
    cells: dict[str, list[Cell]] = {}
    for run in runs:
        for cell in run.cells:
            cells.setdefault(cell.case_id, []).append(cell)
    return cells


def row_of(
    case_id: str,
    sides: Sequence[dict[str, list[Cell]]],
    judged: tuple[Quantity, Verdict] | None,
    other_limits: bool,
) -> Compared:
    """Return the row of a case in the comparison."""
    cells = [side.get(case_id, []) for side in sides]
    quantity, verdict = judged or (None, Verdict("undecided", None, reason="no time"))
    base, new = (summary(own, quantity) for own in cells)
    if judged is None and base is not None and new is not None and base.value is not None and new.value is not None:
        lacking = "new" if any(not cell.disturbed for cell in cells[0] if cell.timed) else "base"
        verdict = replace(verdict, reason=f"disturbed in every run of {lacking}")
    if base is None or new is None:
        changes = ["only in new" if base is None else "only in base"]
    else:
        names = EXACT if base.status == new.status else ("status",)  # without a status ok there is nothing else
        exact = ((name, getattr(base, name), getattr(new, name)) for name in names)
        changes = [f"{name} {old} -> {now}" for name, old, now in exact if old != now]
        if other_limits and changes and new.status in LIMITED:
            changes.append("under other limits")
    return Compared(case_id, (cells[0] or cells[1])[0].label, base, new, verdict, tuple(changes), other_limits)


def rows_beside(base: Sequence[Run], new: Sequence[Run], judged: dict[str, tuple[Quantity, Verdict]]) -> list[Compared]:
    """Return the row of each call that was measured beside another one, in either side's runs.

    Args:
        base: runs before.
        new: runs after.
        judged: verdicts by test.
    """
    sides = by_test(base), by_test(new)
    found = []
    for test in {**sides[0], **sides[1]}:
        own = [side.get(test, []) for side in sides]
        before, after = (summary_beside(rows) for rows in own)
        verdict = judged[test][1] if test in judged else Verdict("undecided", None, reason="no ratio")
        if before is None or after is None:
            changes = ["only in new" if before is None else "only in base"]
        else:
            exact = ((name, getattr(before, name), getattr(after, name)) for name in ("status", "bytes"))
            changes = [f"{name} {old} -> {now}" for name, old, now in exact if old != now]
        label = (own[0] or own[1])[0].label
        found.append(Compared(test, label, before, after, verdict, tuple(changes), other_limits=False))
    return found


def summary_beside(rows: Sequence[BesideRow]) -> Summary | None:
    """Return one side's summary of a call that was measured beside another one; None without a run."""
    if not rows:
        return None
    found = [row.found for row in rows if row.found]
    peaks = [int(one.peak.value) for one in found if one.peak.value is not None]
    return Summary(
        status=min((row.status for row in rows), key=WORST.index),
        value=float(np.median([one.ratio.value for one in found])) if found else None,
        reference="its reference" if found else None,
        bytes=max(peaks, default=None),
        runs=len(rows),
        disturbed=sum(one.disturbed * 2 > len(one.log_ratios) for one in found),
    )


def row_of_reference(quantity: Quantity, sides: Sequence[Sequence[Replicate]], verdict: Verdict) -> Compared:
    """Return the row of a reference's own time, which changes from run to run with the machine."""
    base, new = (Summary("ok", float(np.median([seconds for seconds, _ in side]))) for side in sides)
    return Compared(quantity.key, quantity.label, base, new, verdict, (), other_limits=False)


def spread_of_ratios(
    quantities: Sequence[Quantity], runs: Sequence[Readings], base: int, widths: dict[str, float]
) -> dict[str, Prior]:
    """Return the expected variance of each ratio between runs: that of all, in proportion to its interval squared.

    Args:
        quantities: those that both sides have.
        runs: values of each run, those of the base first.
        base: number of the base's runs.
        widths: half-width of each case's interval within a run, see ``widths_of``.
    """
    found = []
    for q in quantities:
        for side in replicates(q, runs, base) if widths.get(q.key) else ():
            if len(side) > 1:
                found.append((float(np.var(np.log([ratio for ratio, _ in side]), ddof=1)) / widths[q.key] ** 2, side))
    shared = prior([variance for variance, _ in found], [len(side) - 1 for _, side in found])
    return {} if shared is None else {key: Prior(shared.variance * w**2, shared.freedoms) for key, w in widths.items()}


def widths_of(runs: Sequence[Run]) -> dict[str, float]:
    """Return the mean half-width of the interval of each case's log ratio within a run, by case id or test."""
    found: dict[str, list[float]] = {}
    for cell in (cell for run in runs for cell in run.cells):
        if estimate := over_reference(cell):
            found.setdefault(cell.case_id, []).append(float(np.log(estimate.high / estimate.low)) / 2)
    for test, ratio in ((row.test, row.found.ratio) for run in runs for row in run.beside if row.found):
        found.setdefault(test, []).append(float(np.log(ratio.high / ratio.low)) / 2)
    return {case_id: float(np.mean(own)) for case_id, own in found.items()}


def replicates(quantity: Quantity, runs: Sequence[Readings], base: int) -> tuple[list[Replicate], list[Replicate]]:
    """Return the values of a quantity in the runs of either side, base and new."""
    before, after = ([own[quantity] for own in side if quantity in own] for side in (runs[:base], runs[base:]))
    return before, after


def summary(cells: Sequence[Cell], quantity: Quantity | None) -> Summary | None:
    """Return one side's summary of a case, with its worst status and its largest bytes; None without a run."""
    if not cells:
        return None
    timed = [cell for cell in cells if cell.timed and cell.median]
    ratio = quantity is not None and quantity.kind == RATIO
    values = [cell.ratio.value if ratio and cell.ratio and cell.ratio.value else cell.median or 0.0 for cell in timed]
    return Summary(
        status=min((cell.status for cell in cells), key=WORST.index),
        value=float(np.median(values)) if values else None,
        reference=fields_in_words(timed[0].ratio.reference) if ratio and timed[0].ratio else None,
        bytes=max((cell.peak for cell in cells if cell.peak is not None), default=None),
        flops=max((flops for cell in cells if (flops := cell.cost.flops) is not None), default=None),
        params=max((params for cell in cells if (params := cell.cost.params) is not None), default=None),
        runs=len(cells),
        disturbed=sum(cell.disturbed for cell in cells),
    )


def with_twins(rows: Sequence[Compared], sides: Sequence[dict[str, list[Cell]]]) -> list[Compared]:
    """Return the rows; those of one side only name the fields in which the same test's case differs on the other."""
    tests = [{cells[0].test: cells[0] for cells in side.values()} for side in sides]
    named = []
    for row in rows:
        if row.base is None or row.new is None:
            own, others = (sides[0], tests[1]) if row.new is None else (sides[1], tests[0])
            cell = own[row.case_id][0]
            twin = others[cell.test].fields if cell.test in others else cell.fields
            changed = [
                f"{key}={value} for {twin.get(key)}" for key, value in cell.fields.items() if value != twin.get(key)
            ]
            row = replace(row, changes=(f"{row.changes[0]}{': ' * bool(changed)}{', '.join(changed)}",))
        named.append(row)
    return named


def machine_differences(base: Sequence[Run], new: Sequence[Run]) -> tuple[str, ...]:
    """Return the differences between the base's first machine and settings and all others, a line each.

    Merged runs may differ in their places, see ``against_seconds``.
    """
    first = base[0].kind if all(run.merged for run in (*base, *new)) else base[0].machines[0]
    lines = {
        f"{key}: {first[key]} | {machine[key]}": None
        for run in (*base, *new)
        for machine in run.machines
        for key in first
        if machine[key] != first[key]
    }
    return tuple(lines)


def against_seconds(drift: Verdict | None, sides: Sequence[dict[str, list[Cell]]]) -> str | None:
    """Return the reason why seconds cannot be decided, unlike ratios, whose rounds alternate on one node; else None.

    Args:
        drift: verdict on the canary.
        sides: cells of either side by case, which must have been measured on the same nodes; empty to leave that out.
    """
    nodes = [{case_id: {cell.node for cell in own if cell.timed} for case_id, own in side.items()} for side in sides]
    pairs = [(own, nodes[1].get(case_id)) for case_id, own in nodes[0].items()] if nodes else []
    moved = sum(bool(before and after and before != after) for before, after in pairs)
    if moved:
        return f"{moved} cases were measured on other nodes"
    return DRIFTED if drift is not None and has_drifted(drift) else None
