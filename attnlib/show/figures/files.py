"""Figures as PNG and SVG files, identical for the same runs whatever the user's settings of matplotlib."""

import io
import re
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from matplotlib import style
from matplotlib.figure import Figure

from attnlib.compare.cells import Cells
from attnlib.runs.text import docstring_summary
from attnlib.show.figures import FIGURES, find_figure

# A fixed salt makes SVG files reproducible; text stays text, in a font of the widths that were laid out.
DRAWN: dict[Any, Any] = {
    "svg.hashsalt": "attnlib",
    "svg.fonttype": "none",
    "font.sans-serif": ["DejaVu Sans", "Verdana"],
}
ATTRIBUTE = re.compile(r'="[^"]*"')
FINE = re.compile(r"\d+\.\d{5,}")  # coordinates, which are rounded to hundredths of a point


@contextmanager
def drawn() -> Iterator[None]:
    """Apply this suite's matplotlib settings, and none of the user's, where figures are drawn and written."""
    with style.context(["default", DRAWN]):
        yield


def draw(cells: Cells, folder: Path, names: Iterable[str] = FIGURES) -> dict[str, Path | None]:
    """Draw figures into a folder, as PNG and SVG.

    Returns:
        name to the PNG, or to None if the runs have no data for the figure.

    Raises:
        OSError: the folder cannot be written.
    """
    found: dict[str, Path | None] = {}
    with drawn():
        for name in names:
            figure = find_figure(name)(cells)
            found[name] = None if figure is None else write(figure, folder / name)
    return found


def write(figure: Figure, path: Path) -> Path:
    """Write a figure as PNG and SVG, and return the PNG's path.

    Raises:
        OSError: the folder cannot be written.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path.with_suffix(".png"), dpi=110)
    figure.set_layout_engine("none")  # keep the layout that was computed for the PNG
    text = io.StringIO()
    figure.savefig(text, format="svg", metadata={"Date": None})
    fine = ATTRIBUTE.sub(lambda own: FINE.sub(lambda number: f"{float(number[0]):.2f}", own[0]), text.getvalue())
    path.with_suffix(".svg").write_text(re.sub(r"\n +", "\n", fine), encoding="utf-8")
    return path.with_suffix(".png")


def caption(name: str) -> str:
    """Return a figure's caption: the first line of its function's docstring."""
    return docstring_summary(find_figure(name))
