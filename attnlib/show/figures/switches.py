"""The figure of what switches cost, one line of the figure a switch."""

import numpy as np
from matplotlib.figure import Figure

from attnlib.compare.cells import Cells
from attnlib.show.costs import reference_name
from attnlib.show.figures.drawing import COLOURS, MARKERS, Sheet, Style

PHASES = ("forward", "train_step")


def switch_cost(cells: Cells) -> Figure | None:
    """Time with each switch over that without it, with interval: a panel a phase, a row a switch, a marker a length."""
    groups = [group for group in cells.by_id.values() if "switch=" in group[0].test and cells.over_reference(group)]
    deepest = max((group[0].case.depth for group in groups), default=0)
    groups = [group for group in groups if group[0].case.depth == deepest]
    labels = [pe for pe in cells.names("pe") if any(group[0].case.pe == pe for group in groups)]
    phases = [phase for phase in PHASES if any(group[0].case.phase == phase for group in groups)]
    if not phases:
        return None
    sheet = Sheet(len(phases), size=(5.2, 0.9 + 0.28 * len(labels)))
    lengths = sorted({group[0].case.seq_len for group in groups})
    for panel, phase in zip(sheet.panels, phases, strict=True):
        for place, T in enumerate(lengths):
            own = [group for group in groups if group[0].case.phase == phase and group[0].case.seq_len == T]
            found = {group[0].case.pe: value for group in own if (value := cells.over_reference(group))}
            rows = [n for n, label in enumerate(labels) if label in found]
            if not rows:
                continue
            value, low, high = np.array([found[labels[n]] for n in rows]).T
            # lengths of a switch lie beneath each other, so that their intervals can be told apart
            shift = 0.22 * (place - (len(lengths) - 1) / 2)
            look: Style = {"color": COLOURS[place], "marker": MARKERS[place], "markersize": 4, "linestyle": "none"}
            ends = [np.maximum(0, value - low), np.maximum(0, high - value)]
            panel.errorbar(value, np.array(rows) + shift, xerr=ends, capsize=2, label=f"T = {T}", **look)
        panel.axvline(1, color=COLOURS[0], linewidth=0.8)
        panel.set(xlabel=f"time over {reference_name(groups)}", title=f"{phase}, L = {deepest}")
        panel.set_yticks(range(len(labels)), labels if panel is sheet.panels[0] else [""] * len(labels))
        panel.set_ylim(len(labels) - 0.5, -0.5)
        panel.grid(axis="x", alpha=0.3)
    return sheet.finish("What a switch costs, beside the same stack without it", cells)
