"""Saved runs to figures and a page: ``python plots.py [RUN ...] [--out FOLDER] [--report]``, the newest by default.

Reads JSON only; imports no torch. With one run a band is the 95 % interval within that run; with several runs of one
machine a point is the geometric mean over the runs, and a band its 95 % t interval. Where cases were measured beside a
reference, times come from these pairs.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from attnlib.compare.cells import read_cells
from attnlib.compare.comparison import Comparison
from attnlib.compare.saved import compare
from attnlib.runs.find import RESULTS, load_all
from attnlib.runs.text import forgive, printable
from attnlib.show.figures import FIGURES
from attnlib.show.figures.files import draw
from attnlib.show.report.page import write


def parsed(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """The options of a command line."""
    parser = argparse.ArgumentParser(
        description="Draw saved runs.",
        epilog="example: python plots.py results/reference/*.json --out /tmp/figures --report /tmp/report.html",
    )
    parser.add_argument("runs", nargs="*", type=Path, metavar="RUN", help="saved runs of one machine; the newest")
    parser.add_argument("--only", nargs="+", choices=list(FIGURES), metavar="FIGURE", help="; ".join(FIGURES))
    parser.add_argument("--out", type=Path, default=RESULTS / "figures", help="folder for PNG and SVG (%(default)s)")
    text = "also write everything as one HTML page (%(const)s)"
    parser.add_argument("--report", nargs="?", type=Path, const=RESULTS / "report.html", metavar="FILE", help=text)
    text = "runs before and after: the page compares them, and shows the new ones if no others are named"
    parser.add_argument("--base", nargs="+", type=Path, default=[], metavar="RUN", help=text)
    parser.add_argument("--new", nargs="+", type=Path, default=[], metavar="RUN", help="see --base")
    options = parser.parse_args(argv)
    if options.report and options.report.suffix not in (".html", ".htm"):
        parser.error(f"--report writes a page: {options.report} does not end in .html; name runs before it")
    if bool(options.base) != bool(options.new) or (options.base and not options.report):
        parser.error("--base and --new go together, with --report")
    return options


def main(argv: Sequence[str] | None = None) -> int:
    """Draw every figure that the runs have data for; exit code 2 where a file is bad or there is none."""
    forgive()
    options = parsed(argv)
    cells, left_out = read_cells(options.runs or options.new)
    comparison = None
    if options.base:
        comparison, bad = compared(options.base, options.new)
        left_out += bad
    for line in dict.fromkeys(left_out):
        print(f"plots: {printable(line)}", file=sys.stderr)
    if cells is None or (options.base and comparison is None):
        return 2
    folder = options.out
    try:
        drawn = draw(cells, folder, options.only or list(FIGURES))
        for name, png in drawn.items():
            print(png or f"plots: no data for {name}")
        if options.report:
            folder = options.report.parent
            write(options.report, cells, [png for png in drawn.values() if png], comparison)
            print(options.report)
    except OSError as error:
        print(f"plots: cannot write in {folder}: {error.strerror}", file=sys.stderr)
        return 2
    return 2 if left_out else 0


def compared(base: Sequence[Path], new: Sequence[Path]) -> tuple[Comparison | None, list[str]]:
    """The comparison of two sets of runs, or None; and what is wrong, a line each."""
    (before, bad), (after, worse) = load_all(base), load_all(new)
    try:
        return (compare(before, after) if before and after else None), bad + worse
    except ValueError as error:
        return None, [*bad, *worse, str(error)]


if __name__ == "__main__":
    sys.exit(main())
