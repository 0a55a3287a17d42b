"""A table of values; how each column is written is said once, and applied last."""

import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from html import escape as escape_html
from typing import Any

from rich import table as rich_table
from rich.console import Console
from rich.markup import escape as escape_markup
from rich.text import Text

WIDTH = 200  # of a table that goes to a file or a pipe
ABSENT = "-"


@dataclass(frozen=True)
class Column:
    """How the values of a column are written: numbers on the right, faintly what ``faint`` finds to say little."""

    form: Callable[[Any], str] = str
    number: bool = False
    faint: Callable[[Any], bool] | None = None


@dataclass(frozen=True)
class Table:
    """Values under headings, with the lines that belong above and below them.

    Args:
        columns: heading to column, in order.
        rows: heading to value; what is None or left out is absent and written ``-``.
        before: what must be known before it is read.
        after: how it is to be read.
        links: for each row, heading to the id of the case that its value comes from; for pages that can lead there.
    """

    columns: Mapping[str, Column]
    rows: Sequence[Mapping[str, Any]]
    before: Sequence[str] = ()
    after: Sequence[str] = ()
    links: Sequence[Mapping[str, str]] = ()

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
        drawn = rich_table.Table(box=None)
        for heading, column in self.columns.items():
            drawn.add_column(heading, justify="right" if column.number else "left")
        for row, texts in zip(self.rows, self.texts(), strict=True):
            styles = [
                "dim" if column.faint and row.get(heading) is not None and column.faint(row[heading]) else ""
                for heading, column in self.columns.items()
            ]
            drawn.add_row(*map(Text, texts.values(), styles))
        terminal.print(drawn)
        for line in self.after:
            terminal.print(escape_markup(line))


def _quoted(text: str) -> str:
    return escape_html(text, quote=False)
