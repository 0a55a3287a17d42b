"""The figure of calls that were measured beside others: the ratio along a numeric parameter."""

from matplotlib.figure import Figure

from attnlib.compare.beside import axis_of, lines_along, points
from attnlib.compare.cells import Cells
from attnlib.show.figures.drawing import Sheet, band, finish, look


def beside(cells: Cells) -> Figure | None:
    """Time of a call over its reference's along a numeric parameter of its test, a panel a test."""
    tests = {test: (axis, own) for test, own in points(cells.runs).items() if (axis := axis_of(own))}
    tests = {test: found for test, found in tests.items() if all(point.params[found[0]] > 0 for point in found[1])}
    if not tests:
        return None
    sheet = Sheet(len(tests))
    for panel, (test, (axis, own)) in zip(sheet.panels, tests.items(), strict=True):
        for place, (name, line) in enumerate(lines_along(own, axis).items()):
            drawn = [(x, *ratio) for x, point in line if (ratio := point.ratio)]
            band(panel, drawn, look(place, name))
            sheet.absent += [f"{name} at {x:g}: {point.rows[0].status}" for x, point in line if not point.ratio]
        panel.axhline(1, color="black", linewidth=0.8)
        finish(panel, x=axis, y="time over the reference", title=test.rpartition("::")[2])
    return sheet.finish("Time of a call over that of its reference; bands: 95 % intervals")
