"""A table of values; how each column is written is said once, and applied last."""

import re
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from html import escape as escape_html
from typing import Any

from rich import table as rich_table
from rich.cells import cell_len
from rich.console import Console
from rich.markup import escape as escape_markup
from rich.text import Text

WIDTH = 200  # of a table that goes to a file or a pipe
GAP = 2  # columns of the terminal between two of a table
PROSE = 30  # width of prose in a table that is too wide, and more where there is room
ABSENT = "-"
AFTER_SLASH = re.compile(r"(?<=/)(?=[^\W\d])")  # within a path; a fraction is one number


@dataclass(frozen=True)
class Column:
    """Format of a column's values: numbers on the right, faint those for which ``faint`` is True.

    ``prose`` may be broken between words for the other columns' sake.
    """

    form: Callable[[Any], str] = str
    number: bool = False
    faint: Callable[[Any], bool] | None = None
    prose: bool = False


@dataclass(frozen=True)
class Table:
    """Values under headings, with the lines that belong above and below them.

    Args:
        columns: heading to column, in order.
        rows: heading to value; what is None or left out is absent and written ``-``.
        before: what must be known before it is read.
        after: how it is to be read.
        links: for each row, heading to the id of the case that its value comes from; for pages that can lead there.
        keys: number of columns, the first ones, that say what a row is.
    """

    columns: Mapping[str, Column]
    rows: Sequence[Mapping[str, Any]]
    before: Sequence[str] = ()
    after: Sequence[str] = ()
    links: Sequence[Mapping[str, str]] = ()
    keys: int = 1

    def texts(self) -> list[dict[str, str]]:
        """Every row as text."""
        return [
            {
                heading: ABSENT if row.get(heading) is None else column.form(row[heading])
                for heading, column in self.columns.items()
            }
            for row in self.rows
        ]

    def markdown(self) -> str:
        """The table and its lines in Markdown; nothing in it is markup."""
        rows = [list(self.columns), ["---"] * len(self.columns), *(list(row.values()) for row in self.texts())]
        lines = ["| " + " | ".join(_quoted(cell).replace("|", "\\|") for cell in row) + " |" for row in rows]
        around = [[_quoted(line) for line in part] for part in (self.before, self.after)]
        return "\n\n".join("\n".join(part) for part in (around[0], lines, around[1]) if part)

    def print(self) -> None:
        """Write the table and its lines to the terminal, or ``WIDTH`` columns wide to where the output goes."""
        terminal = Console(width=None if sys.stdout.isatty() else WIDTH, highlight=False, emoji=False)
        for line in self.before:
            terminal.print(escape_markup(line), style="bold")
        for place, widths in enumerate(self.blocks(terminal.width)):
            if place:
                terminal.print()
            terminal.print(self.drawn(widths), crop=False)
        for line in self.after:
            terminal.print(escape_markup(line))

    def blocks(self, room: int) -> list[dict[str, int]]:
        """Return the columns that stand side by side, with their widths: all where they fit into ``room`` as they are.

        Otherwise blocks that are written below each other, each with the keys. Keys, prose and headings are broken
        between words, and a number only where it is too wide by itself. A word that does not fit beside the keys is
        broken after a ``/``, and without one it stays whole.
        """
        texts = self.texts()
        words, parts, wanted, whole = {}, {}, {}, {}
        for heading, column in self.columns.items():
            cells = [row[heading] for row in texts]
            found = [word for text in (heading, *cells) for word in text.split()]
            words[heading] = widest(found)
            parts[heading] = widest(part for word in found for part in AFTER_SLASH.split(word))
            wanted[heading] = min(widest(cells), PROSE if column.prose else room)
            whole[heading] = widest([heading, *cells])
        if total(whole) <= room:
            return [whole]
        keys = {key: words[key] for key in list(self.columns)[: self.keys]}
        reserved = total(widened(keys, whole, room // 2)) - total(keys)  # for keys that need not be broken
        blocks = [keys]
        for heading in list(self.columns)[self.keys :]:
            left = room - total(keys) - GAP
            least = words[heading] if words[heading] <= left else parts[heading]
            width = max(least, min(wanted[heading], left))
            if len(blocks[-1]) > self.keys and total(blocks[-1]) + GAP + width + reserved > room:
                blocks.append(keys)
            blocks[-1] = blocks[-1] | {heading: width}
        return [widened(block, whole, room) for block in blocks]

    def drawn(self, widths: Mapping[str, int]) -> rich_table.Table:
        """Return the columns of these widths, for rich to write."""
        drawn = rich_table.Table(box=None, pad_edge=False, width=total(widths))
        for heading, width in widths.items():
            number = self.columns[heading].number
            drawn.add_column(Text(broken(heading, width)), justify="right" if number else "left", width=width)
        for row, texts in zip(self.rows, self.texts(), strict=True):
            cells = ((broken(texts[heading], width), self.style(row, heading)) for heading, width in widths.items())
            drawn.add_row(*(Text(*cell) for cell in cells))
        return drawn

    def style(self, row: Mapping[str, Any], heading: str) -> str:
        """Return the style of a cell."""
        faint = self.columns[heading].faint
        return "dim" if faint and row.get(heading) is not None and faint(row[heading]) else ""


def broken(text: str, width: int) -> str:
    """Return a text with line breaks after each ``/`` that a word needs to fit into ``width``."""
    words = text.split(" ")
    for place, word in enumerate(words):
        if cell_len(word) > width:
            lines = [""]
            for part in AFTER_SLASH.split(word):
                if lines[-1] and cell_len(lines[-1] + part) > width:
                    lines.append("")
                lines[-1] += part
            words[place] = "\n".join(lines)
    return " ".join(words)


def widest(texts: Iterable[str]) -> int:
    """Return the width of the widest text on a terminal; 1 of none."""
    return max(map(cell_len, texts), default=1)


def total(widths: Mapping[str, int]) -> int:
    """Return the width of columns side by side."""
    return sum(widths.values()) + GAP * (len(widths) - 1)


def widened(widths: Mapping[str, int], whole: Mapping[str, int], room: int) -> dict[str, int]:
    """Return the widths of a block's columns that use the room left, up to what each needs, the first ones first."""
    spare, found = room - total(widths), {}
    for heading, width in widths.items():
        found[heading] = width + max(0, min(spare, whole[heading] - width))
        spare -= found[heading] - width
    return found


def _quoted(text: str) -> str:
    return escape_html(text, quote=False)
