"""``attnlib export``: write the cases of saved runs as rows, for pandas, spreadsheets and databases."""

import argparse
import csv
import io
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from attnlib.commands.options import USAGE, add_names, runs_of
from attnlib.errors import message
from attnlib.runs.save import save_over
from attnlib.show.table import Column, Table
from attnlib.show.tidy import tidy

Rows = Sequence[Mapping[str, Any]]


def declare(commands: Any) -> None:
    """Add the command and its options."""
    command = commands.add_parser(
        "export",
        help="write the cases of saved runs as rows of CSV, Markdown or Parquet",
        description="Units are seconds and bytes; a value that was not measured is empty (- in Markdown).",
        epilog="example: attnlib export results/reference/*.json --csv --out cases.csv",
    )
    add_names(command)
    form = command.add_mutually_exclusive_group(required=True)
    for name, text in (("csv", "comma-separated"), ("markdown", "a table"), ("parquet", "needs pyarrow and --out")):
        form.add_argument(f"--{name}", dest="form", action="store_const", const=name, help=text)
    command.add_argument("--out", type=Path, metavar="FILE", help="write to this file instead of the terminal")
    command.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Write the rows; return 4 if a file could not be read."""
    if options.form == "parquet" and options.out is None:
        raise ValueError(message("--parquet writes no text", do="name a file with --out"))
    runs, left_out = runs_of(options.runs)
    rows = tidy(runs)
    if not rows:
        raise ValueError(message("no cases in these runs", do="name other runs"))
    if options.out and options.out.resolve() in [run.path.resolve() for run in runs]:
        raise ValueError(message(f"--out {options.out} is one of the runs", do="name another file"))
    content = FORMS[options.form](rows)
    if options.out is None:
        sys.stdout.write(content.decode())
    else:
        try:
            save_over(options.out, content, options.out.name)
        except OSError as error:
            raise OSError(message(f"cannot write {options.out}: {error.strerror}")) from None
    return USAGE if left_out else 0


def as_csv(rows: Rows) -> bytes:
    """Return rows as comma-separated values with a header."""
    text = io.StringIO()
    writer = csv.DictWriter(text, list(rows[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue().encode()


def as_markdown(rows: Rows) -> bytes:
    """Return rows as a Markdown table."""
    return (Table({name: Column() for name in rows[0]}, rows).markdown() + "\n").encode()


def as_parquet(rows: Rows) -> bytes:
    """Return rows as a Parquet file.

    Raises:
        ValueError: pyarrow is not installed.
    """
    try:
        import pyarrow as arrow
        from pyarrow import parquet
    except ImportError:
        raise ValueError(message("--parquet needs pyarrow", do="pip install pyarrow")) from None
    columns = {}
    for name in rows[0]:
        values = [row[name] for row in rows]
        try:
            columns[name] = arrow.array(values)
        except (arrow.ArrowException, OverflowError):  # of several types, or over 64 bits: saved as text
            columns[name] = arrow.array([None if value is None else str(value) for value in values])
    content = io.BytesIO()
    parquet.write_table(arrow.table(columns), content)
    return content.getvalue()


FORMS: dict[str, Callable[[Rows], bytes]] = {"csv": as_csv, "markdown": as_markdown, "parquet": as_parquet}
