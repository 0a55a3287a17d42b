"""How time grows: fits and local slopes against length, and time per token where the tokens a batch are fixed."""

import numpy as np
from matplotlib.figure import Figure

from attnlib.runs.cells import Cells, centre, middle
from attnlib.runs.figures.cost import MAIN
from attnlib.runs.figures.drawing import bar_note, draw, finish, panels, style
from attnlib.runs.scaling import lines, slopes


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
        left.plot(fitted.sizes, np.array(fitted.seconds) * 1e3, linestyle="none", **line)
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
    n = len(cells.runs)
    figure.suptitle("One run: no interval" if n == 1 else f"{n} runs, bars: 95 % interval run to run", fontsize=10)
    return figure


def time_per_token(cells: Cells) -> Figure | None:
    """Seconds a token against length where B T is the same at every length: what is quadratic in T is a slope here."""
    found = []
    for pe in cells.axis("pe", **MAIN):
        for depth in cells.axis("depth", **MAIN):
            groups = cells.where(pe=pe, depth=depth, **MAIN)
            tokens = {group[0].case["batch_size"] * group[0].case["seq_len"] for group in groups}
            if len(groups) > 2 and len(tokens) == 1:
                found.append((pe, depth, tokens.pop(), sorted((g[0].case["seq_len"], g) for g in groups)))
    if not found:
        return None
    depths = sorted({depth for _, depth, _, _ in found})
    figure, axes = panels(len(depths))
    for panel, depth in zip(axes, depths, strict=True):
        for pe, own, tokens, points in found:
            if own == depth and any(centre(group) for _, group in points):
                draw(panel, points, style(cells, pe), 1e6 / tokens)
        finish(panel, x="sequence length T [tokens]", y="train step [us / token]", title=f"depth = {depth}")
        panel.set(xscale="linear", yscale="linear")
    figure.suptitle(f"Fixed tokens a batch ({found[0][2]}): {bar_note(cells)}", fontsize=10)
    return figure
