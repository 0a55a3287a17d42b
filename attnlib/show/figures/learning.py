"""What was learned: accuracy by encoding, against depth, and against what it costs."""

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from attnlib.compare.cells import Cells
from attnlib.compare.intervals import Estimate, t_interval
from attnlib.learning.equivalence import MARGIN
from attnlib.learning.study import BASE, Depth, Trained, depths, encodings, time_over_none
from attnlib.show.figures.drawing import Sheet, band, look, style


def by_data(cells: Cells) -> dict[str, list[tuple[Trained, Estimate]]]:
    """Encodings that were trained with their test accuracies, by data set."""
    found: dict[str, list[tuple[Trained, Estimate]]] = {}
    for one in encodings(cells):
        if one.test is not None:
            found.setdefault(str(one.case.data), []).append((one, one.test))
    return found


def dot(axes: Axes, value: Estimate, place: float, colour: str) -> None:
    """A number with its interval on a line of its own."""
    ends = [[value.value - value.low], [value.high - value.value]]
    axes.errorbar([value.value], [place], xerr=ends, fmt="o", color=colour, markersize=5, capsize=3, linewidth=1.4)


def learned_accuracy(cells: Cells) -> Figure | None:
    """Test accuracy with each encoding, and its difference to the fixed one in pairs of a seed."""
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
        names = [one.case.pe for one, _ in rows]
        for axes, ticks, x, title in (
            (own, names, "test accuracy", f"{data}: accuracy"),
            (
                paired,
                ["" for _ in names],
                f"accuracy minus {BASE}'s",
                f"{data}: paired by seed, grey within the margin",
            ),
        ):
            axes.set_yticks(range(len(names)), ticks)
            axes.set_ylim(len(names) - 0.5, -0.5)
            axes.set(xlabel=x, title=title)
            axes.grid(alpha=0.3)
    return sheet.finish(
        "What is learned with each encoding: intervals of accuracies 95 %, of differences 95 % for all of a data set"
    )


def depth_accuracy(cells: Cells) -> Figure | None:
    """Train and test accuracy against depth, by block and number of examples."""
    found = depths(cells)
    if not found:
        return None
    kinds = list(dict.fromkeys((one.data, one.block) for one in found))
    sheet = Sheet(len(kinds), share=len(kinds))
    for panel, (data, block) in zip(sheet.panels, kinds, strict=True):
        own = [one for one in found if (one.data, one.block) == (data, block)]
        for place, count in enumerate(sorted({one.n_train for one in own}), 3):
            line = [one for one in own if one.n_train == count]
            draw_depths(panel, line, place)
        ticks = sorted({one.depth for one in own})
        panel.set_xscale("log", base=2)
        panel.set_xticks(ticks, list(map(str, ticks)))
        panel.set(xlabel="depth L [layers]", ylabel="accuracy", title=f"{data}, {block}")
        panel.grid(alpha=0.3)
    return sheet.finish("Does depth overfit? Bands: 95 % over the seeds; crosses: no seed left chance")


def draw_depths(panel: Axes, line: list[Depth], place: int) -> None:
    """Train accuracy dashed, test accuracy whole with its interval, and a cross where nothing was learned."""
    looks = look(place, f"{line[0].n_train} examples, test") | {"linewidth": 1.8, "markersize": 6}
    points = [(one.depth, *t_interval(list(one.test.values()))) for one in line if one.test]
    band(panel, points, looks)
    dashed = looks | {
        "label": f"{line[0].n_train} examples, train",
        "linestyle": "--",
        "linewidth": 1.2,
        "markersize": 3,
    }
    train = [(one.depth, t_interval(list(one.train.values())).value) for one in line if one.train]
    panel.plot([x for x, _ in train], [y for _, y in train], **dashed)
    dead = [(one.depth, t_interval(list(one.test.values())).value) for one in line if one.test and not one.trainable]
    panel.plot([x for x, _ in dead], [y for _, y in dead], "x", color="black", markersize=9, zorder=5)


def accuracy_cost(cells: Cells) -> Figure | None:
    """Test accuracy against the time of a training step over the same step without encoding."""
    points = {
        data: [(one, test, ratio) for one, test in rows if (ratio := time_over_none(cells, one.case))]
        for data, rows in by_data(cells).items()
    }
    points = {data: rows for data, rows in points.items() if rows}
    if not points:
        return None
    sheet = Sheet(len(points), size=(6.0, 4.2))
    for panel, (data, rows) in zip(sheet.panels, points.items(), strict=True):
        for one, test, ratio in rows:
            line = style(cells, one.case.pe) | {"linewidth": 1.2, "markersize": 6, "label": one.case.pe}
            x, y = ([[e.value - e.low], [e.high - e.value]] for e in (ratio, test))
            panel.errorbar([ratio.value], [test.value], xerr=x, yerr=y, capsize=2, **line)
        panel.set(xlabel="time of a training step over none's", ylabel="test accuracy", title=data)
        panel.grid(alpha=0.3)
    return sheet.finish("What accuracy costs: intervals of ratios within the run, of accuracies 95 % over the seeds")
