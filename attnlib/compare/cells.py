"""Cells of several runs of one machine, by case, and their mean over the runs with an interval."""

from collections import Counter
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from attnlib.compare import pairs, speed
from attnlib.compare.intervals import Estimate, t_interval
from attnlib.compare.nodes import apart
from attnlib.errors import message
from attnlib.runs.find import chosen
from attnlib.runs.load import Cell, Run
from attnlib.runs.schema import Claim

TOKENS = "tokens a batch"
STEP = {"phase": "train_step", "denormals": "flush"}  # what most tables and figures show
AXES = frozenset({"seq_len", "depth", "pe"})  # by which tables and figures tell train steps apart


class Cells:
    """The cells of several runs of one machine, looked up by case."""

    def __init__(self, runs: Sequence[Run]) -> None:
        self.runs = runs
        self.times = [pairs.times(run.cells) for run in runs]  # by case id
        self.references = [pairs.pooled(run.cells) for run in runs]
        self.by_id: dict[str, list[Cell]] = {}
        for run in runs:
            for cell in run.cells:
                self.by_id.setdefault(cell.case_id, []).append(cell)
        steps = Counter(c.question for group in self.by_id.values() for c in group[:1] if c.case.phase == "train_step")
        self.nodes = {cell.node for run in runs for cell in run.cells if cell.node}
        # where several tests time train steps, tables and lines are those of the test that has the most
        self.question = max(steps, key=lambda test: steps[test], default=None) if len(steps) > 1 else None

    def where(self, **fields: Any) -> list[list[Cell]]:
        """Return the cells of each case with these fields: a list per case, with one cell a run.

        Of train steps only those of the test that has the most: another test's would be points on the same line.
        """
        found = [
            c for c in self.by_id.values() if all(c[0].fields.get(name) == value for name, value in fields.items())
        ]
        if self.question is None or fields.get("phase") != "train_step":
            return found
        return [cells for cells in found if cells[0].question == self.question]

    def first(self, **fields: Any) -> list[Cell]:
        """Return the cells of the first case with these fields, one a run; an empty list without such a case."""
        return next(iter(self.where(**fields)), [])

    def time(self, group: Sequence[Cell]) -> Estimate | None:
        """Return the seconds of a case with an interval, see ``attnlib.compare.pairs``; None if no run has a time."""
        return over_runs([own[group[0].case_id] for own in self.times if group and group[0].case_id in own])

    def reference_time(self, group: Sequence[Cell]) -> Estimate | None:
        """Return the seconds of a case's reference; None if the case was measured alone."""
        keys = {key for cell in group if (key := pairs.reference_of(cell))}
        return over_runs([own[key] for own in self.references for key in keys if key in own])

    def over_reference(self, group: Sequence[Cell]) -> Estimate | None:
        """Return the ratio of a case's time to its reference's; None if it was measured alone."""
        return over_runs([found for cell in group if (found := pairs.over_reference(cell))])

    def ratio(self, group: Sequence[Cell], base: Sequence[Cell]) -> Estimate | None:
        """Return the ratio of a case's time to another's in the same run; None if no run has both."""
        if not group or not base:
            return None
        found = []
        for run in self.runs:  # within each run: between two of them the machine changes its speed
            own = {cell.case_id: cell for cell in run.cells}
            one, other = own.get(group[0].case_id), own.get(base[0].case_id)
            if one and other and (estimate := pairs.ratio(one, other)):
                found.append(estimate)
        return over_runs(found)

    def axis(self, name: str, **fields: Any) -> list[Any]:
        """Return the values of a field among these cases, sorted, or in registry order if there is one."""
        values = {cells[0].fields[name] for cells in self.where(**fields)}
        order = self.names(name)
        return [v for v in order if v in values] if order else sorted(values)

    def names(self, axis: str) -> list[str]:
        """Return the names on an axis in registry order, from all runs; an empty list for an axis of numbers."""
        return list(dict.fromkeys(name for run in self.runs for name in run.data["attnlib"]["axes"].get(axis, ())))


def read_cells(paths: Sequence[Path]) -> tuple[Cells | None, list[str]]:
    """Read runs of one machine, the newest run if no path is given.

    Returns:
        their cells, or None without a good run or if the runs cannot share a table; and a line for each file that was
        left out, or on how to make a run.
    """
    runs, left_out = chosen(paths)
    ours = [run for run in runs if belong_together(run, runs[0])]
    left_out += [
        message(f"{run.path}: another machine or other settings than {runs[0].path}, left out")
        for run in runs
        if run not in ours
    ]
    if ours and (unlike := differing_fields(ours)):
        wrong = f"unlike stacks cannot share a table or a figure: {unlike}"
        return None, [*left_out, message(wrong, do="choose runs of one kind")]
    return (Cells(ours) if ours else None), left_out


def belong_together(run: Run, other: Run) -> bool:
    """Return True if two runs are of one machine, or both were merged from machines of one kind."""
    return run.machines == other.machines or (run.merged and other.merged and run.kind == other.kind)


def differing_fields(runs: Sequence[Run], free: Collection[str] = AXES) -> str:
    """Return the fields, except ``free``, in which train steps of a test differ between runs; an empty text if in none.

    Batch sizes may differ if the tokens a batch are the same. References may not differ at all.
    """
    references = {pairs.fields_in_words(cell.ratio.reference) for run in runs for cell in run.cells if cell.ratio}
    if len(references) > 1:
        return f"reference {' | '.join(sorted(references))}"
    first: dict[str, dict[str, set[Any]]] = {}
    for run in runs:
        own: dict[str, dict[str, set[Any]]] = {}
        for cell in run.cells:
            if cell.case.phase == "train_step":
                kind = own.setdefault(cell.question, {})
                for name in cell.fields.keys() - free:
                    kind.setdefault(name, set()).add(cell.fields[name])
                kind.setdefault(TOKENS, set()).add(cell.case.batch_size * cell.case.seq_len)
        for test, kind in own.items():
            # the first run that has the test says what it is; a field that one run lacks is no difference
            known = first.setdefault(test, kind)
            differ = [name for name in kind if name in known and name != TOKENS and kind[name] != known[name]]
            if kind[TOKENS] == known[TOKENS] and len(kind[TOKENS]) == 1:
                differ = [name for name in differ if name != "batch_size"]
            if differ:
                return ", ".join(f"{name} {values(known[name])} | {values(kind[name])}" for name in differ)
    return ""


def values(found: set[Any]) -> str:
    """Return the values of a field in words."""
    return " and ".join(sorted(map(str, found)))


def over_runs(found: Sequence[Estimate]) -> Estimate | None:
    """Return one run's estimate as it is, or several runs' geometric mean with its 95 % t interval; None of none."""
    if len(found) < 2:
        return found[0] if found else None
    # of logarithms, since errors multiply; the runs' own intervals do not know what changes from run to run
    return Estimate(*np.exp(t_interval([float(np.log(estimate.value)) for estimate in found])).tolist())


def kind_of_interval(cells: Cells) -> str:
    """Return a note that says what the intervals of times and ratios are."""
    n, far = len(cells.runs), speed.spread(cells.runs)
    note = "95 % interval within this run" if n == 1 else f"95 % interval run to run, geometric mean of {n} runs"
    return note if far is None else f"{note}; the machine's speed changed: {far}"


def time_note(cells: Cells) -> str:
    """Return a note that says what the intervals of times are, and where times come from."""
    note = kind_of_interval(cells)
    if any(cells.references):
        note += "; beside a reference a time is its ratio times the mean time of the reference"
    if len(cells.nodes) > 1:
        far = apart(cells.runs)
        note += f"; measured on {len(cells.nodes)} nodes" + (f", which differ: {far}" if far else "")
    return note


def interval_note(cells: Cells) -> str:
    """Return ``time_note`` and the number of times that were disturbed."""
    held_up = sum(cell.disturbed for run in cells.runs for cell in run.cells)
    return time_note(cells) + (f"; {held_up} times were disturbed" if held_up else "")


def measured(group: Sequence[Cell]) -> Cell:
    """Return the first of a case's cells that was measured, for fields that all runs share, or else the first."""
    return next((cell for cell in group if cell.info), group[0])


def claims(group: Sequence[Cell]) -> dict[str, Claim]:
    """Return the claims of a check of gradients by name, those of the first run, as all runs have the same."""
    probe = next((cell.probe for cell in group if cell.probe), None)
    return {claim.name: claim for claim in probe.claims} if probe else {}


def points_along(cells: Cells, name: str, **fields: Any) -> list[tuple[float, list[Cell]]]:
    """Return the values of a field with the cells of the case that has each, sorted by value."""
    groups = cells.where(**fields)
    return sorted(((group[0].fields[name], group) for group in groups), key=lambda point: point[0])


def fullest(cells: Cells, name: str, other: str) -> Any:
    """Return the value of ``other`` at which train steps have most values of ``name``, the middle one of several.

    A grid need not be whole: where a preset leaves the largest cells out, the middle depth lacks the longest lengths.

    Args:
        cells: with a train step at least.
        name: ``seq_len`` or ``depth``, along which a line is drawn.
        other: the other of these two fields.
    """
    counts = {value: len(cells.axis(name, **{other: value}, **STEP)) for value in cells.axis(other, **STEP)}
    return middle([value for value, count in counts.items() if count == max(counts.values())])


def middle(values: Sequence[Any]) -> Any:
    """Return the middle value of an axis, the later one of two."""
    return values[len(values) // 2]
