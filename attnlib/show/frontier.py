"""Tables of the longest sequence and the deepest stack within some memory, as plain integers."""

from collections.abc import Mapping, Sequence
from typing import Any

from attnlib.cases.text import size
from attnlib.show.table import Column, Table

NUMBER = Column(number=True)
BYTES = Column(lambda value: f"{value:,}", number=True)
Point = Mapping[str, int]


def far(found: Mapping[str, Mapping[str, Sequence[Point]]], memory: int) -> list[Table]:
    """The largest T at each L and the largest L at each T, a column an encoding; of a single one, its peaks too.

    Args:
        found: by encoding, see ``attnlib.predict.frontier.frontier``.
        memory: bytes.
    """
    return [
        side(found, "longest", "depth", "seq_len", f"longest T at each L within {size(memory)}"),
        side(found, "deepest", "seq_len", "depth", f"deepest L at each T within {size(memory)}"),
    ]


def side(found: Mapping[str, Mapping[str, Sequence[Point]]], name: str, given: str, sought: str, before: str) -> Table:
    """One of the two tables."""
    symbol = {"depth": "L", "seq_len": "T"}[given]
    columns, alone = {symbol: NUMBER} | dict.fromkeys(found, NUMBER), len(found) == 1
    rows = []
    for points in zip(*(by[name] for by in found.values()), strict=True):
        row: dict[str, Any] = {symbol: points[0][given]}
        row |= {pe: point[sought] for pe, point in zip(found, points, strict=True)}
        if alone:
            row |= {"B": points[0]["batch_size"], "peak": points[0]["peak"], "one further": points[0]["beyond"]}
        rows.append(row)
    if alone:
        columns |= {"B": NUMBER, "peak": BYTES, "one further": BYTES}
    return Table(columns, rows, before=[before])
