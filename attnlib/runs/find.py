"""Saved runs by name: where they are, which the newest is, and several read at once."""

import glob
import os
import re
from collections.abc import Iterable, Sequence
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import msgspec

from attnlib.errors import message
from attnlib.runs.load import BadRun, Cell, Run, contents_of, load, one_line
from attnlib.runs.schema import BesideRow

INSTALLED = Path(__file__).parents[2]  # the folder of the package: a checkout, or site-packages
MAKE = "pytest bench/ --benchmark-autosave"  # the command that saves one
NUMBERED = re.compile(r"(\d{4,})_(.+)")  # the stem of a saved run's file: its number, its name
FURTHER = {"interrupted": 0, "ok": 2}  # how far a case came; with any other status it came to an end


def with_bench(arguments: Sequence[str]) -> list[str]:
    """Arguments of pytest, with ``bench/`` in front unless one is a part of it."""
    if any(argument.startswith("bench/") for argument in arguments):
        return list(arguments)
    home = checkout(Path.cwd()) or checkout(INSTALLED)
    return ["bench/" if home is None or Path("bench").is_dir() else str(home / "bench"), *arguments]


def chosen(names: Sequence[Path]) -> tuple[list[Run], list[str]]:
    """``load_all``, of the newest run where none is named; without any a line on how to make one."""
    if not names:
        folder = results()
        latest = newest(folder)
        if latest is None:
            return [], [message(f"no saved run in {folder}/", do=f"make one with: {MAKE}")]
        names = [latest]
    return load_all(names)


def checkout(folder: Path) -> Path | None:
    """Return the checkout of attnlib at or above a folder; None outside of one."""
    above = (folder, *folder.parents)
    return next((own for own in above if (own / "bench").is_dir() and (own / "attnlib").is_dir()), None)


def results(root: Path | None = None) -> Path:
    """Return the folder of saved runs.

    Args:
        root: of a pytest session, which saves there; None for a command, which reads.

    Returns:
        for a session ``results/`` of the checkout around its root, or else of the root itself. For a command the first
        of these:

        * the nearest ``results/`` at or above the current folder that has a saved run or is the checkout's own
        * ``results/`` of the checkout that the package is installed from
        * ``results/`` of the current folder
    """
    if root is not None:
        return (checkout(root) or root) / "results"
    here = Path.cwd()
    home = checkout(here)
    for folder in (here, *here.parents):
        own = folder / "results"
        if folder == home or numbered(own) or any(own.glob("*/*.journal")):
            return own
    return (checkout(INSTALLED) or here) / "results"


def load_all(names: Iterable[Path]) -> tuple[list[Run], list[str]]:
    """Read several runs, see ``find``: the good ones, and a line for each bad one.

    Files of the same run are one run: parts of it, or what it was when it was interrupted. They must agree.
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
    runs = []
    for own in files.values():
        try:
            check_agreement(own)
        except BadRun as error:
            bad.append(str(error))
        else:
            runs.append(joined(own))
    return runs, bad


def check_agreement(files: Sequence[Run]) -> None:
    """Refuse files of one run that say different numbers of the same visits of a case.

    Raises:
        BadRun: they do; the message names two of the files and the test.
    """
    known: dict[tuple[str, int], tuple[Any, Path]] = {}  # by test and number of visits
    for file in files:
        # intervals are left out: they rest on all of a run's cases, of which an interrupted file has fewer
        said: dict[tuple[str, int], Any] = {
            (cell.test, len(cell.visits)): measured(cell) for cell in file.cells if cell.status == "ok"
        }
        said |= {(row.test, 0): row.found for row in file.beside if row.status == "ok"}
        for key, numbers in said.items():
            before, path = known.setdefault(key, (numbers, file.path))
            if numbers != before:
                why = f"are files of one run but say different numbers of {key[0]}"
                raise BadRun(one_line(message(f"{path} and {file.path} {why}")))


def measured(cell: Cell) -> tuple[Any, ...]:
    """Return the numbers of a case that all files of its run must agree on once it has the same visits."""
    return cell.samples, cell.ratio and cell.ratio.value, cell.peak, cell.cost, cell.probe


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
    """Return a key by which the cell that came further is larger: by its status, then by its visits."""
    return FURTHER.get(cell.status, 1), len(cell.visits)


def find(name: Path, folder: Path | None = None) -> list[Path]:
    """Return a file, or the saved runs of a number or run name, as ``0003`` or ``before``; else the name as it is.

    Args:
        name: of a file or a run.
        folder: of saved runs; None for ``results``.

    Raises:
        BadRun: it stands for several runs of different names, **or** is no name that a file can have.
    """
    if len(name.parts) != 1 or os.path.isfile(name):  # noqa: PTH113
        return [name]
    folder = results() if folder is None else folder
    with_number = [path for path, (number, _) in numbered(folder).items() if number == name.name]
    try:
        files = sorted(folder.glob(f"*/{glob.escape(name.name)}.json"))
    except OSError as error:
        raise BadRun(one_line(message(f"{name}: {error.strerror}"))) from None
    groups = [[path] for path in (*with_number, *files)] + [named(name.name, folder)]  # runs may share a name
    found = [group for group in groups if group]
    if len(found) > 1:
        raise BadRun(one_line(message(f"{name} may be {found[0][0]} or {found[1][0]}", do="say which file")))
    return found[0] if found else [name]


def numbered(folder: Path) -> dict[Path, tuple[str, str]]:
    """Return the saved runs under a folder, sorted, with number and name of each."""
    found = {path: NUMBERED.fullmatch(path.stem) for path in sorted(folder.glob("*/*.json"))}
    return {path: (match[1], match[2]) for path, match in found.items() if match}


def named(name: str, folder: Path) -> list[Path]:
    """Return the saved runs of this name under a folder, sorted."""
    return [path for path, (_, own) in numbered(folder).items() if own == name]


def saved_at(path: Path) -> datetime:
    """Return when a run was saved; the earliest time there is where the file is no run or has no time."""
    try:
        when = msgspec.json.decode(contents_of(path), type=_Saved).when
    except (OSError, msgspec.MsgspecError, ValueError, RecursionError):  # the command that reads it says what is wrong
        return datetime.min.replace(tzinfo=timezone.utc)
    return when if when.tzinfo else when.replace(tzinfo=timezone.utc)


class _Saved(msgspec.Struct):
    """Entries that every file of pytest-benchmark has; a file that lacks one is no run."""

    when: datetime = msgspec.field(name="datetime")
    machine_info: dict[str, msgspec.Raw]
    benchmarks: list[msgspec.Raw]


def newest_first(folder: Path | None = None) -> list[Path]:
    """Return the saved runs under ``folder``, ``results()`` by default, without reference runs, the last one first."""
    saved = [path for path in numbered(results() if folder is None else folder) if path.parent.name != "reference"]
    return sorted(saved, key=saved_at)[::-1]


def newest(folder: Path | None = None) -> Path | None:
    """Return the saved run under ``folder`` that was saved last, reference runs apart; None without any."""
    return next(iter(newest_first(folder)), None)
