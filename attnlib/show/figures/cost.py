"""What stacks cost: time, throughput and memory over sequence length, depth and encoding."""

import numpy as np
from matplotlib.figure import Figure

from attnlib.compare.cells import Cells, middle, points_along
from attnlib.show.figures.drawing import COLOURS, OUTLINE, bar_note, draw, finish, panels, style

MAIN = {"phase": "train_step", "denormals": "flush"}
MIB = 2**20


def against(cells: Cells, name: str, label: str, other: str) -> Figure | None:
    """Time of a train step, and tokens a second, against ``name`` at each value of ``other``."""
    others = cells.axis(other, **MAIN)
    if not others:
        return None
    figure, axes = panels(len(others) + 1)
    for panel, value in zip(axes, others, strict=False):
        absent = []
        for pe in cells.axis("pe", **MAIN):
            absent += draw(
                panel, cells, points_along(cells, name, pe=pe, **{other: value}, **MAIN), style(cells, pe), 1e3
            )
        finish(panel, x=label, y="train step [ms]", title=f"{other} = {value}", absent=absent)
    at = middle(others)
    for pe in cells.axis("pe", **MAIN):
        rates = [
            (x, group[0].case["batch_size"] * group[0].case["seq_len"] / value[0])
            for x, group in points_along(cells, name, pe=pe, **{other: at}, **MAIN)
            if (value := cells.time(group))
        ]
        axes[-1].plot(*np.array(rates).T, **style(cells, pe)) if rates else None
    finish(axes[-1], x=label, y="tokens / s", title=f"throughput, {other} = {at}")
    figure.suptitle(f"Train step: {bar_note(cells)}", fontsize=10)
    return figure


def time_against_seq_len(cells: Cells) -> Figure | None:
    """Time and throughput against sequence length."""
    return against(cells, "seq_len", "sequence length T [tokens]", "depth")


def time_against_depth(cells: Cells) -> Figure | None:
    """Time and throughput against depth."""
    return against(cells, "depth", "depth L [layers]", "seq_len")


def heat_map(cells: Cells) -> Figure | None:
    """Train-step time over sequence length x depth, a panel an encoding; a cell without a time shows its status."""
    pes = cells.axis("pe", **MAIN)
    if not pes:
        return None
    lengths, depths = cells.axis("seq_len", **MAIN), cells.axis("depth", **MAIN)
    figure, axes = panels(len(pes))
    for panel, pe in zip(axes, pes, strict=True):
        grid = np.full((len(depths), len(lengths)), np.nan)
        for group in cells.where(pe=pe, **MAIN):
            row, column = depths.index(group[0].case["depth"]), lengths.index(group[0].case["seq_len"])
            value = cells.time(group)
            grid[row, column] = np.nan if value is None else value[0] * 1e3
            text = group[0].status if value is None else f"{float(f'{value[0] * 1e3:.3g}'):g}"
            panel.text(column, row, text, ha="center", va="center", fontsize=8, color="white", path_effects=OUTLINE)
        timed = bool(np.isfinite(grid).any())
        image = panel.imshow(grid, norm="log" if timed else None, origin="lower", aspect="auto", cmap="cividis")
        panel.set(title=pe, xlabel="sequence length T [tokens]", ylabel="depth L [layers]")
        panel.set_xticks(range(len(lengths)), lengths)
        panel.set_yticks(range(len(depths)), depths)
        if timed:
            figure.colorbar(image, ax=panel, label="train step [ms]")
    return figure


def memory(cells: Cells) -> Figure | None:
    """Peak allocated memory of a train step against sequence length and depth."""
    lengths, depths = cells.axis("seq_len", **MAIN), cells.axis("depth", **MAIN)
    if not lengths:
        return None
    figure, axes = panels(2)
    slices = (
        ("seq_len", "sequence length T [tokens]", "depth", depths),
        ("depth", "depth L [layers]", "seq_len", lengths),
    )
    for panel, (name, label, other, values) in zip(axes, slices, strict=True):
        for pe in cells.axis("pe", **MAIN):
            points = points_along(cells, name, pe=pe, **{other: middle(values)}, **MAIN)
            known = [(x, group[0].peak / MIB) for x, group in points if group[0].peak is not None]
            panel.plot(*np.array(known).T, **style(cells, pe)) if known else None
            foretold = [(x, group[0].predicted / MIB) for x, group in points if group[0].predicted is not None]
            ring = {"s": 90, "facecolor": "none", "edgecolor": style(cells, pe)["color"], "linewidth": 0.8}
            panel.scatter(*np.array(foretold).T, **ring) if foretold else None
        finish(panel, x=label, y="peak allocated [MiB]", title=f"{other} = {middle(values)}")
    figure.suptitle("Peak memory of a train step (exact, no interval); rings: as predicted", fontsize=10)
    return figure


def encoding_cost(cells: Cells) -> Figure | None:
    """Each encoding's train step over that of ``none`` in the same run, against sequence length at the middle depth."""
    others = [pe for pe in cells.axis("pe", **MAIN) if pe != "none"]
    if not others or "none" not in cells.axis("pe", **MAIN):
        return None
    depth = middle(cells.axis("depth", **MAIN))
    figure, (panel,) = panels(1)
    panel.axhline(1, color=COLOURS[0], linewidth=0.8)
    base = dict(points_along(cells, "seq_len", pe="none", depth=depth, **MAIN))
    for pe in others:
        points = []
        for x, group in points_along(cells, "seq_len", pe=pe, depth=depth, **MAIN):
            ratio = cells.ratio(group, base.get(x, []))
            points += [(x, *ratio)] if ratio else []
        if points:
            x, y, low, high = np.array(points).T
            panel.errorbar(x, y, yerr=[y - low, high - y], capsize=3, **style(cells, pe))
    finish(panel, x="sequence length T [tokens]", y="train step / that of none", title=f"depth = {depth}")
    figure.suptitle(bar_note(cells), fontsize=8)
    return figure
