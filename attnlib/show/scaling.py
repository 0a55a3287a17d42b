"""The tables of scaling: how time grows with length and with depth, with intervals over the runs."""

from typing import Any

from attnlib.compare.cells import Cells, interval_note
from attnlib.compare.scaling import flop_crossover, lines, slopes
from attnlib.show.table import Column, Table
from attnlib.show.units import digits, seconds, with_interval

TIME = Column(with_interval(seconds))


def at_size(found: tuple[Any, float]) -> str:
    """A share and the size that it belongs to."""
    return f"{with_interval('{:.0%}'.format)(found[0])} at {found[1]:g}"


def from_size(found: tuple[Any, float]) -> str:
    """A slope and the size where it begins."""
    return f"{with_interval(digits(2))(found[0])} from {found[1]:g}"


LENGTHS = {
    "case": Column(),
    "a": TIME,
    "b / token": TIME,
    "c / token^2": TIME,
    "share of c T^2": Column(at_size),
    "slope": Column(from_size),
    "c T = b at": Column(with_interval(digits(0))),
    "FLOPs": Column(digits(0), number=True),
    "in T": Column(),
}
DEPTHS = {"case": Column(), "a": TIME, "b / layer": TIME, "deviation": Column("{:.1%}".format), "in L": Column()}


def by_length(cells: Cells, **fields: Any) -> Table:
    """One row a line: t = a + b T + c T^2, the quadratic term's share, the last local slope, crossovers, verdict."""
    rows = [
        {
            "case": line.cell.label.replace(f" T={line.cell.case.seq_len}", "", 1),
            "a": line.fit.term(0),
            "b / token": line.fit.term(1),
            "c / token^2": line.fit.term(2),
            "share of c T^2": (line.fit.share(2), line.fit.sizes[-1]),
            "slope": (slopes(line.fit.sizes, line.times)[-1], line.fit.sizes[-2]),
            "c T = b at": line.fit.crossover(),
            "FLOPs": flop_crossover(cells, line),
            "in T": line.fit.quadratic,
        }
        for line in lines(cells, "seq_len", **fields)
    ]
    return Table(LENGTHS, rows, after=[f"brackets: {interval_note(cells)}", ""])


def by_depth(cells: Cells, **fields: Any) -> Table:
    """One row a line: t = a + b L, the largest deviation of the means from it, the verdict."""
    rows = [
        {
            "case": line.cell.label.replace(f" L={line.cell.case.depth}", "", 1),
            "a": line.fit.term(0),
            "b / layer": line.fit.term(1),
            "deviation": line.fit.deviation,
            "in L": line.fit.straight,
        }
        for line in lines(cells, "depth", **fields)
    ]
    return Table(DEPTHS, rows, after=[f"brackets: {interval_note(cells)}", ""])
