"""``attnlib draw``: draw figures of saved runs, and a report with all figures and tables as one HTML page.

Of one run, bands are 95 % intervals within that run. Of several runs of one machine, points are geometric means over
the runs and bands their 95 % t intervals. Cases that were measured in pairs with a reference have times from the pairs.
"""

import argparse
from pathlib import Path
from typing import Any

from attnlib.commands.options import USAGE, complain
from attnlib.compare.cells import read_cells
from attnlib.compare.saved import compare
from attnlib.errors import message
from attnlib.runs.find import load_all, results
from attnlib.runs.text import printable
from attnlib.show.figures import FIGURES


def declare(commands: Any) -> None:
    """Add the command and its options."""
    command = commands.add_parser(
        "draw",
        help="draw figures of saved runs, and a report as one HTML page",
        description="With --base and --new the report compares runs from before and after a change.",
        epilog="example: attnlib draw results/reference/*.json --out /tmp/figures --report /tmp/report.html",
    )
    command.add_argument(
        "runs", nargs="*", type=Path, metavar="RUN", help="saved runs of one machine (default: the newest)"
    )
    command.add_argument(
        "--only",
        nargs="+",
        choices=list(FIGURES),
        metavar="FIGURE",
        help=f"draw only these figures: {', '.join(FIGURES)}",
    )
    command.add_argument("--out", type=Path, help="folder for PNG and SVG (results/figures)")
    text = "also write a report as one HTML page (results/report.html)"
    command.add_argument("--report", nargs="?", type=Path, const=True, metavar="FILE", help=text)
    text = "runs before a change, with --new: the report compares them, and shows the new ones if no RUN is named"
    command.add_argument("--base", nargs="+", type=Path, default=[], metavar="RUN", help=text)
    command.add_argument("--new", nargs="+", type=Path, default=[], metavar="RUN", help="runs after the change")
    command.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Draw every figure that the runs have data for; return 4 if a file cannot be read."""
    from attnlib.show.figures.files import draw  # matplotlib takes a second
    from attnlib.show.report.page import write

    report = results() / "report.html" if options.report is True else options.report  # True: named without a file
    if report and report.suffix not in (".html", ".htm"):
        raise ValueError(message(f"--report {report} does not end in .html", do="name saved runs before --report"))
    if bool(options.base) != bool(options.new) or (options.base and not report):
        raise ValueError(message("--base and --new must be given together, and with --report"))
    cells, left_out = read_cells(options.runs or options.new)
    (before, bad), (after, worse) = load_all(options.base), load_all(options.new)
    left_out += bad + worse
    complain([printable(line) for line in dict.fromkeys(left_out)])
    if cells is None or (options.base and not (before and after)):
        return USAGE
    comparison = compare(before, after) if options.base else None
    folder = options.out or results() / "figures"
    try:
        drawn = draw(cells, folder, options.only or FIGURES)
        for name, png in drawn.items():
            print(png or f"attnlib: no data for {name}")
        if report:
            folder = report.parent
            write(report, cells, [png for png in drawn.values() if png], comparison)
            print(report)
    except OSError as error:
        raise OSError(message(f"cannot write in {folder}: {error.strerror}")) from None
    return USAGE if left_out else 0
