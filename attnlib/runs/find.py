"""Saved runs by name: where they are, which the newest is, and several read at once."""

import glob
import os
from collections.abc import Iterable, Sequence
from pathlib import Path

from attnlib.runs.load import BadRun, Cell, Run, load, one_line
from attnlib.runs.schema import BesideRow

CHECKOUT = Path(__file__).parents[2]
# where the suite saves: in its checkout, whatever the current folder; in this one where attnlib is installed without it
RESULTS = CHECKOUT / "results" if (CHECKOUT / "bench").is_dir() else Path("results")
MAKE = "pytest bench/ --benchmark-autosave"  # the command that saves one
SAVED = ("*/[0-9][0-9][0-9][0-9]_*.json", "*/*.journal")  # what a folder of saved runs has
FURTHER = {"interrupted": 0, "ok": 2}  # how far a case came; with any other status it came to an end


def with_bench(arguments: Sequence[str]) -> list[str]:
    """Arguments of pytest, with ``bench/`` in front unless one is a part of it."""
    if any(argument.startswith("bench/") for argument in arguments):
        return list(arguments)
    return ["bench/" if Path("bench").is_dir() else str(CHECKOUT / "bench"), *arguments]


def chosen(names: Sequence[Path]) -> tuple[list[Run], list[str]]:
    """``load_all``, of the newest run where none is named; without any a line on how to make one."""
    if not names:
        folder = results()
        latest = newest(folder)
        if latest is None:
            return [], [f"no saved run in {folder}/; make one with: {MAKE}"]
        names = [latest]
    return load_all(names)


def results() -> Path:
    """Return the folder of saved runs that the current folder belongs to: ``results/`` here or above, else ours."""
    here = Path.cwd()
    for folder in (here, *here.parents):
        if folder == CHECKOUT:
            break
        if any(next((folder / "results").glob(pattern), None) for pattern in SAVED):
            return folder / "results"
    return RESULTS


def load_all(names: Iterable[Path]) -> tuple[list[Run], list[str]]:
    """Read several runs, see ``find``: the good ones, and a line for each bad one.

    Files of the same run are one run: parts of it, or what it was when it was interrupted.
    """
    files: dict[str, list[Run]] = {}
    found: dict[str, Path] = {}
    bad = []
    for name in names:
        try:
            found |= {os.path.realpath(path): path for path in find(name)}  # the same file twice is one
        except BadRun as error:
            bad.append(str(error))
    for path in found.values():
        try:
            run = load(path)
        except BadRun as error:
            bad.append(str(error))
        else:
            files.setdefault(run.token, []).append(run)
    return [joined(own) for own in files.values()], bad


def joined(files: Sequence[Run]) -> Run:
    """One run of its files: of each case the row that came furthest, a time before a reason before an interruption."""
    if len(files) == 1:
        return files[0]
    cells: dict[str, Cell] = {}
    for cell in (cell for file in files for cell in file.cells):
        known = cells.setdefault(cell.case_id, cell)
        if came(cell) > came(known):
            cells[cell.case_id] = cell
    ours = files[0].data["attnlib"]
    for name, key in (("canary", "at_s"), ("processes", "started")):  # by what tells one entry from another
        entries = [entry for file in files for entry in file.data["attnlib"].get(name, ())]
        ours = ours | {name: list({(entry.get(key), entry.get("process")): entry for entry in entries}.values())}
    beside: dict[str, BesideRow] = {}
    for row in (row for file in files for row in file.beside):
        known_row = beside.setdefault(row.test, row)
        if FURTHER.get(row.status, 1) > FURTHER.get(known_row.status, 1):
            beside[row.test] = row
    data = files[0].data | {"attnlib": ours}
    return Run(files[0].path, data, tuple(cells.values()), tuple(beside.values()))


def came(cell: Cell) -> tuple[int, int]:
    """How far a case came: by its status, and by its visits."""
    return FURTHER.get(cell.status, 1), len(cell.visits)


def find(name: Path, folder: Path | None = None) -> list[Path]:
    """The file, or saved runs of this number or run name, as ``0003`` or ``before``; without any, the name as it is.

    Args:
        name: of a file or a run.
        folder: of saved runs; None for ``results``.

    Raises:
        BadRun: it is the number of one run and the name of another.
    """
    if len(name.parts) != 1 or os.path.isfile(name):  # noqa: PTH113
        return [name]
    folder = results() if folder is None else folder
    text = glob.escape(name.name)
    numbered, named = (sorted(folder.glob(f"*/{p}.json")) for p in (f"{text}_*", f"[0-9][0-9][0-9][0-9]_{text}"))
    if numbered and named:
        raise BadRun(one_line(f"{name} is the number of {numbered[0]} and the name of {named[0]}: say which file"))
    if len(numbered) > 1 and name.name.isdigit():
        raise BadRun(one_line(f"{name} is the number of {numbered[0]} and of {numbered[1]}: say which file"))
    return sorted({*numbered, *named, *folder.glob(f"*/{text}.json")}) or [name]


def newest(folder: Path | None = None) -> Path | None:
    """The saved run under ``folder`` that was written last, reference runs apart; None without any."""
    folder = results() if folder is None else folder
    saved = [path for path in folder.glob(SAVED[0]) if path.parent.name != "reference"]
    return max(saved, key=lambda path: path.stat().st_mtime, default=None)
