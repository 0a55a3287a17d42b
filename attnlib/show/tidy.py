"""Saved runs as tidy rows: one a case and run, a column a number, for data frames, spreadsheets and trackers."""

from collections.abc import Sequence
from typing import Any

from attnlib.compare import pairs
from attnlib.runs.load import Cell, Run


def tidy(runs: Sequence[Run]) -> list[dict[str, Any]]:
    """A row for each planned case of each run, all with the same columns; what was not measured is None.

    Columns: ``run``, ``node``, ``case_id``, ``test``, ``status``, ``reason``, the fields of the case, seconds
    (``median_s`` of its own rounds; ``time_s``, from its ratio where it has one, with ``low_s`` and ``high_s``),
    ``over_reference`` with its interval, bytes, joules, FLOPs, parameters, whether it was ``disturbed``, and
    of a training its accuracies.
    """
    found: list[dict[str, Any]] = []
    for run in runs:
        times = pairs.times(run.cells)
        found += [row_of(run, cell, times) for cell in run.cells]
    columns = dict.fromkeys(name for row in found for name in row)
    return [{name: row.get(name) for name in columns} for row in found]


def row_of(run: Run, cell: Cell, times: dict[str, Any]) -> dict[str, Any]:
    """The row of a case."""
    time = times.get(cell.case_id) if cell.timed else None
    over, training = pairs.over_reference(cell), cell.training
    head = {
        "run": run.name,
        "node": cell.node,
        "case_id": cell.case_id,
        "test": cell.test,
        "status": cell.status,
        "reason": cell.reason,
    }
    return (
        head
        | cell.fields
        | head
        | {  # first in order, and no field of a case takes their place
            "rounds": len(cell.samples) if cell.timed else None,
            "median_s": cell.median if cell.timed else None,
            "time_s": time.value if time else None,
            "low_s": time.low if time else None,
            "high_s": time.high if time else None,
            "reference": pairs.fields_in_words(cell.ratio.reference) if cell.ratio else None,
            "over_reference": over.value if over else None,
            "over_low": over.low if over else None,
            "over_high": over.high if over else None,
            "peak_bytes": cell.peak,
            "predicted_bytes": cell.predicted,
            "energy_j": cell.joules,
            "flops": cell.cost.flops,
            "parameters": cell.cost.params,
            "disturbed": cell.disturbed if cell.timed else None,
            **{f"{p}_accuracy": training.accuracy(p) if training else None for p in ("train", "validation", "test")},
        }
    )
