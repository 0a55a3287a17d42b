"""Where saved runs come from: the machine, and a row a run."""

from collections import Counter
from typing import Any

import numpy as np

from attnlib.cases.text import size
from attnlib.compare.cells import Cells
from attnlib.compare.intervals import Estimate
from attnlib.runs.load import Run
from attnlib.show.nodes import CANARY
from attnlib.show.table import Column, Table
from attnlib.show.units import duration, seconds, with_interval

FACTS = (
    "operating system",
    "processor",
    "device",
    "driver",
    "torch",
    "Python",
    "threads",
    "memory",
    "subnormal numbers",
)
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
    """What names the machine, in words; what was not saved is left out."""
    info = cells.runs[0].data["machine_info"]
    ours: dict[str, Any] = info.get("attnlib") or {}
    device, versions = ours.get("device") or {}, ours.get("versions") or {}
    memory, flushed, quota = (ours.get(name) for name in ("memory_bytes", "flush_subnormals", "cpu_quota"))
    threads = f"{ours.get('threads')} of {ours.get('logical_cpus')} logical CPUs" if ours.get("threads") else None
    values = (
        " ".join(str(info[name]) for name in ("system", "release") if info.get(name)),
        (info.get("cpu") or {}).get("brand_raw"),
        device.get("name") or device.get("kind"),
        device.get("driver"),
        versions.get("torch"),
        ours.get("python"),
        f"{threads}, quota {quota}" if threads and quota else threads,
        size(memory) if memory else None,
        None if flushed is None else "flushed to zero" if flushed else "kept",
    )
    return {name: str(value) for name, value in zip(FACTS, values, strict=True) if value}


def runs(cells: Cells) -> Table:
    """One row a run: when, by which command, how long, what became of its cases, and how steady the machine was."""
    return Table(RUN, [of_run(run) for run in cells.runs], after=[CANARY])


def of_run(run: Run) -> dict[str, Any]:
    """The row of a run."""
    ours = run.data["attnlib"]
    first = (ours.get("processes") or [{}])[0]
    statuses = Counter(cell.status for cell in run.cells)
    heard = run.canary_readings
    return {
        "run": run.name,
        "started": first.get("started") or run.data.get("datetime"),
        "command": " ".join(map(str, command)) if isinstance(command := ours.get("command"), list) else None,
        "took": ours.get("wall_s"),
        "cases": ", ".join(f"{count} {status}" for status, count in statuses.most_common()),
        "disturbed": sum(cell.disturbed for cell in run.cells),
        "canary": Estimate(*np.quantile(heard, [0.5, 0.05, 0.95]).tolist()) if heard else None,
    }
