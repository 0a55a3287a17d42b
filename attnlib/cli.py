"""``attnlib``: commands on saved runs, repeated runs and live comparisons."""

import argparse
import html
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from attnlib.ab import SUITE, Match, Side, contested, played
from attnlib.repeat import repeat
from attnlib.runs import report, scaling, tables
from attnlib.runs.cells import interval_note, read_cells
from attnlib.runs.compare import compare
from attnlib.runs.load import load_all

NUMBERS = {"base", "new", "ratio", "could see", "peak"}  # columns of numbers
CODES = "Exit code: 0 no regression, 1 a regression, 2 nothing could be decided or compared."


def main(argv: list[str] | None = None) -> int:
    """Run a command; returns its exit code, 2 where nothing could be read, compared or decided."""
    parser = argparse.ArgumentParser(prog="attnlib", description="What stacks of self-attention cost, compared.")
    commands = parser.add_subparsers(dest="command", required=True)
    add_ab(commands)
    add_compare(commands)
    add_repeat(commands)
    add_scaling(commands)
    add_tables(commands)
    options, rest = parser.parse_known_args(argv)
    if rest and options.command != "repeat":
        parser.error(f"unrecognized arguments: {' '.join(rest)}")
    options.rest = rest
    try:
        code: int = options.run(options)
    except ValueError as error:
        complain([str(error)])
        return 2
    except KeyboardInterrupt:
        complain(["interrupted"])
        return 130
    return code


def add_verdict_options(command: argparse.ArgumentParser, threshold: float | None, text: str) -> None:
    """What ``ab`` and ``compare`` share."""
    command.add_argument("--threshold", type=share, default=threshold, metavar="SHARE", help=text)
    command.add_argument("--allow-undecided", action="store_true", help="exit 0 where time is undecided")
    command.add_argument("--json", action="store_true", help="print JSON")
    command.add_argument("--markdown", action="store_true", help="print the table as Markdown")


def add_ab(commands: Any) -> None:
    """``attnlib ab``."""
    command = commands.add_parser(
        "ab",
        help="decide whether a change made it slower: two live workers take turns",
        description="Two checkouts (--base, --new), two interpreters, or two sets of fields: "
        f"attnlib ab attention=math attention=sdpa. {CODES}",
    )
    command.add_argument("fields", nargs="*", metavar="FIELDS", help="the base's and the new side's own fields")
    here = Path()
    command.add_argument("--base", type=Path, default=here, metavar="DIR", help="checkout before; the current folder")
    command.add_argument("--new", type=Path, default=here, metavar="DIR", help="checkout after; the current folder")
    command.add_argument("--base-python", default=sys.executable, metavar="PYTHON", help="interpreter before")
    command.add_argument("--new-python", default=sys.executable, metavar="PYTHON", help="interpreter after")
    command.add_argument(
        "--case",
        action="append",
        metavar="FIELDS",
        help="a case, as phase=train_step,seq_len=512,pe=rotary; repeat it for a suite; four cases by default",
    )
    command.add_argument(
        "--budget", type=positive, default=300.0, metavar="SECONDS", help="no pair that would not fit (%(default)s)"
    )
    command.add_argument("--denormals", choices=("flush", "keep"), default="flush", help="subnormal numbers")
    command.add_argument("--threads", type=count, metavar="N", help="torch's intra-op threads")
    add_verdict_options(command, 0.02, "smallest change that matters (%(default)s)")
    command.set_defaults(run=run_ab)


def run_ab(options: argparse.Namespace) -> int:
    """Play the match, then show it."""
    if len(options.fields) not in (0, 2):
        raise ValueError(f"ab takes no fields or those of base and new, not {len(options.fields)}")
    own = [fields_of(text) for text in options.fields] or [{}, {}]
    sides = (
        Side(options.base.resolve(), options.base_python, own[0]),
        Side(options.new.resolve(), options.new_python, own[1]),
    )
    suite = [fields_of(text) for text in options.case] if options.case else SUITE
    match = Match(
        sides,
        suite,
        options.threshold,
        denormals=options.denormals,
        threads=options.threads,
        say=lambda text: print(f"attnlib: {text}", file=sys.stderr, flush=True),
    )
    match.play(options.budget)
    if options.json:
        print(json.dumps(match.as_json(), indent=2))
    else:
        show(contested(match), options.markdown, after=played(match))
    return match.exit_code(allow_undecided=options.allow_undecided)


def add_compare(commands: Any) -> None:
    """``attnlib compare``."""
    command = commands.add_parser("compare", help="set two groups of saved runs side by side", description=CODES)
    text = "saved runs: files, run names or numbers"
    command.add_argument("--base", nargs="+", type=Path, required=True, metavar="RUN", help=f"{text}, before")
    command.add_argument("--new", nargs="+", type=Path, required=True, metavar="RUN", help=f"{text}, after")
    command.add_argument("--force", action="store_true", help="decide although machines or settings differ")
    add_verdict_options(command, None, "smallest change that matters (0.05 on a CPU, else 0.02)")
    command.set_defaults(run=run_compare)


def run_compare(options: argparse.Namespace) -> int:
    """Compare, then show it."""
    base, bad = load_all(options.base)
    new, worse = load_all(options.new)
    complain(bad + worse)
    if not base or not new:
        raise ValueError("nothing to compare")
    comparison = compare(base, new, threshold=options.threshold, force=options.force)
    if options.json:
        print(json.dumps(comparison.as_json(), indent=2))
    else:
        show(report.compared(comparison), options.markdown, report.before(comparison), report.after(comparison))
    return comparison.exit_code(allow_undecided=options.allow_undecided) or (2 if bad or worse else 0)


def add_repeat(commands: Any) -> None:
    """``attnlib repeat``."""
    command = commands.add_parser(
        "repeat",
        help="save several runs from fresh processes, one after another",
        description="Other arguments go to pytest, as attnlib repeat 6 --preset smoke --run-name before",
    )
    command.add_argument("count", type=count, metavar="N", help="how many")
    command.set_defaults(run=run_repeat)


def run_repeat(options: argparse.Namespace) -> int:
    """Repeat, then say what was saved."""
    code, saved = repeat(options.count, options.rest)
    for path in saved:
        print(path)
    return code


def add_scaling(commands: Any) -> None:
    """``attnlib scaling``."""
    command = commands.add_parser(
        "scaling",
        help="how time grows: t = a + b T + c T^2 and t = a + b L, with intervals over the runs",
        description="Brackets are 95 %% intervals over the runs; a, b and c are not negative.",
    )
    command.add_argument("runs", nargs="*", type=Path, metavar="RUN", help="saved runs of one machine; the newest")
    command.add_argument("--phase", default="train_step", help="forward, backward, train_step, ... (%(default)s)")
    command.add_argument("--markdown", action="store_true", help="print the tables as Markdown")
    command.set_defaults(run=run_scaling)


def run_scaling(options: argparse.Namespace) -> int:
    """Fit, then show both tables."""
    cells, left_out = read_cells(options.runs)
    complain(left_out)
    if cells is None:
        return 2
    if options.phase not in (phases := cells.axis("phase")):
        raise ValueError(f"no phase {options.phase!r} in these runs; choose from {', '.join(phases)}")
    found = [make(cells, phase=options.phase) for make in (scaling.length_rows, scaling.depth_rows)]
    if not any(found):
        raise ValueError(f"no {options.phase} at three lengths or three depths")
    for rows in filter(None, found):
        show(rows, options.markdown, after=[f"brackets: {interval_note(cells)}", ""])
    return 2 if left_out else 0


def add_tables(commands: Any) -> None:
    """``attnlib encodings`` and ``attnlib findings``."""
    for name, table, text in (
        ("encodings", tables.encodings, "what each encoding costs, and how gradients and tokens die with it"),
        ("findings", tables.findings, "every claim about gradients: fitted with its 95 %% interval, theory, band"),
    ):
        command = commands.add_parser(name, help=text)
        command.add_argument("runs", nargs="*", type=Path, metavar="RUN", help="saved runs of one machine; the newest")
        command.add_argument("--markdown", action="store_true", help="print the table as Markdown")
        command.set_defaults(run=run_table, table=table)


def run_table(options: argparse.Namespace) -> int:
    """Make a table of saved runs and show it."""
    cells, left_out = read_cells(options.runs)
    complain(left_out)
    rows = options.table(cells) if cells else []
    if not rows:
        complain([f"nothing for the table of {options.command}"] if cells else [])
        return 2
    after = [f"brackets of times: {interval_note(cells)}"] if cells and options.command == "encodings" else []
    show(rows, options.markdown, after=after)
    return 2 if left_out else 0


def complain(lines: Sequence[str]) -> None:
    """Say what is wrong, a line each."""
    for line in lines:
        print(f"attnlib: {line}", file=sys.stderr)


def share(text: str) -> float:
    """A number above 0 and below 1, for argparse."""
    number = float(text)
    if not 0 < number < 1:
        raise ValueError(text)
    return number


def positive(text: str) -> float:
    """A positive number, for argparse."""
    number = float(text)
    if not 0 < number < float("inf"):
        raise ValueError(text)
    return number


def count(text: str) -> int:
    """A positive integer, for argparse."""
    if int(text) < 1:
        raise ValueError(text)
    return int(text)


def fields_of(text: str) -> dict[str, Any]:
    """Fields of a case from ``seq_len=512,pe=rotary,causal=true``.

    Raises:
        ValueError: an entry has no name or no value.
    """
    fields = {}
    for entry in text.split(","):
        name, _, value = entry.partition("=")
        if not name or not value:
            raise ValueError(f"{text!r} is no list of fields such as phase=train_step,seq_len=512,pe=rotary")
        try:
            fields[name] = json.loads(value)
        except ValueError:  # a word
            fields[name] = value
    return fields


def show(
    rows: Sequence[dict[str, str]], as_markdown: bool, before: Sequence[str] = (), after: Sequence[str] = ()
) -> None:
    """Print a table, for a terminal or as Markdown, between the lines that belong to it."""
    if as_markdown:
        around = [[html.escape(line, quote=False) for line in part] for part in (before, after)]
        print("\n\n".join("\n".join(part) for part in (around[0], [tables.markdown(rows)], around[1]) if part))
        return
    terminal = Console(width=None if sys.stdout.isatty() else 200, highlight=False)
    for line in before:
        terminal.print(escape(line), style="bold")
    table = Table(box=None)
    for heading in rows[0]:
        table.add_column(heading, justify="right" if heading in NUMBERS else "left")
    for row in rows:
        table.add_row(*map(escape, row.values()))
    terminal.print(table)
    for line in after:
        terminal.print(escape(line))


if __name__ == "__main__":
    sys.exit(main())
