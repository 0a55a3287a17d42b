"""The one loader of saved runs."""

import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from attnlib.runs.schema import problems

RESULTS = Path("results")


class BadRun(ValueError):
    """A file that is not a saved run; the message is one line that names the file and what is wrong."""


@dataclass(frozen=True)
class Cell:
    """One planned case of one run: its status, and its figures where it has any."""

    case: dict[str, Any]
    case_id: str
    status: str
    reason: str | None
    samples: tuple[float, ...] = ()  # seconds of every round
    info: dict[str, Any] | None = None  # the row's extra_info

    @property
    def median(self) -> float | None:
        """Median seconds of the rounds, or None without a time."""
        return float(np.median(self.samples)) if self.samples else None

    @property
    def peak(self) -> int | None:
        """Peak bytes by the allocator, or None where not read."""
        return None if self.info is None else self.info["memory"]["allocated_peak"]["value"]

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
    """One saved run."""

    path: Path
    data: dict[str, Any]
    cells: tuple[Cell, ...]

    @property
    def name(self) -> str:
        """The file's name without its ending."""
        return self.path.stem

    @property
    def machine(self) -> dict[str, Any]:
        """What must agree between runs before their times may be compared."""
        info = self.data["machine_info"]
        ours = info["attnlib"]
        return {
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


def load(path: Path) -> Run:
    """Read a saved run.

    Raises:
        BadRun: the file cannot be read, is not JSON, **or** breaks the results contract.
    """
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise BadRun(f"{path}: {error.strerror}") from None
    except (ValueError, RecursionError) as error:
        raise BadRun(f"{path}: not JSON: {error}") from None
    if found := problems(data):
        more = f" (and {len(found) - 1} more)" if len(found) > 1 else ""
        raise BadRun(f"{path}: {found[0]}{more}")
    measured = {row["fullname"]: row for row in data["benchmarks"]}
    cells = []
    for row in data["attnlib"]["cases"]:
        identity = (row["case"], row["case_id"], row["status"], row.get("reason"))
        hit = measured.get(row["test"]) if row["status"] == "ok" else None
        cells.append(Cell(*identity, tuple(hit["stats"]["data"]), hit["extra_info"]) if hit else Cell(*identity))
    return Run(path, data, tuple(cells))


def load_all(paths: Iterable[Path]) -> tuple[list[Run], list[str]]:
    """Read several files: the good runs, and a line for each bad one."""
    runs, bad = [], []
    for path in paths:
        try:
            runs.append(load(path))
        except BadRun as error:
            bad.append(str(error))
    return runs, bad


def newest(folder: Path = RESULTS) -> Path | None:
    """The saved run under ``folder`` that was written last, reference runs apart; None without any."""
    saved = [path for path in folder.glob("*/[0-9][0-9][0-9][0-9]_*.json") if path.parent.name != "reference"]
    return max(saved, key=lambda path: path.stat().st_mtime, default=None)
