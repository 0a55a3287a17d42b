"""Figures of cost: time, throughput, memory and energy over sequence length, depth and encoding."""

from typing import Any

import numpy as np
from matplotlib.colors import LogNorm
from matplotlib.figure import Figure

from attnlib.compare.cells import STEP, Cells, fullest, measured, points_along
from attnlib.show.figures.drawing import COLOURS, PLAIN, Plain, Sheet, band, finish, name_ends, style

MIB = 2**20
LENGTH, DEPTH = "sequence length T [tokens]", "depth L [layers]"


def encoding_cost(cells: Cells) -> Figure | None:
    """Time of a train step with each encoding over that without, against sequence length, one panel a depth."""
    others = [pe for pe in cells.axis("pe", **STEP) if pe != "none"]
    depths = cells.axis("depth", **STEP)
    if not others or "none" not in cells.axis("pe", **STEP):
        return None
    found: dict[tuple[int, str], list[tuple[float, ...]]] = {}
    for depth in depths:
        base = dict(points_along(cells, "seq_len", pe="none", depth=depth, **STEP))
        for pe in others:
            along = points_along(cells, "seq_len", pe=pe, depth=depth, **STEP)
            ratios = [(x, cells.ratio(group, base.get(x, []))) for x, group in along]
            found[depth, pe] = [(x, *ratio) for x, ratio in ratios if ratio]
    if not any(found.values()):
        return None
    sheet = Sheet(len(depths), share=len(depths))
    for panel, depth in zip(sheet.panels, depths, strict=True):
        for pe in others:
            band(panel, found[depth, pe], style(cells, pe))
        finish(panel, x=LENGTH, y="time over none", title=f"L = {depth}")
        panel.axhline(1, color=COLOURS[0], linewidth=0.8)
    name_ends(*sheet.panels)
    return sheet.finish("What an encoding costs: a train step over the same step without positions", cells)


def against(cells: Cells, name: str, label: str, other: str, unit: str) -> Figure | None:
    """Return the figure of a train step's time against a field, one panel a value of another, and of throughput."""
    values = cells.axis(other, **STEP)
    if not values:
        return None
    sheet = Sheet(len(values) + 1, share=len(values))
    pes, rates = cells.axis("pe", **STEP), sheet.panels[-1]
    for panel, value in zip(sheet.panels, values, strict=False):
        for pe in pes:
            points = points_along(cells, name, pe=pe, **{other: value}, **STEP)
            sheet.draw(panel, cells, points, style(cells, pe), 1e3)
        finish(panel, x=label, y="train step [ms]", title=f"{unit} = {value}")
    at = fullest(cells, name, other)
    for pe in pes:
        points = points_along(cells, name, pe=pe, **{other: at}, **STEP)
        known = [(x, group[0].case, value) for x, group in points if (value := cells.time(group))]
        sizes = [(x, case.batch_size * case.seq_len, value) for x, case, value in known]
        found = [(x, size / value.value, size / value.high, size / value.low) for x, size, value in sizes]
        band(rates, found, style(cells, pe))
    finish(rates, x=label, y="tokens / s", title=f"throughput, {unit} = {at}")
    name_ends(*sheet.panels)
    return sheet.finish(f"Time of a train step against {label.partition(' [')[0]}", cells)


def time_against_seq_len(cells: Cells) -> Figure | None:
    """Time and throughput of a train step against sequence length."""
    return against(cells, "seq_len", LENGTH, "depth", "L")


def time_against_depth(cells: Cells) -> Figure | None:
    """Time and throughput of a train step against depth."""
    return against(cells, "depth", DEPTH, "seq_len", "T")


def heat_map(cells: Cells) -> Figure | None:
    """Time of a train step by sequence length and depth, one panel an encoding; without a time, the case's status."""
    pes = cells.axis("pe", **STEP)
    if not pes:
        return None
    lengths, depths = cells.axis("seq_len", **STEP), cells.axis("depth", **STEP)
    grids = np.full((len(pes), len(depths), len(lengths)), np.nan)
    status: dict[tuple[int, int, int], str] = {}
    for index, pe in enumerate(pes):
        for group in cells.where(pe=pe, **STEP):
            place = index, depths.index(group[0].case.depth), lengths.index(group[0].case.seq_len)
            value = cells.time(group)
            grids[place] = np.nan if value is None else value.value * 1e3
            status[place] = group[0].status if value is None else ""
    timed = bool(np.isfinite(grids).any())
    scale = LogNorm(np.nanmin(grids), np.nanmax(grids) * 1.001) if timed else None
    sheet = Sheet(len(pes), size=(0.75 * len(lengths) + 0.8, 0.5 * len(depths) + 0.8))
    for index, (panel, pe) in enumerate(zip(sheet.panels, pes, strict=True)):
        image = panel.imshow(grids[index], norm=scale, origin="lower", aspect="auto", cmap="cividis")
        for (own, row, column), word in status.items():
            if own == index:
                dark = word == "" and scale is not None and is_dark(image.cmap(scale(grids[own, row, column])))
                text = word or f"{float(f'{grids[own, row, column]:.3g}'):g}"
                panel.text(column, row, text, ha="center", va="center", color="white" if dark else "black")
        left, bottom = index % sheet.columns == 0, index + sheet.columns >= len(pes)
        panel.set(title=pe, xlabel="T [tokens]" if bottom else "", ylabel="L [layers]" if left else "")
        panel.tick_params(labelleft=left, labelbottom=bottom)
        panel.set_xticks(range(len(lengths)), lengths)
        panel.set_yticks(range(len(depths)), depths)
    if timed:
        ticks: dict[str, Any] = {"ticks": Plain(), "format": PLAIN}
        sheet.figure.colorbar(image, ax=sheet.panels, label="train step [ms]", shrink=0.6, **ticks).minorticks_off()
    return sheet.finish("Time of a train step [ms]")


def is_dark(colour: tuple[float, ...]) -> bool:
    """Return True if white text is easier to read on a colour than black, by relative luminance (WCAG 2)."""
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in colour[:3]]
    return float(np.dot(linear, [0.2126, 0.7152, 0.0722])) < 0.179


def against_both(cells: Cells, name: str, title: str, y: str, unit: float = 1.0, rings: str = "") -> Figure | None:
    """Return the figure of an attribute of train steps against length and depth, and of another one as rings."""
    if not cells.axis("seq_len", **STEP):
        return None
    sheet = Sheet(2, share=2)
    L, T = fullest(cells, "seq_len", "depth"), fullest(cells, "depth", "seq_len")
    slices: tuple[tuple[str, str, dict[str, Any], str], ...] = (
        ("seq_len", LENGTH, {"depth": L}, f"L = {L}"),
        ("depth", DEPTH, {"seq_len": T}, f"T = {T}"),
    )
    for panel, (field, label, at, heading) in zip(sheet.panels, slices, strict=True):
        for pe in cells.axis("pe", **STEP):
            line = style(cells, pe)
            points = [(x, measured(group)) for x, group in points_along(cells, field, pe=pe, **at, **STEP)]
            known = [(x, value / unit) for x, cell in points if (value := getattr(cell, name)) is not None]
            panel.plot(*np.array(known).T, **line) if known else None
            ringed = [(x, value / unit) for x, cell in points if (value := getattr(cell, rings, None)) is not None]
            ring = {"s": 110, "facecolor": "none", "edgecolor": line["color"], "linewidth": 0.8}
            panel.scatter(*np.array(ringed).T, **ring) if ringed else None
        finish(panel, x=label, y=y, title=heading)
    name_ends(*sheet.panels)
    return sheet.finish(title)


def memory(cells: Cells) -> Figure | None:
    """Peak allocated memory of a train step against sequence length and depth."""
    title = "Peak memory of a train step (exact, without interval); rings: as predicted"
    return against_both(cells, "peak", title, "peak allocated [MiB]", unit=MIB, rings="predicted")


def energy(cells: Cells) -> Figure | None:
    """Energy of a train step against sequence length and depth, from machines with an energy counter."""
    if not any(cell.joules is not None for group in cells.where(**STEP) for cell in group):
        return None
    title = "Energy of a train step, the mean over a window (without interval)"
    return against_both(cells, "joules", title, "energy of a train step [J]")
