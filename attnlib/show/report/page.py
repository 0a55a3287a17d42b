"""The report page: cells, figures and a comparison in one HTML template."""

import base64
import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined

from attnlib.compare.cells import Cells, interval_note
from attnlib.compare.comparison import Comparison
from attnlib.runs.find import checkout
from attnlib.runs.save import save_over
from attnlib.runs.text import printable
from attnlib.show.beside import beside_tables
from attnlib.show.ceilings import ceilings
from attnlib.show.comparison import compared
from attnlib.show.costs import costs
from attnlib.show.encodings import encodings
from attnlib.show.figures.files import caption
from attnlib.show.findings import findings
from attnlib.show.nodes import nodes
from attnlib.show.report import answers, cases, machine


def write(path: Path, cells: Cells, figures: Sequence[Path], comparison: Comparison | None = None) -> None:
    """Write the report of saved runs.

    Args:
        path: path of the page.
        cells: the saved runs.
        figures: PNG files that ``figures.files.draw`` wrote, each with its SVG beside it.
        comparison: a comparison to show with its verdicts, or None.

    Raises:
        OSError: the page cannot be written, **or** a figure cannot be read.
    """
    pictures = [{"name": png.stem, "says": caption(png.stem), "source": source(png)} for png in figures]
    content = page(cells, pictures, comparison).encode()
    path.parent.mkdir(parents=True, exist_ok=True)
    save_over(path, content, path.name)


def source(png: Path) -> str:
    """Return the SVG beside a PNG as a data URL."""
    return f"data:image/svg+xml;base64,{base64.b64encode(png.with_suffix('.svg').read_bytes()).decode()}"


def place(run: Path) -> str:
    """Return a run's path relative to the checkout, or only its name outside of it, quoted for a shell."""
    home = checkout(run.resolve())
    return shlex.quote(printable(str(run.resolve().relative_to(home)) if home else run.name))


def page(cells: Cells, pictures: list[dict[str, str]], comparison: Comparison | None) -> str:
    """Return the page as HTML."""
    templates = Environment(
        loader=PackageLoader("attnlib.show.report"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    content: dict[str, Any] = {
        "names": [run.name for run in cells.runs],
        "paths": [place(run.path) for run in cells.runs],
        "answers": answers.answers(cells),
        "machine": machine.machine(cells),
        "runs": machine.runs(cells),
        "nodes": nodes(cells) if len(cells.nodes) > 1 else [],
        "columns": cases.COLUMNS,
        "rows": cases.rows(cells),
        "choices": {
            "phase": cells.axis("phase"),
            "encoding": cells.axis("pe"),
            "status": sorted({cell.status for run in cells.runs for cell in run.cells}),
        },
        "known": cells.by_id.keys(),
        "note": interval_note(cells),
        "costs": [*costs(cells)[::-1], *beside_tables(cells)],  # the train step first
        "ceilings": [table for table in ceilings(cells) if table.rows],
        "encodings": [table for table in encodings(cells) if table.rows],
        "findings": [table for table in findings(cells) if table.rows],
        "pictures": pictures,
        "compared": None if comparison is None else compared(comparison),
    }
    return templates.get_template("report.html").render(content)
