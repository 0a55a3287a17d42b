"""``attnlib``: commands on saved runs."""

import argparse
import json
import sys
from pathlib import Path

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from attnlib.runs import tables
from attnlib.runs.cells import read_cells
from attnlib.runs.compare import Comparison, compare
from attnlib.runs.load import load_all
from attnlib.runs.text import seconds, size


def main(argv: list[str] | None = None) -> int:
    """Run a command; returns its exit code, 2 where nothing could be read or compared."""
    parser = argparse.ArgumentParser(prog="attnlib", description="Commands on saved runs.")
    commands = parser.add_subparsers(dest="command", required=True)
    command = commands.add_parser(
        "compare",
        help="set two groups of saved runs side by side",
        description="Exit code: 0 no regression, 1 more bytes or a case that no longer runs, 2 nothing decided.",
    )
    command.add_argument("--base", nargs="+", type=Path, required=True, metavar="RUN", help="saved runs before")
    command.add_argument("--new", nargs="+", type=Path, required=True, metavar="RUN", help="saved runs after")
    command.add_argument("--json", action="store_true", help="print the comparison as JSON")
    command.set_defaults(run=run_compare)
    for name, table, text in (
        ("encodings", tables.encodings, "what each encoding costs, and how gradients and tokens die with it"),
        ("findings", tables.findings, "every claim about gradients: fitted with its 95 %% interval, theory, band"),
    ):
        command = commands.add_parser(name, help=text)
        command.add_argument("runs", nargs="*", type=Path, metavar="RUN", help="saved runs of one machine; the newest")
        command.add_argument("--markdown", action="store_true", help="print the table as Markdown")
        command.set_defaults(run=run_table, table=table)
    options = parser.parse_args(argv)
    code: int = options.run(options)
    return code


def complain(lines: list[str]) -> None:
    """Say what is wrong, a line each."""
    for line in lines:
        print(f"attnlib: {line}", file=sys.stderr)


def run_compare(options: argparse.Namespace) -> int:
    """``attnlib compare``."""
    base, bad = load_all(options.base)
    new, worse = load_all(options.new)
    complain(bad + worse)
    if not base or not new:
        complain(["nothing to compare"])
        return 2
    comparison = compare(base, new)
    if options.json:
        rows = [row.as_json() for row in comparison.rows]
        print(json.dumps({"machine": comparison.machine, "cases": rows}, indent=2))
    else:
        show(comparison)
    return 2 if bad or worse else comparison.exit_code


def run_table(options: argparse.Namespace) -> int:
    """``attnlib encodings`` and ``attnlib findings``."""
    cells, left_out = read_cells(options.runs)
    complain(left_out)
    rows = options.table(cells) if cells else []
    if not rows:
        complain([f"nothing for the table of {options.command}"] if cells else [])
        return 2
    if options.markdown:
        print(tables.markdown(rows))
    else:
        table = Table(box=None)
        for heading in rows[0]:
            table.add_column(heading)
        for row in rows:
            table.add_row(*map(escape, row.values()))
        console().print(table)
    return 2 if left_out else 0


def console() -> Console:
    """The terminal, or 200 columns where output goes elsewhere."""
    return Console(width=None if sys.stdout.isatty() else 200)


def show(comparison: Comparison) -> None:
    """Print a comparison as a table, machine differences first."""
    terminal = console()
    for line in comparison.machine:
        terminal.print(f"[bold]different machine or settings:[/] {escape(line)}")
    table = Table(box=None)
    table.add_column("case")
    for heading in ("base", "new", "ratio", "bytes"):
        table.add_column(heading, justify="right")
    table.add_column("verdict")
    for row in comparison.rows:
        times = ["-" if value is None else seconds(value) for value in (row.base_s, row.new_s)]
        ratio = "-" if row.ratio is None else f"{row.ratio:.3f}"
        change = bytes_change(row.base_bytes, row.new_bytes)
        table.add_row(escape(row.label), *times, ratio, change, escape(row.verdict))
    terminal.print(table)
    changed = comparison.exact_changes
    terminal.print(f"{len(comparison.rows)} cases; bytes or status changed in {len(changed)}")
    for row in changed:
        terminal.print(
            escape(f"  {row.label}: {row.base_status} {row.base_bytes} -> {row.new_status} {row.new_bytes} bytes")
        )


def bytes_change(base: int | None, new: int | None) -> str:
    """Exact comparison of peaks: the size where equal, the difference in bytes where not."""
    if base is None or new is None:
        return "-"
    return f"= {size(base)}" if base == new else f"{new - base:+,} B"


if __name__ == "__main__":
    sys.exit(main())
