"""Cells of several runs of one machine, looked up by case, and their centre with an interval."""

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from attnlib.compare import pairs
from attnlib.compare.intervals import Estimate, t_interval
from attnlib.compare.nodes import apart
from attnlib.runs.find import chosen
from attnlib.runs.load import Cell, Run
from attnlib.runs.schema import Claim

TOKENS = "tokens a batch"
STEP = {"phase": "train_step", "denormals": "flush"}  # what most tables and figures show
AXES = {"seq_len", "depth", "pe"}  # by which tables and figures tell train steps apart


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
        self.question = max(steps, key=lambda test: steps[test], default=None) if len(steps) > 1 else None

    def where(self, **fields: Any) -> list[list[Cell]]:
        """Groups of one case's cells, one cell a run, whose case has these fields.

        Of train steps those of the test that has most of them: another question's would be points of the same line.
        """
        found = [
            c for c in self.by_id.values() if all(c[0].fields.get(name) == value for name, value in fields.items())
        ]
        if self.question is None or fields.get("phase") != "train_step":
            return found
        return [cells for cells in found if cells[0].question == self.question]

    def first(self, **fields: Any) -> list[Cell]:
        """The first case with these fields: its cells, one a run; none without such a case."""
        return next(iter(self.where(**fields)), [])

    def time(self, group: Sequence[Cell]) -> Estimate | None:
        """Seconds of a case with an interval, see ``attnlib.compare.pairs``; None where no run has a time."""
        return over_runs([own[group[0].case_id] for own in self.times if group and group[0].case_id in own])

    def reference_time(self, group: Sequence[Cell]) -> Estimate | None:
        """Seconds of the reference of a case; None where it was measured alone."""
        keys = {key for cell in group if (key := pairs.reference_of(cell))}
        return over_runs([own[key] for own in self.references for key in keys if key in own])

    def over_reference(self, group: Sequence[Cell]) -> Estimate | None:
        """A case's time over its reference's; None where it was measured alone."""
        return over_runs([found for cell in group if (found := pairs.over_reference(cell))])

    def ratio(self, group: Sequence[Cell], base: Sequence[Cell]) -> Estimate | None:
        """Seconds of a case over another's in the same run; None without both."""
        if not group or not base:
            return None
        found = []
        for run in self.runs:
            own = {cell.case_id: cell for cell in run.cells}
            one, other = own.get(group[0].case_id), own.get(base[0].case_id)
            if one and other and (estimate := pairs.ratio(one, other)):
                found.append(estimate)
        return over_runs(found)

    def axis(self, name: str, **fields: Any) -> list[Any]:
        """Values of a field among these cases, sorted, or in registry order where it has one."""
        values = {cells[0].fields[name] for cells in self.where(**fields)}
        order = self.names(name)
        return [v for v in order if v in values] if order else sorted(values)

    def names(self, axis: str) -> list[str]:
        """The names on an axis in registry order, of every run; none for an axis of numbers."""
        return list(dict.fromkeys(name for run in self.runs for name in run.data["attnlib"]["axes"].get(axis, ())))


def read_cells(paths: Sequence[Path]) -> tuple[Cells | None, list[str]]:
    """Read runs of one machine, the newest run if no path is given.

    Returns:
        their cells, or None without a good run; and a line for each file that was left out, or on how to make one.
    """
    runs, left_out = chosen(paths)
    ours = [run for run in runs if belong_together(run, runs[0])]
    left_out += [
        f"{run.path}: another machine or other settings than {runs[0].path}, left out"
        for run in runs
        if run not in ours
    ]
    if ours and (unlike := differing_fields(ours)):
        return None, [*left_out, f"unlike stacks cannot share a table or a figure: {unlike}; choose runs of one kind"]
    return (Cells(ours) if ours else None), left_out


def belong_together(run: Run, other: Run) -> bool:
    """Whether runs are of one machine, or both merged of machines of one kind."""
    return run.machines == other.machines or (run.merged and other.merged and run.kind == other.kind)


def differing_fields(runs: Sequence[Run]) -> str:
    """In which fields but the axes the train steps of one test differ from run to run; nothing where in none.

    A batch may differ where the tokens in it are the same. References may not differ at all.
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
                for name in cell.fields.keys() - AXES:
                    kind.setdefault(name, set()).add(cell.fields[name])
                kind.setdefault(TOKENS, set()).add(cell.case.batch_size * cell.case.seq_len)
        for test, kind in own.items():
            known = first.setdefault(test, kind)
            differ = [name for name in kind if name in known and name != TOKENS and kind[name] != known[name]]
            if kind[TOKENS] == known[TOKENS] and len(kind[TOKENS]) == 1:
                differ = [name for name in differ if name != "batch_size"]
            if differ:
                return ", ".join(f"{name} {values(known[name])} | {values(kind[name])}" for name in differ)
    return ""


def values(found: set[Any]) -> str:
    """The values of a field, in words."""
    return " and ".join(sorted(map(str, found)))


def over_runs(found: Sequence[Estimate]) -> Estimate | None:
    """One run's estimate as it is; of several runs the geometric mean with its 95 % t interval; None of none."""
    if len(found) < 2:
        return found[0] if found else None
    return Estimate(*np.exp(t_interval([float(np.log(estimate.value)) for estimate in found])).tolist())


def time_note(cells: Cells) -> str:
    """What the intervals of times are, and where times come from."""
    n = len(cells.runs)
    note = "95 % interval within this run" if n == 1 else f"95 % interval run to run, geometric mean of {n} runs"
    if any(cells.references):
        note += "; beside a reference a time is its ratio times the mean time of the reference"
    if len(cells.nodes) > 1:
        far = apart(cells.runs)
        note += f"; measured on {len(cells.nodes)} nodes" + (f", which differ: {far}" if far else "")
    return note


def interval_note(cells: Cells) -> str:
    """``time_note``, and whether something held a run up."""
    held_up = sum(cell.disturbed for run in cells.runs for cell in run.cells)
    return time_note(cells) + (f"; {held_up} times were disturbed" if held_up else "")


def measured(group: Sequence[Cell]) -> Cell:
    """The first of a case's cells that was measured, for what every run says alike; the first one where none was."""
    return next((cell for cell in group if cell.info), group[0])


def claims(group: Sequence[Cell]) -> dict[str, Claim]:
    """The claims of a check of gradients by name; the same in every run, so the first run's."""
    probe = next((cell.probe for cell in group if cell.probe), None)
    return {claim.name: claim for claim in probe.claims} if probe else {}


def points_along(cells: Cells, name: str, **fields: Any) -> list[tuple[float, list[Cell]]]:
    """Cases along one field, sorted."""
    groups = cells.where(**fields)
    return sorted(((group[0].fields[name], group) for group in groups), key=lambda point: point[0])


def fullest(cells: Cells, name: str, other: str) -> Any:
    """Return the value of ``other`` at which train steps have most values of ``name``, the middle one of several.

    A grid need not be whole: where a preset leaves the largest cells out, the middle depth lacks the longest lengths.

    Args:
        cells: with a train step at least.
        name: ``seq_len`` or ``depth``, along which a line is drawn.
        other: the other one.
    """
    counts = {value: len(cells.axis(name, **{other: value}, **STEP)) for value in cells.axis(other, **STEP)}
    return middle([value for value, count in counts.items() if count == max(counts.values())])


def middle(values: Sequence[Any]) -> Any:
    """The middle of an axis."""
    return values[len(values) // 2]
