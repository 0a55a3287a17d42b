"""``attnlib draw``: figures of saved runs, and everything as one page.

With one run a band is the 95 % interval within that run; with several runs of one machine a point is the geometric mean
over the runs, and a band its 95 % t interval. Where cases were measured beside a reference, times come from these
pairs.
"""

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from attnlib.commands.options import complain
from attnlib.compare.cells import read_cells
from attnlib.compare.comparison import Comparison
from attnlib.compare.saved import compare
from attnlib.runs.find import load_all, results
from attnlib.runs.text import printable
from attnlib.show.figures import FIGURES


def declare(commands: Any) -> None:
    """Add the command and its options."""
    command = commands.add_parser(
        "draw",
        help="figures of saved runs, and everything as one page",
        description="With --base and --new the page compares runs before and after a change.",
        epilog="example: attnlib draw results/reference/*.json --out /tmp/figures --report /tmp/report.html",
    )
    command.add_argument("runs", nargs="*", type=Path, metavar="RUN", help="saved runs of one machine; the newest")
    command.add_argument("--only", nargs="+", choices=list(FIGURES), metavar="FIGURE", help="; ".join(FIGURES))
    command.add_argument("--out", type=Path, default=results() / "figures", help="folder for PNG and SVG (%(default)s)")
    text = "also write everything as one HTML page (%(const)s)"
    command.add_argument("--report", nargs="?", type=Path, const=results() / "report.html", metavar="FILE", help=text)
    text = "runs before and after: the page compares them, and shows the new ones if no others are named"
    command.add_argument("--base", nargs="+", type=Path, default=[], metavar="RUN", help=text)
    command.add_argument("--new", nargs="+", type=Path, default=[], metavar="RUN", help="see --base")
    command.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Draw every figure that the runs have data for; exit code 2 where a file is bad or there is none."""
    from attnlib.show.figures.files import draw  # matplotlib takes a second
    from attnlib.show.report.page import write

    if options.report and options.report.suffix not in (".html", ".htm"):
        raise ValueError(f"--report writes a page: {options.report} does not end in .html; name runs before it")
    if bool(options.base) != bool(options.new) or (options.base and not options.report):
        raise ValueError("--base and --new go together, with --report")
    cells, left_out = read_cells(options.runs or options.new)
    comparison = None
    if options.base:
        comparison, bad = compared(options.base, options.new)
        left_out += bad
    complain([printable(line) for line in dict.fromkeys(left_out)])
    if cells is None or (options.base and comparison is None):
        return 2
    folder = options.out
    try:
        drawn = draw(cells, folder, options.only or FIGURES)
        for name, png in drawn.items():
            print(png or f"attnlib: no data for {name}")
        if options.report:
            folder = options.report.parent
            write(options.report, cells, [png for png in drawn.values() if png], comparison)
            print(options.report)
    except OSError as error:
        raise ValueError(f"cannot write in {folder}: {error.strerror}") from None
    return 2 if left_out else 0


def compared(base: Sequence[Path], new: Sequence[Path]) -> tuple[Comparison | None, list[str]]:
    """Return the comparison of two sets of runs, or None; and what is wrong, a line each."""
    (before, bad), (after, worse) = load_all(base), load_all(new)
    try:
        return (compare(before, after) if before and after else None), bad + worse
    except ValueError as error:
        return None, [*bad, *worse, str(error)]
