"""The machine of saved runs, and a table with one row a run."""

from collections import Counter
from typing import Any

import numpy as np

from attnlib.cases.text import size
from attnlib.compare.cells import Cells
from attnlib.compare.intervals import Estimate
from attnlib.runs.load import Run, processor
from attnlib.show.nodes import CANARY
from attnlib.show.table import Column, Table
from attnlib.show.units import duration, seconds, with_interval

RUN = {
    "run": Column(),
    "started": Column(),
    "command": Column(),
    "took": Column(duration, number=True),
    "cases": Column(),
    "disturbed": Column(number=True),
    "canary": Column(with_interval(seconds), number=True),
}


def machine(cells: Cells) -> dict[str, str]:
    """Return the description of the machine, without what was not saved."""
    info = cells.runs[0].data["machine_info"]
    ours: dict[str, Any] = info.get("attnlib") or {}
    device, versions = ours.get("device") or {}, ours.get("versions") or {}
    memory, flushed, quota = (ours.get(name) for name in ("memory_bytes", "flush_subnormals", "cpu_quota"))
    threads = f"{ours.get('threads')} of {ours.get('logical_cpus')} logical CPUs" if ours.get("threads") else None
    facts = {
        "operating system": " ".join(str(info[name]) for name in ("system", "release") if info.get(name)),
        "processor": processor(info),
        "device": device.get("name") or device.get("kind"),
        "driver": device.get("driver"),
        "torch": versions.get("torch"),
        "Python": ours.get("python"),
        "threads": f"{threads}, quota {quota}" if threads and quota else threads,
        "memory": size(memory) if memory else None,
        "subnormal numbers": None if flushed is None else "flushed to zero" if flushed else "kept",
    }
    return {name: str(value) for name, value in facts.items() if value}


def runs(cells: Cells) -> Table:
    """Return the table of runs: start, command, duration, statuses, disturbances and the canary's times."""
    return Table(RUN, [of_run(run) for run in cells.runs], after=[CANARY])


def of_run(run: Run) -> dict[str, Any]:
    """Return the row of a run."""
    ours = run.data["attnlib"]
    first = (ours.get("processes") or [{}])[0]
    statuses = Counter(cell.status for cell in run.cells)
    readings = run.canary_readings
    return {
        "run": run.name,
        "started": first.get("started") or run.data.get("datetime"),
        "command": " ".join(map(str, command)) if isinstance(command := ours.get("command"), list) else None,
        "took": ours.get("wall_s"),
        "cases": ", ".join(f"{count} {status}" for status, count in statuses.most_common()),
        "disturbed": sum(cell.disturbed for cell in run.cells),
        "canary": Estimate(*np.quantile(readings, [0.5, 0.05, 0.95]).tolist()) if readings else None,
    }
