"""What becomes of signals and gradients: against depth with theory, over the layers, and what vanishing costs."""

from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from attnlib.compare.cells import Cells, points_along
from attnlib.runs.load import Cell
from attnlib.show.figures.drawing import (
    bar_note,
    draw,
    finish,
    finish_decades,
    look,
    panels,
    style,
)

ROLES = ("activation", "v", "out", "q", "k")
PROFILES = (
    ("torch_mha", "none"),
    ("linear", "none"),
    ("unit", "none"),
    ("unit", "t5"),
    ("unit", "shaw"),
    ("unit", "rotary"),
)


def probed(cells: Cells, **fields: Any) -> list[tuple[Cell, dict[str, Any]]]:
    """Checks that were saved, with their curves, in the registry's order: the same in every run, so one a case."""
    order = cells.names("pe").index
    groups = sorted(cells.where(**fields), key=lambda group: order(group[0].case["pe"]))
    found = [next((cell for cell in group if cell.probe), None) for group in groups]
    return [(cell, cell.probe["curves"]) for cell in found if cell is not None]


def power(logs: np.ndarray) -> np.ndarray:
    """10 to these powers, as far as floats reach."""
    return np.asarray(10.0 ** np.clip(logs, -300, 300))


def curve(axes: Axes, x: Any, logs: Any, line: dict[str, Any]) -> None:
    """Draw a mean of logarithms."""
    axes.plot(x, power(np.array(logs, dtype=float)), linewidth=1.2, **line | {"markersize": 3})


def gradients(cells: Cells) -> Figure | None:
    """Gradient of the first layer and of the embeddings against depth, every encoding, with the theory line."""
    reference = {"phase": "rate", "d_model": 64, "head_dim": 16}
    inits = cells.axis("init", **reference)
    if not inits:
        return None
    figure, axes = panels(len(inits) + 1)
    for panel, init in zip(axes, inits, strict=False):
        found = probed(cells, init=init, **reference)
        for cell, curves in found:
            curve(panel, curves["depth"], curves["first_layer"], style(cells, cell.case["pe"]))
        legend: dict[str, Any] = {"fontsize": 6, "ncols": 2, "loc": "upper right" if init == "unit" else "lower left"}
        if found:
            theory_line(panel, *found[0])
        finish_decades(panel, x="depth L [layers]", y="gradient norm", title=f"first layer, {init}", **legend)
    for cell, curves in probed(cells, init="torch_mha", pe="learned", **reference):
        for index, place in enumerate(("token_embedding", "positional"), 1):
            curve(axes[-1], curves["depth"], curves[place], look(index, place.replace("_", " ")))
        theory_line(axes[-1], cell, curves | {"first_layer": curves["token_embedding"]})
        finish_decades(axes[-1], x="depth L [layers]", y="gradient norm", title="embeddings, learned, torch_mha")
    figure.suptitle("Plain stacks at initialisation, float64, D = 64, HK = 64, mean of the seeds", fontsize=10)
    return figure


def theory_line(axes: Axes, cell: Cell, curves: dict[str, Any]) -> None:
    """The closed-form rate through the first point of the first layer's curve."""
    rate = cell.probe["claims"][0]["theory"]
    depth, first = np.array(curves["depth"]), curves["first_layer"][0]
    line = power(first + rate * (depth - depth[0]))
    axes.plot(depth, line, "--", color="black", label=f"theory, {rate:.3f} decades a layer", zorder=5)


def profiles(cells: Cells) -> Figure | None:
    """Gradients by role over the layers of one network."""
    wanted = [(init, pe, probed(cells, phase="profile", init=init, pe=pe)) for init, pe in PROFILES]
    shown = [(init, pe, found[0][1]) for init, pe, found in wanted if found]
    if not shown:
        return None
    figure, axes = panels(len(shown))
    for panel, (init, pe, curves) in zip(axes, shown, strict=True):
        for index, role in enumerate(ROLES):
            curve(panel, curves["layer"], curves[role], look(index, role))
        finish_decades(panel, x="layer (0 is next to the input)", y="gradient norm", title=f"{init}, {pe}")
    figure.suptitle(
        "Gradients inside one plain network, float64, mean of the seeds; q and k end in rounding", fontsize=10
    )
    return figure


def collapse(cells: Cells) -> Figure | None:
    """How fast tokens become alike: the relative rank-1 residual over the layers."""
    kinds: tuple[tuple[str, dict[str, Any]], ...] = (
        ("no mask", {"block": "plain", "causal": False}),
        ("causal mask", {"block": "plain", "causal": True}),
        ("with a skip, no encoding", {"causal": False}),
    )
    figure, axes = panels(len(kinds))
    for panel, (title, fields) in zip(axes, kinds, strict=True):
        for cell, curves in probed(cells, phase="collapse", **fields):
            if title.startswith("with"):
                if cell.case["block"] == "plain":
                    continue
                line = look(cells.names("block").index(cell.case["block"]), cell.case["block"])
            else:
                line = style(cells, cell.case["pe"])
            curve(panel, curves["layer"], curves["residual"], line)
        if panel.get_lines():
            finish_decades(panel, x="layer boundary", y="relative rank-1 residual", title=title)
        else:
            panel.set_axis_off()
    figure.suptitle("Tokens become alike: cubic where only the input knows positions, geometric otherwise", fontsize=10)
    return figure if any(panel.get_lines() for panel in axes) else None


def denormals(cells: Cells) -> Figure | None:
    """Vanishing costs time: backward time over depth, subnormal numbers flushed and kept, and how many there are."""
    fields = {"phase": "backward", "init": "linear"}
    if "keep" not in cells.axis("denormals", **fields):
        return None
    figure, (left, right) = panels(2)
    for index, policy in enumerate(("flush", "keep"), 1):
        points = points_along(cells, "depth", denormals=policy, **fields)
        draw(left, cells, points, look(index, policy), 1e3)
        read = [(x, group[0].probe.get("counts")) for x, group in points]
        counts = [(x, found["parameters"]) for x, found in read if found]
        for kind, dashes in (("subnormal", "-"), ("zero", ":")):
            share = [(x, count[kind] / count["numbers"]) for x, count in counts]
            if share:
                right.plot(*np.array(share).T, dashes, **look(index, f"{kind}, {policy}"))
    finish(left, x="depth L [layers]", y="backward [ms]", title="time")
    right.set(xlabel="depth L [layers]", ylabel="share of parameter gradients", title="subnormal and zero gradients")
    right.grid(alpha=0.3)
    if right.get_lines():
        right.legend(fontsize=8)
    figure.suptitle(f"Subnormal numbers flushed to zero and kept: {bar_note(cells)}", fontsize=10)
    return figure
