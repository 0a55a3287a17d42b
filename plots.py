"""Saved runs to figures: ``python plots.py [RUN.json ...] [--out FOLDER]``, the newest run by default.

Reads JSON only; imports no torch. With one run a bar is the 95 % interval within that run; with several runs of one
machine a point is the geometric mean over the runs, and a bar its 95 % t interval. Where cases were measured beside a
reference, times come from these pairs.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

import matplotlib as mpl
from matplotlib import pyplot as plt

from attnlib.compare.cells import Cells, read_cells
from attnlib.runs.load import RESULTS
from attnlib.runs.text import forgive, printable
from attnlib.show.figures import FIGURES


def parsed(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """The options of a command line."""
    parser = argparse.ArgumentParser(description="Draw saved runs.")
    parser.add_argument("runs", nargs="*", type=Path, metavar="RUN.json", help="saved runs of one machine")
    parser.add_argument("--only", nargs="+", choices=list(FIGURES), metavar="FIGURE", help="; ".join(FIGURES))
    parser.add_argument("--out", type=Path, default=RESULTS / "figures", help="folder for PNG and SVG (%(default)s)")
    return parser.parse_args(argv)


def main(argv: Sequence[str] | None = None) -> int:
    """Draw every figure that the runs have data for; exit code 2 where a file is bad or there is none."""
    forgive()
    options = parsed(argv)
    cells, left_out = read_cells(options.runs)
    for line in left_out:
        print(f"plots: {printable(line)}", file=sys.stderr)
    if cells is None:
        return 2
    mpl.use("Agg")
    mpl.rcParams["svg.hashsalt"] = "attnlib"  # the same run gives the same file
    try:
        save(cells, options.out, options.only or list(FIGURES))
    except OSError as error:
        print(f"plots: cannot write figures in {options.out}: {error.strerror}", file=sys.stderr)
        return 2
    return 2 if left_out else 0


def save(cells: Cells, folder: Path, names: Sequence[str]) -> None:
    """Write each figure as PNG and SVG and say so."""
    folder.mkdir(parents=True, exist_ok=True)
    for name in names:
        figure = FIGURES[name](cells)
        if figure is None:
            print(f"plots: no data for {name}")
            continue
        for ending in ("png", "svg"):
            figure.savefig(folder / f"{name}.{ending}", dpi=110, metadata={"Date": None} if ending == "svg" else None)
        plt.close(figure)
        print(folder / f"{name}.png")


if __name__ == "__main__":
    sys.exit(main())
