"""Figures of scaling: fits and local slopes against length, and time per token at a fixed number of tokens."""

import numpy as np
from matplotlib.figure import Figure

from attnlib.compare.cells import STEP, Cells, fullest, points_along
from attnlib.compare.scaling import lines, slopes
from attnlib.runs.load import Cell
from attnlib.show.figures.cost import LENGTH
from attnlib.show.figures.drawing import Sheet, band, finish, name_ends, style


def scaling(cells: Cells) -> Figure | None:
    """Time of a train step against length with fits a + b T + c T^2, and its slope from length to length."""
    if not cells.axis("depth", **STEP):
        return None
    at = fullest(cells, "seq_len", "depth")
    if not (found := lines(cells, "seq_len", depth=at, **STEP)):
        return None
    sheet = Sheet(2)
    left, right = sheet.panels
    for cell, fitted, times in found:
        line = style(cells, cell.case.pe)
        sheet.draw(left, cells, along(cells, cell.case.pe, at), line | {"linestyle": "none"}, 1e3)
        first, last = fitted.sizes[0], fitted.sizes[-1]
        for start, end, dashes in ((first, last, "-"), (last, 2 * last, ":")):
            fine = np.geomspace(start, end, 60)
            left.plot(fine, [fitted.at(n) * 1e3 for n in fine], dashes, color=line["color"], linewidth=1)
        between = np.sqrt(np.array(fitted.sizes[1:]) * np.array(fitted.sizes[:-1]))
        band(right, [(x, *slope) for x, slope in zip(between, slopes(fitted.sizes, times), strict=True)], line)
    depth = f"L = {at}"
    finish(left, x=LENGTH, y="train step [ms]", title=f"{depth}: a + b T + c T^2, dotted beyond the data")
    finish(right, x="between lengths [tokens]", y="d log t / d log T", title=f"{depth}: local slope")
    ticks = sorted({x for line in right.get_lines() for x in np.asarray(line.get_xdata())})
    right.set_xticks(ticks, [f"{t:.0f}" for t in ticks])
    right.set(yscale="linear")
    name_ends(right)
    for value in (1, 2):
        right.axhline(value, color="black", linewidth=0.8, linestyle=":")
    return sheet.finish("How the time of a train step grows with sequence length", cells)


def time_per_token(cells: Cells) -> Figure | None:
    """Time per token against length at a fixed number of tokens B T; a slope shows the part that is quadratic in T."""
    pairs = [(pe, depth) for pe in cells.axis("pe", **STEP) for depth in cells.axis("depth", **STEP)]
    series = [(pe, depth, along(cells, pe, depth)) for pe, depth in pairs]
    # three batch sizes or more: the batch shrinks as the length grows
    found = [line for line in series if len({group[0].case.batch_size for _, group in line[2]}) > 2]
    if not found:
        return None
    depths = sorted({depth for _, depth, _ in found})
    sheet = Sheet(len(depths))
    for panel, depth in zip(sheet.panels, depths, strict=True):
        for pe, own, points in found:
            if own == depth:
                sheet.draw(panel, cells, points, style(cells, pe), lambda cell: 1e6 / tokens(cell))
        finish(panel, x=LENGTH, y="train step [us / token]", title=f"L = {depth}")
        panel.set(xscale="linear", yscale="linear")
    name_ends(*sheet.panels)
    sizes = sorted({tokens(group[0]) for _, _, points in found for _, group in points})
    return sheet.finish(f"Time a token, {' or '.join(map(str, sizes))} tokens a batch", cells)


def along(cells: Cells, pe: str, depth: int) -> list[tuple[float, list[Cell]]]:
    """Return the train steps of an encoding at a depth, by length."""
    return points_along(cells, "seq_len", pe=pe, depth=depth, **STEP)


def tokens(cell: Cell) -> int:
    """Return the number of tokens in a batch, B T."""
    return int(cell.case.batch_size * cell.case.seq_len)
