"""Saved runs to figures: ``python plots.py [RUN.json ...] [--out FOLDER]``, the newest run by default.

Reads JSON only; imports no torch. With one run a point is the median of its rounds and a bar the median's 95 % interval
within that run; with several runs of one machine it is the mean of the runs' medians and its 95 % t interval.
"""

import argparse
import sys
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import matplotlib as mpl
import matplotlib.patheffects
import matplotlib.ticker
import numpy as np
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from attnlib.runs.cells import Cells, centre, middle, over_runs, points_along
from attnlib.runs.load import RESULTS, Cell, load_all, newest

# Okabe and Ito's colours, told apart by colour-blind readers, each with a marker of its own
COLOURS = ("#000000", "#E69F00", "#56B4E9", "#009E73", "#D55E00", "#0072B2", "#CC79A7", "#999999", "#F0E442")
MARKERS = "osD^vPX*<"
MIB = 2**20
Style = dict[str, Any]
MAIN = {"phase": "train_step", "denormals": "flush"}


def style(cells: Cells, pe: str) -> Style:
    """Colour and marker of an encoding, by its place in the registry."""
    place = cells.runs[0].data["attnlib"]["axes"]["pe"].index(pe) % len(COLOURS)
    return {"color": COLOURS[place], "marker": MARKERS[place], "label": pe, "markersize": 5}


def bar_note(cells: Cells) -> str:
    """What the bars are."""
    n = len(cells.runs)
    return "bars: 95 % interval within this run" if n == 1 else f"mean of {n} runs, bars: 95 % interval run to run"


def draw(axes: Axes, points: Iterable[tuple[float, list[Cell]]], look: Style, scale: float = 1.0) -> list[str]:
    """Draw times against a field; returns a note for every point that has no time."""
    drawn, absent = [], []
    for x, cells in points:
        value = centre(cells)
        if value is None:
            absent.append(f"{look['label']} at {x:g}: {cells[0].status}")
        else:
            drawn.append((x, *(v * scale for v in value)))
    if drawn:
        x, y, low, high = np.array(drawn).T
        axes.errorbar(x, y, yerr=np.clip([y - low, high - y], 0, None), linewidth=1.2, capsize=3, **look)
    return absent


def finish(axes: Axes, *, x: str, y: str, title: str, absent: Sequence[str] = ()) -> None:
    """Logarithmic axes with units, a legend and what is absent."""
    axes.set(xscale="log", yscale="log", xlabel=x, ylabel=y, title=title)
    marked = [line for line in axes.get_lines() if line.get_marker() != "None"]
    ticks = sorted({float(x) for line in marked for x in line.get_xdata()})
    axes.set_xticks(ticks, [f"{t:g}" for t in ticks])
    axes.xaxis.set_minor_locator(mpl.ticker.NullLocator())
    axes.yaxis.set_major_locator(mpl.ticker.LogLocator(subs=(1, 2, 5)))
    axes.yaxis.set_major_formatter(mpl.ticker.FuncFormatter(lambda value, _: f"{value:g}"))
    axes.yaxis.set_minor_formatter(mpl.ticker.NullFormatter())
    axes.grid(alpha=0.3)
    if axes.get_legend_handles_labels()[0]:
        axes.legend(fontsize=8)
    if absent:
        axes.text(0.02, 0.98, "absent: " + "; ".join(absent), transform=axes.transAxes, va="top", fontsize=7)


def panels(count: int) -> tuple[Figure, list[Axes]]:
    """Axes in rows of three."""
    columns = min(3, count)
    rows = -(-count // columns)
    figure, grid = plt.subplots(rows, columns, figsize=(4.6 * columns, 3.7 * rows), layout="constrained", squeeze=False)
    axes = list(grid.flat)
    for unused in axes[count:]:
        unused.set_axis_off()
    return figure, axes[:count]


def against(cells: Cells, name: str, label: str, other: str) -> Figure | None:
    """Time of a train step, and tokens a second, against ``name`` at each value of ``other``."""
    others = cells.axis(other, **MAIN)
    if not others:
        return None
    figure, axes = panels(len(others) + 1)
    for panel, value in zip(axes, others, strict=False):
        absent = []
        for pe in cells.axis("pe", **MAIN):
            absent += draw(panel, points_along(cells, name, pe=pe, **{other: value}, **MAIN), style(cells, pe), 1e3)
        finish(panel, x=label, y="train step [ms]", title=f"{other} = {value}", absent=absent)
    at = middle(others)
    for pe in cells.axis("pe", **MAIN):
        rates = [
            (x, group[0].case["batch_size"] * group[0].case["seq_len"] / value[0])
            for x, group in points_along(cells, name, pe=pe, **{other: at}, **MAIN)
            if (value := centre(group))
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
            value = centre(group)
            grid[row, column] = np.nan if value is None else value[0] * 1e3
            text = group[0].status if value is None else f"{value[0] * 1e3:.3g}"
            panel.text(column, row, text, ha="center", va="center", fontsize=8, color="white", path_effects=OUTLINE)
        image = panel.imshow(grid, norm="log", origin="lower", aspect="auto", cmap="cividis")
        panel.set(title=pe, xlabel="sequence length T [tokens]", ylabel="depth L [layers]")
        panel.set_xticks(range(len(lengths)), lengths)
        panel.set_yticks(range(len(depths)), depths)
        figure.colorbar(image, ax=panel, label="train step [ms]")
    return figure


OUTLINE = [mpl.patheffects.withStroke(linewidth=2, foreground="black")]


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
        finish(panel, x=label, y="peak allocated [MiB]", title=f"{other} = {middle(values)}")
    figure.suptitle("Peak memory of a train step (exact, no interval)", fontsize=10)
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
            pairs = zip(group, base.get(x, []), strict=False)  # both in the order of the runs
            ratio = over_runs([a.median / b.median for a, b in pairs if a.median and b.median])
            points += [(x, *ratio)] if ratio else []
        if points:
            x, y, low, high = np.array(points).T
            panel.errorbar(x, y, yerr=[y - low, high - y], capsize=3, **style(cells, pe))
    finish(panel, x="sequence length T [tokens]", y="train step / that of none", title=f"depth = {depth}")
    panel.set_yscale("linear")
    figure.suptitle("Bars: 95 % interval run to run" if len(cells.runs) > 1 else "One run: no interval", fontsize=10)
    return figure


def gradients(cells: Cells) -> Figure | None:
    """Gradient norms against depth for each block, with the theory line through the first point of the plain stack."""
    groups = [group for group in cells.where(phase="probe") if group[0].info]
    if not groups:
        return None
    places = dict.fromkeys(place for group in groups for place in group[0].info["probe"]["log10"])
    blocks = cells.axis("block", phase="probe")
    groups.sort(key=lambda group: (blocks.index(group[0].case["block"]), group[0].case["pe"]))
    figure, axes = panels(len(places))
    for panel, place in zip(axes, places, strict=True):
        for group in groups:
            probe, case = group[0].info["probe"], group[0].case
            if place not in probe["log10"]:
                continue
            depths, values = np.array(probe["depths"]), np.array(probe["log10"][place]["norm"])
            look = blocks.index(case["block"])
            dashes = "-" if case["pe"] == "sinusoidal" else ":"
            name = f"{case['block']}, {case['pe']}"
            panel.plot(
                depths, 10**values, dashes, marker=MARKERS[look], color=COLOURS[look + 1], label=name, markersize=4
            )
            if probe["theory"] is not None and case["pe"] == "learned":
                line = 10 ** (values[0] + probe["theory"] * (depths - depths[0]))
                panel.plot(depths, line, "--", color=COLOURS[0], label=f"theory, {probe['theory']:.3f} decades a layer")
        panel.set(yscale="log", xlabel="depth L [layers]", ylabel="gradient norm", title=place.replace("_", " "))
        panel.grid(alpha=0.3)
    axes[0].legend(fontsize=7, loc="lower left")
    seeds = groups[0][0].info["probe"]["seeds"]
    figure.suptitle(f"Gradients at initialisation, float64, mean of {seeds} seeds", fontsize=10)
    return figure


def denormals(cells: Cells) -> Figure | None:
    """Backward time over depth with subnormal numbers flushed and kept."""
    fields = {"phase": "backward", "init": "linear"}
    if "keep" not in cells.axis("denormals", **fields):
        return None
    figure, (panel,) = panels(1)
    for index, policy in enumerate(("flush", "keep"), 1):
        style = {"color": COLOURS[index], "marker": MARKERS[index], "label": policy}
        draw(panel, points_along(cells, "depth", denormals=policy, **fields), style, 1e3)
    finish(panel, x="depth L [layers]", y="backward [ms]", title="Subnormal numbers flushed to zero and kept")
    return figure


FIGURES: dict[str, Callable[[Cells], Figure | None]] = {
    f.__name__: f
    for f in (
        time_against_seq_len,
        time_against_depth,
        heat_map,
        memory,
        encoding_cost,
        gradients,
        denormals,
    )
}


def main(argv: Sequence[str] | None = None) -> int:
    """Draw every figure that the runs have data for; exit code 2 where a file is bad or there is none."""
    parser = argparse.ArgumentParser(description="Draw saved runs.")
    parser.add_argument("runs", nargs="*", type=Path, metavar="RUN.json", help="saved runs of one machine")
    parser.add_argument("--out", type=Path, default=RESULTS / "figures", help="folder for PNG and SVG (%(default)s)")
    options = parser.parse_args(argv)
    latest = newest()
    paths = options.runs or ([latest] if latest else [])
    if not paths:
        print(f"plots: no saved run in {RESULTS}/; make one with: pytest bench/ --benchmark-autosave", file=sys.stderr)
        return 2
    runs, bad = load_all(paths)
    for line in bad:
        print(f"plots: {line}", file=sys.stderr)
    strangers = [run for run in runs if run.machine != runs[0].machine]
    for run in strangers:
        print(f"plots: {run.path}: another machine or other settings than {runs[0].path}, left out", file=sys.stderr)
    if not runs:
        return 2
    mpl.use("Agg")
    mpl.rcParams["svg.hashsalt"] = "attnlib"  # the same run gives the same file
    cells = Cells([run for run in runs if run not in strangers])
    try:
        save(cells, options.out)
    except OSError as error:
        print(f"plots: cannot write figures in {options.out}: {error.strerror}", file=sys.stderr)
        return 2
    return 2 if bad or strangers else 0


def save(cells: Cells, folder: Path) -> None:
    """Write each figure as PNG and SVG and say so."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, make in FIGURES.items():
        figure = make(cells)
        if figure is None:
            print(f"plots: no data for {name}")
            continue
        for ending in ("png", "svg"):
            figure.savefig(folder / f"{name}.{ending}", dpi=110, metadata={"Date": None} if ending == "svg" else None)
        plt.close(figure)
        print(folder / f"{name}.png")


if __name__ == "__main__":
    sys.exit(main())
