"""The frontier: the longest and deepest stacks that fit into a given memory."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import matplotlib as mpl

from attnlib.cases.text import size
from attnlib.show.figures.drawing import Sheet, finish, look, name_ends
from attnlib.show.figures.files import drawn, write


def draw_frontier(found: Mapping[str, Mapping[str, Sequence[Mapping[str, int]]]], memory: int, folder: Path) -> Path:
    """Draw the frontier of each encoding over length and depth, and return the PNG's path.

    Args:
        found: frontier by encoding, see ``attnlib.predict.frontier.frontier``.
        memory: bytes of memory.
        folder: folder for the PNG and the SVG.
    """
    with drawn():
        sheet = Sheet(1, size=(5.6, 4.0))
        (panel,) = sheet.panels
        for place, (pe, sides) in enumerate(found.items()):
            points = {
                (p["seq_len"], p["depth"]) for side in sides.values() for p in side if p["seq_len"] and p["depth"]
            }
            if points:
                lengths, depths = zip(*sorted(points, key=lambda point: (point[0], -point[1])), strict=True)
                panel.plot(lengths, depths, **look(place, pe))
        finish(panel, x="sequence length T [tokens]", y="depth L [layers]", title="stacks below a line fit")
        panel.xaxis.set_major_locator(mpl.ticker.LogLocator())
        panel.xaxis.set_major_formatter(mpl.ticker.FuncFormatter(lambda value, _: f"{value:,.0f}"))
        name_ends(panel)
        figure = sheet.finish(f"Longest and deepest stacks within {size(memory)}, by predicted peak")
        return write(figure, folder / "frontier")
