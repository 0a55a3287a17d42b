"""The table of the nodes that runs were measured on."""

from attnlib.compare import nodes as compare
from attnlib.compare.cells import Cells
from attnlib.show.table import Column, Table
from attnlib.show.units import seconds, with_interval

COLUMNS = {
    "node": Column(),
    "cases": Column(number=True),
    "disturbed": Column(number=True),
    "canary": Column(with_interval(seconds), number=True),
    "the reference": Column(prose=True),
}
CANARY = "canary: a fixed workload timed around every case, median and the middle 90 % of its readings"


def nodes(cells: Cells) -> list[Table]:
    """A row a node: how many cases it timed, how many were disturbed, its canary and its noise floor."""
    rows = [dict(zip(COLUMNS, node, strict=True)) for node in compare.nodes(cells.runs)]
    far = compare.apart(cells.runs)
    return [Table(COLUMNS, rows, after=[CANARY, *([f"nodes differ: {far}"] if far else [])])]
