"""What figures share: colours, panels, axes and how an absent point is said."""

from collections.abc import Callable, Iterable, Sequence
from textwrap import fill
from typing import Any

import matplotlib as mpl
import matplotlib.patheffects
import matplotlib.ticker
import numpy as np
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from attnlib.compare.cells import Cells, interval_note
from attnlib.runs.load import Cell

# Okabe and Ito's colours and a brown, told apart by colour-blind readers, each with a marker of its own
COLOURS = (
    "#000000", "#E69F00", "#56B4E9", "#009E73", "#D55E00", "#0072B2", "#CC79A7", "#999999", "#F0E442", "#7B3F00",
)  # fmt: skip
MARKERS = "osD^vPX*<>"
MOST = 3  # absent points that are named in a panel; the heat map shows every one
OUTLINE = [mpl.patheffects.withStroke(linewidth=2, foreground="black")]
Style = dict[str, Any]


def look(place: int, label: str) -> Style:
    """Colour and marker of a line by its place in a registry."""
    place %= len(COLOURS)
    return {"color": COLOURS[place], "marker": MARKERS[place], "label": label, "markersize": 5}


def style(cells: Cells, pe: str) -> Style:
    """Colour and marker of an encoding, by its place in the registry."""
    return look(cells.names("pe").index(pe), pe)


def bar_note(cells: Cells) -> str:
    """What the bars are, a line a statement: a figure may be narrow."""
    n = len(cells.runs)
    held_up = any(cell.disturbed for run in cells.runs for cell in run.cells)
    bars = f"bars: {interval_note(cells)}".replace("; ", ";\n") + (" (hollow)" if held_up else "")
    return bars if n == 1 else f"geometric mean of the runs, {bars}"


def draw(
    axes: Axes,
    cells: Cells,
    points: Iterable[tuple[float, list[Cell]]],
    line: Style,
    scale: float | Callable[[Cell], float] = 1.0,
) -> list[str]:
    """Draw times against a field, hollow where a run was disturbed; returns a note for every point without a time."""
    drawn, absent, hollow = [], [], []
    for x, group in points:
        value = cells.time(group)
        if value is None:
            absent.append(f"{line['label']} at {x:g}: {group[0].status}")
        else:
            factor = scale(group[0]) if callable(scale) else scale
            drawn.append((x, *(v * factor for v in value)))
            hollow += [drawn[-1]] if any(cell.disturbed for cell in group) else []
    if drawn:
        x, y, low, high = np.array(drawn).T
        axes.errorbar(x, y, yerr=np.clip([y - low, high - y], 0, None), linewidth=1.2, capsize=3, **line)
    if hollow:
        x, y, *_ = np.array(hollow).T
        marker = {"marker": line["marker"], "s": 4 * line["markersize"] ** 2 / np.pi}
        axes.scatter(x, y, facecolor="white", edgecolor=line["color"], zorder=3, **marker)
    return absent


def finish(axes: Axes, *, x: str, y: str, title: str, absent: Sequence[str] = ()) -> None:
    """Logarithmic axes with units, a legend and what is absent."""
    axes.set(xscale="log", yscale="log", xlabel=x, ylabel=y, title=title)
    marked = [line for line in axes.get_lines() if line.get_marker() != "None"]
    ticks = sorted({float(x) for line in marked for x in np.asarray(line.get_xdata())})
    axes.set_xticks(ticks, [f"{t:g}" for t in ticks])
    axes.xaxis.set_minor_locator(mpl.ticker.NullLocator())
    axes.yaxis.set_major_locator(mpl.ticker.LogLocator(subs=(1, 2, 5)))
    axes.yaxis.set_major_formatter(mpl.ticker.FuncFormatter(lambda value, _: f"{value:g}"))
    axes.yaxis.set_minor_formatter(mpl.ticker.NullFormatter())
    axes.grid(alpha=0.3)
    if axes.get_legend_handles_labels()[0]:
        axes.legend(fontsize=8)
    if absent:
        shown = "; ".join([*absent[:MOST], *([f"and {len(absent) - MOST} more"] if len(absent) > MOST else [])])
        note = fill(f"absent: {shown}", 48)
        axes.text(0.02, 0.98, note, transform=axes.transAxes, va="top", fontsize=7).set_in_layout(False)


def finish_decades(axes: Axes, *, x: str, y: str, title: str, **legend: Any) -> None:
    """A linear axis of layers, a logarithmic one of many decades, a legend with matplotlib's own options."""
    axes.set(yscale="log", xlabel=x, ylabel=y, title=title)
    axes.grid(alpha=0.3)
    if axes.get_legend_handles_labels()[0]:
        axes.legend(**{"fontsize": 7} | legend)


def panels(count: int) -> tuple[Figure, list[Axes]]:
    """Axes in rows of three, four in a square."""
    columns = 2 if count == 4 else min(3, count)
    rows = -(-count // columns)
    figure, grid = plt.subplots(rows, columns, figsize=(4.6 * columns, 3.7 * rows), layout="constrained", squeeze=False)
    axes = list(grid.flat)
    for unused in axes[count:]:
        unused.set_axis_off()
    return figure, axes[:count]
