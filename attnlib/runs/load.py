"""The one loader of saved runs."""

import glob
import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from attnlib.runs import journal
from attnlib.runs.schema import problems
from attnlib.runs.text import printable

RESULTS = Path("results")
LARGEST = 2**28  # bytes of a file; the default job's have 3 MB
DEEPEST = 64  # objects and lists within each other; ours have 8
PLACE = ("node", "uuid", "affinity")  # what each process of a run has of its own
LATER = {"seed": 0}  # fields that cases have had since, with the defaults that earlier ones were measured with


class BadRun(ValueError):
    """A file that is not a saved run; the message is one line that names the file and what is wrong."""


@dataclass(frozen=True)
class Cell:
    """One planned case of one run: its status, and its figures where it has any."""

    case: dict[str, Any]
    case_id: str
    test: str
    status: str
    reason: str | None
    samples: tuple[float, ...] = ()  # seconds of every round
    info: dict[str, Any] | None = None  # the row's extra_info

    @property
    def median(self) -> float | None:
        """Median seconds of the rounds, or None without a time."""
        return float(np.median(self.samples)) if self.samples else None

    @property
    def timed(self) -> bool:
        """Whether its seconds are those of a case: a check of gradients is read, not timed."""
        return bool(self.samples) and not (self.info or {}).get("probe", {}).get("claims")

    @property
    def peak(self) -> int | None:
        """Peak bytes by the allocator, or None where not read."""
        return None if self.info is None else self.info["memory"]["allocated_peak"]["value"]

    @property
    def canary(self) -> float | None:
        """Seconds of the canary around it, the mean of before and after, or None where it was not timed."""
        readings = None if self.info is None else self.info["time"].get("canary_s")
        return float(np.mean(readings)) if readings else None

    @property
    def disturbed(self) -> bool:
        """Whether something else held the machine up while it was measured, twice."""
        return self.info is not None and bool(self.info["time"].get("disturbed"))

    def cost(self, name: str) -> int | None:
        """``flops`` or ``params`` by formula, or None where there is none."""
        return None if self.info is None else self.info["cost"].get(name)

    @property
    def label(self) -> str:
        """The case in words: phase and axes."""
        case = self.case
        label = f"{case['phase']} T={case['seq_len']} L={case['depth']} {case['pe']}"
        if case["phase"] == "rate":  # the only axis over widths
            label += f" D={case['d_model']} K={case['head_dim']}"
        unusual = {key: case[key] for key, usual in USUAL.items() if case[key] != usual}
        return label + "".join(f" {key if value is True else value}" for key, value in unusual.items())


USUAL = {"block": "plain", "denormals": "flush", "attention": "sdpa", "init": "torch_mha", "causal": False}


@dataclass(frozen=True)
class Run:
    """One saved run, in one file or several."""

    path: Path  # the first one
    data: dict[str, Any]  # of the first one, with the canary's readings and the processes of all
    cells: tuple[Cell, ...]

    @property
    def name(self) -> str:
        """The file's name without its ending."""
        return self.path.stem

    @property
    def token(self) -> str:
        """What tells runs apart: the run's own token, or where it lies if it was saved without one."""
        return str(self.data["attnlib"].get("run") or self.path.resolve())

    @property
    def device_kind(self) -> str:
        """``cpu``, ``cuda``, ..."""
        return str((self.data["machine_info"]["attnlib"].get("device") or {}).get("kind", "cpu"))

    @property
    def canary(self) -> float | None:
        """Median seconds of the canary throughout the run, or None where it was not timed."""
        readings = [reading["seconds"] for reading in self.data["attnlib"].get("canary", ())]
        return float(np.median(readings)) if readings else None

    @property
    def machines(self) -> list[dict[str, Any]]:
        """What must agree between runs before their times may be compared, once for each place that it ran at."""
        info = self.data["machine_info"]
        ours = info["attnlib"]
        machine = {
            "node": info.get("node"),
            "cpu": (info.get("cpu") or {}).get("brand_raw"),
            "device": (ours.get("device") or {}).get("name"),
            "uuid": (ours.get("device") or {}).get("uuid"),
            "driver": (ours.get("device") or {}).get("driver"),
            "torch": (ours.get("versions") or {}).get("torch"),
            "threads": ours.get("threads"),
            "affinity": ours.get("affinity"),
            "environment": ours.get("environment"),
        }
        places = [machine | {k: p[k] for k in PLACE if k in p} for p in self.data["attnlib"].get("processes", [{}])]
        return [place for index, place in enumerate(places) if place not in places[:index]]


def load(path: Path) -> Run:
    """Read a saved run, or the journal of an unfinished one as it is.

    Characters that would act on a terminal are shown as a replacement character.

    Raises:
        BadRun: the file cannot be read, is no regular file or too large, is not JSON, **or** breaks the contract.
    """
    try:
        if path.suffix == journal.SUFFIX:
            data = journal.assemble(journal.events(_bytes(path)), live=journal.is_live(path))
        else:
            data = _decoded(_bytes(path))
        data = _printable(data)
        found = problems(data)
    except OSError as error:
        raise BadRun(_line(f"{path}: {error.strerror or error}")) from None
    except (ValueError, RecursionError) as error:
        raise BadRun(_line(f"{path}: {error}")) from None
    if found:
        more = f" (and {len(found) - 1} more)" if len(found) > 1 else ""
        raise BadRun(_line(f"{path}: {found[0]}{more}"))
    measured = {row["fullname"]: row for row in data["benchmarks"] if "case_id" in row.get("extra_info", ())}
    cells = []
    for row in data["attnlib"]["cases"]:
        identity = (LATER | row["case"], row["case_id"], row["test"], row["status"], row.get("reason"))
        hit = measured[row["test"]] if row["status"] == "ok" else None
        cells.append(Cell(*identity, tuple(hit["stats"]["data"]), hit["extra_info"]) if hit else Cell(*identity))
    return Run(path, data, tuple(cells))


def _bytes(path: Path) -> bytes:
    if path.exists() and not path.is_file():  # a pipe or a device would never end
        raise ValueError("not a file")
    if (size := path.stat().st_size) > LARGEST:
        raise ValueError(f"{size} bytes are more than any run has; at most {LARGEST} are read")
    return path.read_bytes()


def _decoded(data: bytes) -> Any:
    try:
        return msgspec.json.decode(data)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"not JSON: {error}") from None


def _printable(node: Any, depth: int = 0) -> Any:
    if depth > DEEPEST:
        raise ValueError(f"nested more than {DEEPEST} deep")
    if isinstance(node, str):
        return printable(node)
    if isinstance(node, dict):
        return {_printable(key): _printable(value, depth + 1) for key, value in node.items()}
    if isinstance(node, list):
        if all(type(value) is float for value in node):  # samples
            return node
        return [_printable(value, depth + 1) for value in node]
    return node


def _line(text: str, longest: int = 300) -> str:
    text = printable(text)
    return text if len(text) <= longest else f"{text[:longest]}..."


def load_all(names: Iterable[Path]) -> tuple[list[Run], list[str]]:
    """Read several runs, see ``find``: the good ones, and a line for each bad one.

    Files of the same run are one run: parts of it, or what it was when it was interrupted.
    """
    files: dict[str, list[Run]] = {}
    bad = []
    found = {os.path.realpath(path): path for name in names for path in find(name)}  # the same file twice is one
    for path in found.values():
        try:
            run = load(path)
        except BadRun as error:
            bad.append(str(error))
        else:
            files.setdefault(run.token, []).append(run)
    return [joined(own) for own in files.values()], bad


def joined(files: Sequence[Run]) -> Run:
    """One run of its files: of each case the row that came furthest, ``ok`` before any other, then the last one."""
    if len(files) == 1:
        return files[0]
    cells: dict[str, Cell] = {}
    for cell in (cell for file in files for cell in file.cells):
        if cell.case_id not in cells or cells[cell.case_id].status != "ok":
            cells[cell.case_id] = cell
    ours = [file.data["attnlib"] for file in files]
    lists = {name: _once(entry for own in ours for entry in own.get(name, ())) for name in ("canary", "processes")}
    kept = {name: entries for name, entries in lists.items() if entries}
    return Run(files[0].path, files[0].data | {"attnlib": ours[0] | kept}, tuple(cells.values()))


def _once(entries: Iterable[Any]) -> list[Any]:
    found: list[Any] = []
    for entry in entries:
        if entry not in found:
            found.append(entry)
    return found


def find(name: Path, folder: Path = RESULTS) -> list[Path]:
    """The file, or saved runs of this number or run name, as ``0003`` or ``before``; without any, the name as it is."""
    if len(name.parts) != 1 or os.path.isfile(name):  # noqa: PTH113
        return [name]
    text = glob.escape(name.name)
    patterns = (f"*/{text}.json", f"*/{text}_*.json", f"*/[0-9][0-9][0-9][0-9]_{text}.json")
    found = {path for pattern in patterns for path in folder.glob(pattern)}
    return sorted(found) or [name]


def newest(folder: Path = RESULTS) -> Path | None:
    """The saved run under ``folder`` that was written last, reference runs apart; None without any."""
    saved = [path for path in folder.glob("*/[0-9][0-9][0-9][0-9]_*.json") if path.parent.name != "reference"]
    return max(saved, key=lambda path: path.stat().st_mtime, default=None)
