"""Table of the time and memory of each switch against the base."""

from collections.abc import Sequence
from typing import Any

from attnlib.cases.text import size
from attnlib.live.switches import Worth
from attnlib.show.table import Column, Table
from attnlib.show.units import digits, seconds, with_interval

BYTES = Column(size, number=True)


def worths(found: Sequence[Worth], base: str) -> Table:
    """A row a switch: time over the base, exact peak, growth of the process.

    Args:
        found: the base first.
        base: its fields in words.
    """
    columns = {"switch": Column(), "time / base": Column(with_interval(digits(2)), number=True), "peak": BYTES}
    columns |= {"process": BYTES, "": Column(prose=True)}
    rows: list[dict[str, Any]] = []
    for worth in found:
        note = "" if worth.status == "ok" else worth.status
        if worth.compiled:
            numbers = ", ".join(
                f"{worth.compiled[n]} {n.replace('_', ' ')}" for n in ("graphs", "graph_breaks", "recompiles")
            )
            note = f"{note} compiled in {seconds(worth.compiled['seconds'])}: {numbers}".strip()
        rows.append(
            {"switch": worth.name, "time / base": worth.time, "peak": worth.peak, "process": worth.process, "": note}
        )
    after = [
        "time: 95 % t interval over pairs of fresh processes; process: by how much it grew, all allocators together"
    ]
    return Table(columns, rows, before=[f"base: {base}"], after=after)
