"""Figures of signals and gradients: against depth with theory, over the layers, and the time of subnormal numbers."""

from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from attnlib.compare.cells import Cells, points_along
from attnlib.runs.load import Cell
from attnlib.show.figures.drawing import Sheet, finish, finish_decades, look, name_ends, style

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
    """Return each saved check with its curves, in the registry's order, from one run: all runs have the same curves."""
    order = cells.names("pe").index
    groups = sorted(cells.where(**fields), key=lambda group: order(group[0].case.pe))
    found: list[tuple[Cell, dict[str, Any]]] = []
    for group in groups:
        found += [(cell, cell.probe.curves) for cell in group if cell.probe][:1]
    return found


def power(logs: np.ndarray) -> np.ndarray:
    """Return 10 to these powers, clipped to the range of floats."""
    return np.asarray(10.0 ** np.clip(logs, -300, 300))


def curve(axes: Axes, x: Any, logs: Any, line: dict[str, Any]) -> None:
    """Draw a curve of mean log10 values, with smaller markers, at most about a dozen."""
    own = {"markersize": line["markersize"] / 2, "markevery": max(1, len(x) // 12)}
    axes.plot(x, power(np.array(logs, dtype=float)), **line | own)


def gradients(cells: Cells) -> Figure | None:
    """Gradient norms of the first layer and of the embeddings against depth, every encoding, with the theory line."""
    reference = {"phase": "rate", "d_model": 64, "head_dim": 16}
    inits = cells.axis("init", **reference)
    if not inits:
        return None
    embeddings = probed(cells, init="torch_mha", pe="learned", **reference)
    sheet = Sheet(len(inits) + bool(embeddings), share=len(inits) + 1)
    for panel, init in zip(sheet.panels, inits, strict=False):
        found = probed(cells, init=init, **reference)
        for cell, curves in found:
            curve(panel, curves["depth"], curves["first_layer"], style(cells, cell.case.pe))
        rate = next((line for one in found if (line := theory_line(panel, *one))), "")
        finish_decades(panel, x="depth L [layers]", y="gradient norm", title=f"first layer, {init}{rate}")
    for cell, curves in embeddings:
        panel = sheet.panels[-1]
        for index, place in enumerate(("token_embedding", "positional"), 1):
            curve(panel, curves["depth"], curves[place], look(index, place.replace("_", " ")))
        rate = theory_line(panel, cell, curves | {"first_layer": curves["token_embedding"]})
        finish_decades(panel, x="depth L [layers]", y="gradient norm", title=f"embeddings, torch_mha{rate}")
    return sheet.finish("Gradients of plain stacks at initialisation: float64, D = 64, HK = 64, mean of the seeds")


def theory_line(axes: Axes, cell: Cell, curves: dict[str, Any]) -> str:
    """Draw the closed-form rate through the first point of the first layer's curve; return it in words, "" without."""
    rate = cell.probe.claims[0].theory if cell.probe else None
    if rate is None:
        return ""
    depth, first = np.array(curves["depth"]), curves["first_layer"][0]
    line = power(first + rate * (depth - depth[0]))
    axes.plot(depth, line, color="white", linewidth=1, label="_white below", zorder=5)
    axes.plot(depth, line, color="black", linestyle=(0, (3, 3)), linewidth=1, label="theory", zorder=6)
    return f"\ntheory: {rate:.3f} decades a layer"


def profiles(cells: Cells) -> Figure | None:
    """Gradient norms over the layers of one plain network, by role of the weights."""
    wanted = [(init, pe, probed(cells, phase="profile", init=init, pe=pe)) for init, pe in PROFILES]
    shown = [(init, pe, found[0][1]) for init, pe, found in wanted if found]
    if not shown:
        return None
    sheet = Sheet(len(shown), share=len(shown))
    for panel, (init, pe, curves) in zip(sheet.panels, shown, strict=True):
        for index, role in enumerate(ROLES):
            curve(panel, curves["layer"], curves[role], look(index, role))
        finish_decades(panel, x="layer (0 is next to the input)", y="gradient norm", title=f"{init}, {pe}")
    name_ends(*sheet.panels)
    return sheet.finish("Gradients inside one plain network: float64, mean of the seeds; q and k end in rounding")


def collapse(cells: Cells) -> Figure | None:
    """Collapse of the tokens: their relative rank-1 residual over the layers."""
    skipping = [block for block in cells.names("block") if block != "plain"]
    kinds: list[tuple[str, list[tuple[Cell, dict[str, Any]]]]] = [
        ("plain, no mask", probed(cells, phase="collapse", block="plain", causal=False)),
        ("plain, causal mask", probed(cells, phase="collapse", block="plain", causal=True)),
        ("with a skip, no encoding", [p for b in skipping for p in probed(cells, phase="collapse", block=b)]),
    ]
    kinds = [(title, found) for title, found in kinds if found]
    if not kinds:
        return None
    sheet = Sheet(len(kinds), share=len(kinds))
    for panel, (title, found) in zip(sheet.panels, kinds, strict=True):
        for cell, curves in found:
            block = cell.case.block
            plain = block == "plain"
            line = style(cells, cell.case.pe) if plain else look(cells.names("block").index(block), block)
            curve(panel, curves["layer"], curves["residual"], line)
        finish_decades(panel, x="layer boundary", y="relative rank-1 residual", title=title)
    name_ends(*sheet.panels)
    return sheet.finish("Tokens become alike: cubic where only the input knows positions, geometric otherwise")


def denormals(cells: Cells) -> Figure | None:
    """Backward time against depth with subnormal numbers flushed and kept, and the share of such gradients."""
    fields = {"phase": "backward", "init": "linear"}
    if "keep" not in cells.axis("denormals", **fields):
        return None
    sheet = Sheet(2)
    left, right = sheet.panels
    for index, policy in enumerate(("flush", "keep"), 1):
        points = points_along(cells, "depth", denormals=policy, **fields)
        sheet.draw(left, cells, points, look(index, policy), 1e3)
        read = [(x, group[0].probe) for x, group in points]
        counts = [(x, probe.counts["parameters"]) for x, probe in read if probe and probe.counts]
        for kind, dashes in (("subnormal", "-"), ("zero", ":")):
            share = [(x, getattr(count, kind) / count.numbers) for x, count in counts]
            if share:
                right.plot(*np.array(share).T, dashes, **look(index, f"{kind} ({policy})"))
    finish(left, x="depth L [layers]", y="backward [ms]", title="time")
    right.set(xlabel="depth L [layers]", ylabel="share of parameter gradients", title="subnormal and zero gradients")
    right.grid(alpha=0.3)
    name_ends(left, right)
    return sheet.finish("Subnormal numbers flushed to zero and kept", cells)
