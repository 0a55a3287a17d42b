"""Figures of trainings: accuracy by encoding, over the steps, against depth, and against the time of a step."""

from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from attnlib.compare.cells import Cells
from attnlib.compare.intervals import Estimate, mean_share
from attnlib.learning.equivalence import MARGIN
from attnlib.learning.study import BASE, Depth, Trained, depths, encodings, time_over_none, trainings
from attnlib.runs.schema import Training
from attnlib.show.figures.drawing import Sheet, band, look, style


def by_data(cells: Cells) -> dict[str, list[tuple[Trained, Estimate]]]:
    """Return the trained encodings with their test accuracies, by data set and depth in words."""
    found: dict[str, list[tuple[Trained, Estimate]]] = {}
    for one in encodings(cells):
        if one.test is not None:
            found.setdefault(f"{one.case.data}, L = {one.case.depth}", []).append((one, one.test))
    return found


def dot(axes: Axes, value: Estimate, place: float, colour: str) -> None:
    """Draw a number with its interval, horizontally at height ``place``."""
    axes.errorbar(
        [value.value], [place], xerr=arms(value), fmt="o", color=colour, markersize=5, capsize=3, linewidth=1.4
    )


def arms(value: Estimate) -> list[list[float]]:
    """Return the lengths of an error bar below and above a value, as matplotlib takes them."""
    return [[value.value - value.low], [value.high - value.value]]


def learned_accuracy(cells: Cells) -> Figure | None:
    """Test accuracy with each encoding, and its difference from the fixed encoding, paired by seed."""
    found = by_data(cells)
    if not found:
        return None
    sheet = Sheet(2 * len(found))
    for place, (data, rows) in enumerate(found.items()):
        own, paired = sheet.panels[2 * place : 2 * place + 2]
        paired.axvspan(-MARGIN, MARGIN, color="0.88", zorder=0)
        paired.axvline(0, color="black", linewidth=0.8)
        for y, (one, test) in enumerate(rows):
            colour = style(cells, one.case.pe)["color"]
            dot(own, test, y, colour)
            if one.against is not None:
                dot(paired, one.against.difference, y, colour)
        own.set(xlabel="test accuracy", title=f"{data}: accuracy")
        paired.set(xlabel=f"accuracy minus {BASE}'s", title=f"{data}: paired by seed")
        for axes, names in ((own, [one.case.pe for one, _ in rows]), (paired, [""] * len(rows))):
            axes.set_yticks(range(len(rows)), names)
            axes.set_ylim(len(rows) - 0.5, -0.5)
            axes.grid(alpha=0.3)
    return sheet.finish(
        "What is learned with each encoding: intervals of accuracies 95 %, of differences 95 % for all of a data set; "
        "grey: within the margin"
    )


def accuracy_over_steps(cells: Cells) -> Figure | None:
    """Mean test accuracy over the seeds against the steps of the optimiser; one that has ended keeps its last."""
    found: dict[tuple[str, int], dict[str, list[Training]]] = {}
    for case, training in trainings(cells, "learn"):
        if training.marks:
            found.setdefault((str(case.data), case.depth), {}).setdefault(case.pe, []).append(training)
    if not found:
        return None
    sheet = Sheet(len(found))
    for panel, ((data, depth), by_encoding) in zip(sheet.panels, sorted(found.items()), strict=True):
        for pe in sorted(by_encoding, key=cells.names("pe").index):
            draw_steps(panel, by_encoding[pe], style(cells, pe) | {"linewidth": 1.5, "markersize": 4})
        panel.set(xscale="log", xlabel="steps", ylabel="test accuracy", title=f"{data}, L = {depth}")
        panel.grid(alpha=0.3)
    return sheet.finish("How fast it is learned: bands 95 % over the seeds; the last rise is where the rate falls")


def draw_steps(panel: Axes, own: list[Training], line: dict[str, Any]) -> None:
    """Draw the mean accuracy of an encoding's trainings at every number of steps at which one was judged."""
    curves = [dict(training.marks) | {training.steps or 0: training.test_accuracy or 0.0} for training in own]
    places = sorted(set().union(*curves))
    held = [
        [curve[max(at for at in curve if at <= place)] for curve in curves if min(curve) <= place] for place in places
    ]
    band(panel, [(place, *mean_share(values)) for place, values in zip(places, held, strict=True)], line)


def depth_accuracy(cells: Cells) -> Figure | None:
    """Train and test accuracy against depth, by block and number of training examples."""
    found = depths(cells)
    if not found:
        return None
    kinds = list(dict.fromkeys((one.data, one.block) for one in found))
    sheet = Sheet(len(kinds), share=len(kinds))
    for panel, (data, block) in zip(sheet.panels, kinds, strict=True):
        own = [one for one in found if (one.data, one.block) == (data, block)]
        for place, count in enumerate(sorted({one.n_train for one in own}), 3):
            draw_depths(panel, [one for one in own if one.n_train == count], place)
        ticks = sorted({one.depth for one in own})
        panel.set_xscale("log", base=2)
        panel.set_xticks(ticks, list(map(str, ticks)))
        panel.set(xlabel="depth L [layers]", ylabel="accuracy", title=f"{data}, {block}")
        panel.grid(alpha=0.3)
    return sheet.finish("Does depth overfit? Bands: 95 % over the seeds; crosses: no seed left chance")


def draw_depths(panel: Axes, line: list[Depth], place: int) -> None:
    """Draw train accuracy dashed, test accuracy solid with its interval, and a cross where no seed learned anything."""
    looks = look(place, f"{line[0].n_train} examples, test") | {"linewidth": 1.8, "markersize": 6}
    points = [(one.depth, *mean_share(list(one.test.values()))) for one in line if one.test]
    band(panel, points, looks)
    dashed = looks | {"linestyle": "--", "linewidth": 1.2, "markersize": 3}
    dashed["label"] = f"{line[0].n_train} examples, train"
    train = [(one.depth, mean_share(list(one.train.values())).value) for one in line if one.train]
    panel.plot([x for x, _ in train], [y for _, y in train], **dashed)
    dead = [(one.depth, mean_share(list(one.test.values())).value) for one in line if one.test and not one.trainable]
    panel.plot([x for x, _ in dead], [y for _, y in dead], "x", color="black", markersize=9, zorder=5)


def accuracy_cost(cells: Cells) -> Figure | None:
    """Test accuracy against the time of a training step over that of the same step without encoding."""
    points = {
        data: found
        for data, rows in by_data(cells).items()
        if (found := [(one, test, ratio) for one, test in rows if (ratio := time_over_none(cells, one.case))])
    }
    if not points:
        return None
    sheet = Sheet(len(points), size=(6.0, 4.2))
    for panel, (data, rows) in zip(sheet.panels, points.items(), strict=True):
        for one, test, ratio in rows:
            line = style(cells, one.case.pe) | {"linewidth": 1.2, "markersize": 6, "label": one.case.pe}
            panel.errorbar([ratio.value], [test.value], xerr=arms(ratio), yerr=arms(test), capsize=2, **line)
        panel.set(xlabel="time of a training step over none's", ylabel="test accuracy", title=data)
        panel.grid(alpha=0.3)
    return sheet.finish("What accuracy costs: intervals of ratios within the run, of accuracies 95 % over the seeds")
