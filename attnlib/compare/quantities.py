"""Quantities that a comparison of runs judges: ratios over a reference, the references' times, and times alone."""

import json
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from attnlib.compare import pairs
from attnlib.compare.comparison import OVER
from attnlib.compare.verdicts import Replicate
from attnlib.runs.load import Cell, Run
from attnlib.runs.schema import BesideRow, label_of

RATIO, REFERENCE, TIME = "ratio", "reference", "time"


class Quantity(NamedTuple):
    """A quantity that is judged, of a case or a reference, and the group that is judged as a whole."""

    group: str  # as "train_step over its reference"
    kind: str  # RATIO, REFERENCE or TIME
    key: str  # id of a case, or the fields of a reference
    label: str
    device: str  # its kind


Readings = dict[Quantity, Replicate]  # of one run: the number, and seconds of the canary around it


def readings(runs: Sequence[Run], *, disturbed: bool = False) -> list[Readings]:
    """Return the value of each quantity in each run; disturbed cases are left out unless ``disturbed`` is True.

    The value is the ratio if every run measured the case beside the same reference, else the median of its rounds.
    """
    references: dict[str, set[str | None]] = {}
    for cell in (cell for run in runs for cell in run.cells if cell.timed):
        fields = json.dumps(cell.ratio.reference, sort_keys=True) if cell.ratio else None
        references.setdefault(cell.case_id, set()).add(fields)
    paired = {case_id for case_id, own in references.items() if len(own) == 1 and None not in own}
    return [
        _of_run([cell for cell in run.cells if cell.timed and (disturbed or not cell.disturbed)], paired)
        | {quantity_of(row): (row.found.ratio.value, None) for row in run.beside if row.found}
        for run in runs
    ]


def quantity_of(row: BesideRow) -> Quantity:
    """Return the quantity of a call that was measured beside another one: its ratio, known by its test."""
    device = row.found.device.partition(":")[0] if row.found else "cpu"
    return Quantity(row.question.rpartition("::")[2] + OVER, RATIO, row.test, row.label, device)


def _of_run(usable: Sequence[Cell], paired: set[str]) -> Readings:
    found: Readings = {}
    visits: dict[pairs.Key, list[Cell]] = {}
    for cell in usable:
        phase, ratio, key = cell.case.phase, pairs.over_reference(cell), pairs.reference_of(cell)
        name = cell.case_id, cell.label, kind_of(cell)
        if ratio is None or key is None or cell.case_id not in paired:
            found[Quantity(phase, TIME, *name)] = (cell.median or 0.0, cell.canary)
        else:
            found[Quantity(phase + OVER, RATIO, *name)] = (ratio.value, None)
            visits.setdefault(key, []).append(cell)
    times = pairs.pooled(cell for own in visits.values() for cell in own)
    for key, own in visits.items():
        heard = [cell.canary for cell in own if cell.canary is not None]
        canary = float(np.mean(heard)) if len(heard) == len(own) else None
        case, device = dict(key), kind_of(own[0])
        name = json.dumps(case | {"device": device}), f"reference: {label_of(case)}", device
        found[Quantity(f"{case['phase']}, the references", REFERENCE, *name)] = (times[key].value, canary)
    return found


def kind_of(cell: Cell) -> str:
    """Return the kind of device that a case runs on."""
    return cell.case.device.partition(":")[0]


def of_group(
    quantities: Sequence[Quantity], runs: Sequence[Readings], base: int
) -> tuple[list[Replicate], list[Replicate]]:
    """Return geometric means over these quantities and over their canaries, one pair a run, for base and new.

    Each quantity counts relative to the middle between its means on the two sides, so that a run may lack some; a run
    that lacks more than half of them is left out.

    Args:
        quantities: those of one group; each is in at least one run of either side.
        runs: values of each run, those of the base first.
        base: number of the base's runs.
    """
    values = [[own[q][0] if q in own else None for q in quantities] for own in runs]
    logs = np.log(np.array(values, dtype=float))  # None becomes NaN, which stays in here
    known = ~np.isnan(logs)
    centre = (np.nanmean(logs[:base], axis=0) + np.nanmean(logs[base:], axis=0)) / 2
    sides: tuple[list[Replicate], list[Replicate]] = ([], [])
    for place, own in enumerate(runs):
        if 2 * known[place].sum() >= len(quantities):
            canaries = [own[q][1] for q in quantities if q in own]
            heard = None if None in canaries else float(np.exp(np.mean(np.log(np.array(canaries, dtype=float)))))
            mean = (logs[place] - centre)[known[place]].mean()
            sides[place >= base].append((float(np.exp(mean)), heard))
    return sides
