"""``attnlib``: commands on saved runs."""

import argparse
import json
import sys
from pathlib import Path

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from attnlib.runs.compare import Comparison, compare
from attnlib.runs.load import load_all
from attnlib.runs.text import seconds, size


def main(argv: list[str] | None = None) -> int:
    """Run a command; returns its exit code, 2 where nothing could be compared."""
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
    options = parser.parse_args(argv)
    base, bad = load_all(options.base)
    new, worse = load_all(options.new)
    for line in bad + worse:
        print(f"attnlib: {line}", file=sys.stderr)
    if not base or not new:
        print("attnlib: nothing to compare", file=sys.stderr)
        return 2
    comparison = compare(base, new)
    if options.json:
        rows = [row.as_json() for row in comparison.rows]
        print(json.dumps({"machine": comparison.machine, "cases": rows}, indent=2))
    else:
        show(comparison)
    return 2 if bad or worse else comparison.exit_code


def show(comparison: Comparison) -> None:
    """Print a comparison as a table, machine differences first."""
    console = Console(width=None if sys.stdout.isatty() else 160)
    for line in comparison.machine:
        console.print(f"[bold]different machine or settings:[/] {escape(line)}")
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
    console.print(table)
    changed = comparison.exact_changes
    console.print(f"{len(comparison.rows)} cases; bytes or status changed in {len(changed)}")
    for row in changed:
        console.print(
            escape(f"  {row.label}: {row.base_status} {row.base_bytes} -> {row.new_status} {row.new_bytes} bytes")
        )


def bytes_change(base: int | None, new: int | None) -> str:
    """Exact comparison of peaks: the size where equal, the difference in bytes where not."""
    if base is None or new is None:
        return "-"
    return f"= {size(base)}" if base == new else f"{new - base:+,} B"


if __name__ == "__main__":
    sys.exit(main())
