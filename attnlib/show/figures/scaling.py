"""How time grows: fits and local slopes against length, and time per token where the tokens a batch are fixed."""

import numpy as np
from matplotlib.figure import Figure

from attnlib.compare.cells import Cells, middle, points_along
from attnlib.compare.scaling import lines, slopes
from attnlib.runs.load import Cell
from attnlib.show.figures.cost import MAIN
from attnlib.show.figures.drawing import bar_note, draw, finish, panels, style


def scaling(cells: Cells) -> Figure | None:
    """A train step at the middle depth with its fit a + b T + c T^2, and its slope from each length to the next."""
    depths = cells.axis("depth", **MAIN)
    found = lines(cells, "seq_len", depth=middle(depths), **MAIN) if depths else []
    if not found:
        return None
    figure, (left, right) = panels(2)
    for cell, fitted, times in found:
        line = style(cells, cell.case["pe"])
        fine = np.geomspace(fitted.sizes[0], 2 * fitted.sizes[-1], 100)
        left.plot(fine, [fitted.at(n) * 1e3 for n in fine], color=line["color"], linewidth=1)
        draw(left, cells, along(cells, cell.case["pe"], middle(depths)), line | {"linestyle": "none"}, 1e3)
        local = np.array(slopes(fitted.sizes, times))
        between = np.sqrt(np.array(fitted.sizes[1:]) * np.array(fitted.sizes[:-1]))
        bars = np.clip([local[:, 0] - local[:, 1], local[:, 2] - local[:, 0]], 0, None)
        right.errorbar(between, local[:, 0], yerr=bars, capsize=3, linewidth=1.2, **line)
    title = f"depth = {middle(depths)}"
    finish(left, x="sequence length T [tokens]", y="train step [ms]", title=f"{title}, lines: a + b T + c T^2")
    finish(right, x="between lengths [tokens]", y="d log t / d log T", title=f"{title}, local slope")
    ticks = sorted({x for line in right.get_lines() for x in np.asarray(line.get_xdata())})
    right.set_xticks(ticks, [f"{t:.0f}" for t in ticks])
    right.set_yscale("linear")
    for value in (1, 2):
        right.axhline(value, color="black", linewidth=0.8, linestyle=":")
    figure.suptitle(bar_note(cells), fontsize=10)
    return figure


def time_per_token(cells: Cells) -> Figure | None:
    """Seconds a token against length where B T is the same at every length: what is quadratic in T is a slope here."""
    lines_ = [(pe, L, along(cells, pe, L)) for pe in cells.axis("pe", **MAIN) for L in cells.axis("depth", **MAIN)]
    found = [line for line in lines_ if len({group[0].case["batch_size"] for _, group in line[2]}) > 2]
    if not found:
        return None
    depths = sorted({depth for _, depth, _ in found})
    figure, axes = panels(len(depths))
    for panel, depth in zip(axes, depths, strict=True):
        absent = []
        for pe, own, points in found:
            absent += (
                draw(panel, cells, points, style(cells, pe), lambda cell: 1e6 / tokens(cell)) if own == depth else []
            )
        label = "train step [us / token]"
        finish(panel, x="sequence length T [tokens]", y=label, title=f"depth = {depth}", absent=absent)
        panel.set(xscale="linear", yscale="linear")
    sizes = sorted({tokens(group[0]) for _, _, points in found for _, group in points})
    figure.suptitle(f"{' or '.join(map(str, sizes))} tokens a batch\n{bar_note(cells)}", fontsize=8)
    return figure


def along(cells: Cells, pe: str, depth: int) -> list[tuple[float, list[Cell]]]:
    """Train steps of an encoding and depth, by length."""
    return points_along(cells, "seq_len", pe=pe, depth=depth, **MAIN)


def tokens(cell: Cell) -> int:
    """B T."""
    return int(cell.case["batch_size"] * cell.case["seq_len"])
