"""Shared parts of figures: sheets of panels with one legend and notes, line styles, axes, and labels of lines."""

from collections.abc import Callable, Iterable, Sequence
from textwrap import fill
from typing import Any

import matplotlib as mpl
import matplotlib.ticker
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from attnlib.compare.cells import Cells, kind_of_interval
from attnlib.runs.load import Cell

# Okabe and Ito's colour-blind safe palette (yellow darkened to be read on white), and a brown
COLOURS = (
    "#000000", "#E69F00", "#56B4E9", "#009E73", "#D55E00", "#0072B2", "#CC79A7", "#999999", "#9A8700", "#7B3F00",
)  # fmt: skip
MARKERS = "osD^vPX*<>"
MOST = 3  # absent points that are listed; the heat map shows all of them
GAP = 0.055  # distance between the names of two lines, as a share of a panel's height
SAME = 0.012  # lines that end closer to each other than this share of a panel share a name
Style = dict[str, Any]


def look(place: int, label: str) -> Style:
    """Return the style of the ``place``-th line of a registry.

    Each line is narrower than the one before, so that both show where they coincide. Markers are hollow once the
    colours repeat.
    """
    again, place = divmod(place, len(COLOURS))
    width, size = 3.6 - 0.26 * place, 8.5 - 0.5 * place
    return {
        "color": COLOURS[place],
        "marker": MARKERS[place],
        "label": label,
        "markersize": size,
        "linewidth": width,
    } | ({"markerfacecolor": "white"} if again else {})


def style(cells: Cells, pe: str) -> Style:
    """Return the style of an encoding, by its place in the registry."""
    return look(cells.names("pe").index(pe), pe)


class Sheet:
    """A figure of panels in rows of three (four in a square), with one legend and notes below.

    Args:
        count: number of panels.
        share: number of panels, from the first on, with the same vertical scale, because they are compared.
        size: width and height of a panel, in inches.
    """

    def __init__(self, count: int, *, share: int = 0, size: tuple[float, float] = (4.6, 3.5)) -> None:
        self.columns = columns = 2 if count == 4 else min(3, count)
        rows = -(-count // columns)
        extent = (size[0] * columns, size[1] * rows + 0.6)
        self.figure = Figure(figsize=extent, layout="constrained")  # without pyplot, which may open windows
        grid = self.figure.subplots(rows, columns, squeeze=False)
        self.panels: list[Axes] = list(grid.flat)[:count]
        for unused in list(grid.flat)[count:]:
            unused.set_axis_off()
        for place, panel in enumerate(self.panels[:share]):
            panel.sharey(self.panels[0]) if place else None
            panel.tick_params(labelleft=place % columns == 0)  # the other panels of the row have the same labels
        self.absent: list[str] = []
        self.hollow = 0

    def draw(
        self,
        axes: Axes,
        cells: Cells,
        points: Iterable[tuple[float, list[Cell]]],
        line: Style,
        scale: float | Callable[[Cell], float] = 1.0,
    ) -> None:
        """Draw times, in seconds by ``scale``, with an interval band; points with a disturbed run are hollow."""
        drawn, hollow = [], []
        for x, group in points:
            value = cells.time(group)
            if value is None:
                self.absent.append(f"{line['label']} at {x:g}: {group[0].status}")
            else:
                factor = scale(group[0]) if callable(scale) else scale
                drawn.append((x, *(v * factor for v in value)))
                hollow += [drawn[-1]] if any(cell.disturbed for cell in group) else []
        band(axes, drawn, line)
        if hollow:
            x, y, *_ = np.array(hollow).T
            marker = {"marker": line["marker"], "s": line["markersize"] ** 2 / 2}
            axes.scatter(x, y, facecolor="white", edgecolor=line["color"], zorder=3, **marker)
        self.hollow += len(hollow)

    def finish(self, title: str, cells: Cells | None = None) -> Figure:
        """Return the figure with title, legend and notes; ``cells`` are the runs whose times it shows, if any."""
        lines = [] if cells is None else [f"bands: {kind_of_interval(cells)}"]
        lines += [f"hollow: {self.hollow} points with a disturbed run"] if self.hollow else []
        more = [f"and {len(self.absent) - MOST} more"] if len(self.absent) > MOST else []
        lines += [f"absent: {'; '.join([*self.absent[:MOST], *more])}"] if self.absent else []
        inches = self.figure.get_figwidth()
        self.figure.suptitle(fill(title, int(inches * 12)), fontsize=11)
        note = "\n".join(fill(line, int(inches * 16)) for line in lines)
        known: dict[str, Any] = {}
        for panel in self.panels:
            known |= {label: handle for handle, label in zip(*panel.get_legend_handles_labels(), strict=True)}
        if known:
            most = max(2, int(inches / 1.15))
            columns = -(-len(known) // -(-len(known) // most))  # the fewest rows, of lengths as even as possible
            form: dict[str, Any] = {"ncols": columns, "frameon": False, "fontsize": 9, "title_fontsize": 8}
            handles = list(known.values()), list(known)
            self.figure.legend(*handles, loc="outside lower center", title=note or None, **form)
        return self.figure


def band(axes: Axes, points: Sequence[Sequence[float]], line: Style) -> None:
    """Draw points (x, y, low, high) as a line with an interval band, a single point with an error bar."""
    if len(points) == 1:
        ((x, y, low, high),) = points
        axes.errorbar([x], [y], yerr=[[max(0, y - low)], [max(0, high - y)]], capsize=3, **line)
    elif points:
        xs, ys, lows, highs = np.array(points).T
        axes.plot(xs, ys, **line)
        axes.fill_between(xs, lows, highs, color=line["color"], alpha=0.2, linewidth=0)


def finish(axes: Axes, *, x: str, y: str, title: str) -> None:
    """Make both axes logarithmic, with labels, a title, and a tick at the x of each point."""
    axes.set(xscale="log", yscale="log", xlabel=x, ylabel=y, title=title)
    marked = [line for line in axes.get_lines() if line.get_marker() not in ("None", "")]
    ticks = sorted({float(x) for line in marked for x in np.asarray(line.get_xdata())})
    axes.set_xticks(ticks, [f"{t:g}" for t in ticks])
    axes.xaxis.set_minor_locator(mpl.ticker.NullLocator())
    axes.yaxis.set_major_locator(Plain())
    axes.yaxis.set_major_formatter(PLAIN)
    axes.yaxis.set_minor_locator(mpl.ticker.NullLocator())
    axes.grid(alpha=0.3)


class Plain(mpl.ticker.LogLocator):
    """Ticks of a logarithmic axis at 1, 2, 5, 10, ...; evenly spaced on an axis of about a decade or less."""

    def __init__(self) -> None:
        super().__init__(subs=(1, 2, 5))

    def tick_values(self, vmin: float, vmax: float) -> Any:
        """Return the ticks between two values."""
        if vmax < 12 * vmin:
            return mpl.ticker.MaxNLocator(5, steps=[1, 2, 5, 10]).tick_values(vmin, vmax)
        return super().tick_values(vmin, vmax)


PLAIN = mpl.ticker.FuncFormatter(lambda value, _: f"{value:g}")


def finish_decades(axes: Axes, *, x: str, y: str, title: str) -> None:
    """Make the y axis logarithmic over many decades and label both axes; x is linear in layers."""
    axes.set(yscale="log", xlabel=x, ylabel=y, title=title)
    axes.yaxis.set_major_formatter(mpl.ticker.FuncFormatter(lambda value, _: f"1e{round(np.log10(value))}"))
    axes.yaxis.set_minor_locator(mpl.ticker.NullLocator())
    axes.grid(alpha=0.3)


def name_ends(*panels: Axes) -> None:
    """Write each line's name at its end, one name for lines that end together; call it after all panels are drawn."""
    for axes in panels:
        axes.get_xlim(), axes.get_ylim()  # matplotlib computes the final limits when they are read
        ends = []
        for place, line in enumerate(axes.get_lines()):
            points = np.array(line.get_xydata(), dtype=float)
            points = points[np.isfinite(points).all(axis=1)]
            if len(points) and not str(line.get_label()).startswith("_"):
                x, y = axes.transLimits.transform(axes.transScale.transform(points[-1]))
                ends.append((float(y), float(x), place, str(line.get_label()), str(line.get_color())))
        groups: list[list[tuple[float, float, int, str, str]]] = []
        for end in sorted(ends):
            if groups and end[0] - groups[-1][0][0] < SAME and abs(end[1] - groups[-1][0][1]) < SAME:
                groups[-1].append(end)
            else:
                groups.append([end])
        texts = [fill(", ".join(end[3] for end in sorted(group, key=lambda end: end[2])), 22) for group in groups]
        for group, text, level in zip(groups, texts, apart([g[0][0] for g in groups], texts), strict=True):
            y, x, *_, colour = group[0]
            lead = Line2D([x, 1.02], [y, level], color=colour, linewidth=0.7, clip_on=False, transform=axes.transAxes)
            axes.add_line(lead)
            axes.text(1.03, level, text, va="center", fontsize=8, transform=axes.transAxes)


def apart(places: Sequence[float], texts: Sequence[str]) -> list[float]:
    """Return heights in [0, 1] at which texts do not overlap, close to their wanted ``places`` (ascending)."""
    found: list[float] = []
    half = [GAP * (text.count("\n") + 1) / 2 for text in texts]
    for i, place in enumerate(places):
        found.append(place if i == 0 else max(place, found[-1] + half[i - 1] + half[i]))
    limit = 1.0
    for i in reversed(range(len(found))):
        found[i] = min(found[i], limit - half[i])
        limit = found[i] - half[i]
    return found
