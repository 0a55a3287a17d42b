"""The one loader of a saved run."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from attnlib.runs import journal
from attnlib.runs.schema import problems
from attnlib.runs.text import printable

LARGEST = 2**31  # bytes of a file; the default job's have 3 MB, 100,000 cases of many nodes 1 GB
DEEPEST = 64  # objects and lists within each other; ours have 8
SETTINGS = ("python", "threads", "affinity", "cpu_quota", "float32_matmul_precision", "kernels", "environment")
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
    info: dict[str, Any] | None = None  # of a timed case: the benchmark's extra_info
    probe: dict[str, Any] = field(default_factory=dict)  # what was read of its gradients
    node: str | None = None  # that measured it

    @property
    def question(self) -> str:
        """The test that it is a point of."""
        return self.test.partition("[")[0]

    @property
    def median(self) -> float | None:
        """Median seconds of the rounds, or None without a time."""
        return float(np.median(self.samples)) if self.samples else None

    @property
    def over(self) -> dict[str, Any] | None:
        """Its time over that of the reference that its rounds lay beside; None where it was measured alone."""
        found = self.info["time"].get("over_reference") if self.info else None
        return found if found and found["value"] is not None else None

    @property
    def visits(self) -> list[dict[str, Any]]:
        """The saved visits; empty for a case without a reference, or saved before there were visits."""
        return (self.info or {"time": {}})["time"].get("visits", []) if self.over else []

    @property
    def reference_medians(self) -> list[float]:
        """Median seconds of that reference's rounds, a visit each; there are some where ``over`` is not None.

        Disturbed visits are left out, unless all are.
        """
        seconds = np.array((self.info or {})["time"]["reference_s"])
        parts = np.split(seconds, np.cumsum([visit["rounds"] for visit in self.visits])[:-1]) or [seconds]
        quiet = [part for part, visit in zip(parts, self.visits, strict=False) if not visit["disturbed"]]
        return [float(np.median(part)) for part in quiet or parts]

    @property
    def timed(self) -> bool:
        """Whether its seconds are those of a case: a check of gradients is read, not timed."""
        return bool(self.samples) and not self.probe.get("claims")

    @property
    def peak(self) -> int | None:
        """Peak bytes by the allocator, or None where not read."""
        return None if self.info is None else self.info["memory"]["allocated_peak"]["value"]

    @property
    def joules(self) -> float | None:
        """Energy of a step, or None where not read."""
        return None if self.info is None else self.info.get("energy", {}).get("joules", {}).get("value")

    @property
    def flags(self) -> list[str]:
        """What else has to be known of its numbers, in words."""
        return [] if self.info is None else self.info.get("flags", [])

    @property
    def canary(self) -> float | None:
        """Seconds of the canary around its visits, the mean of before and after, or None where it was not timed."""
        readings = None if self.info is None else self.info["time"].get("canary_s")
        return float(np.mean(readings)) if readings else None

    @property
    def disturbed(self) -> bool:
        """True if most of its visits were disturbed in both attempts."""
        return self.info is not None and bool(self.info["time"].get("disturbed"))

    def cost(self, name: str) -> Any:
        """What it should cost, by its name in the row's ``cost``; None where that is not known."""
        return None if self.info is None else self.info["cost"].get(name)

    @property
    def predicted(self) -> int | None:
        """Peak bytes as predicted, or None where they were not."""
        return (self.cost("predicted_peak") or {}).get("value")

    @property
    def share_of_ceiling(self) -> float | None:
        """What its step would take at the machine's ceilings over the time that it took; None where not known."""
        floor = self.cost("floor_s")
        return sum(floor.values()) / self.median if floor and self.median else None

    @property
    def label(self) -> str:
        """The case in words: phase and axes."""
        return self.label_of(self.case)

    @staticmethod
    def label_of(case: dict[str, Any]) -> str:
        """A case in words."""
        label = f"{case['phase']} T={case['seq_len']} L={case['depth']} {case['pe']}"
        if case["phase"] == "rate":  # the only axis over widths
            label += f" D={case['d_model']} K={case['head_dim']}"
        unusual = {key: case[key] for key, usual in USUAL.items() if case.get(key, usual) != usual}
        words = {key: f"{key}={value}" if type(value) in (int, float) else str(value) for key, value in unusual.items()}
        return label + "".join(f" {key if unusual[key] is True else word}" for key, word in words.items())


USUAL = {"block": "plain", "denormals": "flush", "attention": "sdpa", "init": "torch_mha", "causal": False, "seed": 0}
USUAL |= {
    "cache": "hot",
    "launch": "eager",
    "matmul_precision": "highest",
    "data": None,
    "n_train": None,
    "learning_rate": None,
}


@dataclass(frozen=True)
class Run:
    """One saved run, in one file or several."""

    path: Path  # the first one
    data: dict[str, Any]  # of the first one, with the canary's readings and the processes of all
    cells: tuple[Cell, ...]

    @property
    def name(self) -> str:
        """The file's name without its ending."""
        return printable(self.path.stem)

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
        return float(np.median(self.canary_readings)) if self.canary_readings else None

    @property
    def canary_readings(self) -> list[float]:
        """Seconds of the canary on the run's device, in order: cases of another device have a canary of their own."""
        return [seconds for heard in self.nodes.values() for seconds in heard]

    @property
    def nodes(self) -> dict[str, list[float]]:
        """The nodes that worked on it, and the canary's readings on each, see ``canary_readings``."""
        kind = self.device_kind
        found: dict[str, list[float]] = {cell.node: [] for cell in self.cells if cell.node}
        for reading in self.data["attnlib"].get("canary", ()):
            if reading.get("device", kind) == kind:
                found.setdefault(node_of(self.data, reading) or "unknown", []).append(reading["seconds"])
        return found

    @property
    def merged(self) -> bool:
        """Whether its cases were measured part by part, each part wherever there was room."""
        return "nodes" in self.data["attnlib"]

    @property
    def machines(self) -> list[dict[str, Any]]:
        """``machine_of`` it, once for each place that it ran at."""
        machine = machine_of(self.data["machine_info"])
        places = [machine | {k: p[k] for k in PLACE if k in p} for p in self.data["attnlib"].get("processes") or [{}]]
        return [place for index, place in enumerate(places) if place not in places[:index]]

    @property
    def kind(self) -> dict[str, Any]:
        """Of its machines: what they have in common, wherever they stand."""
        return {key: value for key, value in machine_of(self.data["machine_info"]).items() if key not in PLACE}


def node_of(data: dict[str, Any], entry: dict[str, Any]) -> str | None:
    """The node that a row or a reading of a saved run comes from, by the process that made it; None where none did."""
    ours, number = data["attnlib"], entry.get("process", -1 if "nodes" in data["attnlib"] else 0) or 0
    processes = ours.get("processes") or ()
    place = processes[number].get("node") if 0 <= number < len(processes) else None
    return None if number < 0 else str(place or data["machine_info"].get("node") or "unknown")


def machine_of(info: dict[str, Any]) -> dict[str, Any]:
    """What must agree between runs before their times may be compared, of a ``machine_info``; None where not said."""
    ours = info.get("attnlib") or {}
    device, versions = ours.get("device") or {}, ours.get("versions") or {}
    return {
        "node": info.get("node"),
        "cpu": (info.get("cpu") or {}).get("brand_raw"),
        **{name: device.get(key) for name, key in (("device", "name"), ("uuid", "uuid"), ("driver", "driver"))},
        "torch": versions.get("torch"),
        **{name: ours.get(name) for name in SETTINGS},
    }


def load(path: Path) -> Run:
    """Read a saved run, or the journal of an unfinished one as it is.

    Characters that would act on a terminal are shown as a replacement character.

    Raises:
        BadRun: see ``saved_data``.
    """
    data = saved_data(path, clean=True)
    measured = {row["fullname"]: row for row in data["benchmarks"] if "case_id" in row.get("extra_info", ())}
    cells = [cell_of(row, measured.get(row["test"]), node_of(data, row)) for row in data["attnlib"]["cases"]]
    return Run(path, data, tuple(cells))


def saved_data(path: Path, *, clean: bool = False) -> dict[str, Any]:
    """What is in a file that keeps the contract, as it is or ``clean`` of characters that would act on a terminal.

    Raises:
        BadRun: the file cannot be read, is no regular file or too large, is not JSON, **or** breaks the contract.
    """
    try:
        if path.suffix == journal.SUFFIX:
            data = journal.assemble(journal.events(_bytes(path)), live=journal.is_live(path))
        else:
            data = _decoded(_bytes(path))
        data = _printable(data) if clean else data
        found = problems(data)
    except OSError as error:
        raise BadRun(one_line(f"{path}: {error.strerror or error}")) from None
    except (ValueError, RecursionError) as error:
        raise BadRun(one_line(f"{path}: {error}")) from None
    if found:
        more = f" (and {len(found) - 1} more)" if len(found) > 1 else ""
        raise BadRun(one_line(f"{path}: {found[0]}{more}"))
    return data


def cell_of(row: dict[str, Any], benchmark: dict[str, Any] | None, node: str | None = None) -> Cell:
    """The cell of a row of ``attnlib.cases``, of the benchmark of its test if that has one, and of the node."""
    identity = (LATER | row["case"], row["case_id"], row["test"], row["status"], row.get("reason"))
    hit = benchmark if row["status"] == "ok" else None
    info = hit["extra_info"] if hit else None
    probe = (row.get("probe") or (info or {}).get("probe") or {}) if row["status"] == "ok" else {}
    if hit is None or probe.get("claims"):  # a check, which in schema 1 was a benchmark
        return Cell(*identity, probe=probe, node=node)
    return Cell(*identity, tuple(hit["stats"]["data"]), info, probe, node)


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


def one_line(text: str, longest: int = 300) -> str:
    """A message without characters that would act on a terminal, cut where it is too long."""
    text = printable(text)
    return text if len(text) <= longest else f"{text[:longest]}..."
