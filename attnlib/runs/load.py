"""Loader of saved runs: every reader gets a run from here."""

import codecs
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from attnlib.errors import message
from attnlib.runs import journal
from attnlib.runs.schema import (
    BesideRow,
    Case,
    Contents,
    Cost,
    Info,
    Lengths,
    Origin,
    OverReference,
    Probe,
    Row,
    Timed,
    Training,
    Visit,
    examine,
)
from attnlib.runs.text import printable, short_names
from attnlib.runs.visits import Visited, kernel_kind

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

    case: Case
    fields: dict[str, Any]  # all of the case, those that no reader uses too
    case_id: str
    test: str
    status: str
    reason: str | None
    samples: tuple[float, ...] = ()  # seconds of every round
    info: Info | None = None  # of a timed case
    probe: Probe | None = None  # what was read of its gradients, or of its training
    node: str | None = None  # that measured it
    parts: Mapping[str, Origin] = field(default_factory=dict)  # of the model, those that are somebody else's

    @property
    def question(self) -> str:
        """Name of its test without the parameters."""
        return self.test.partition("[")[0]

    @property
    def median(self) -> float | None:
        """Median seconds of the rounds, or None without a time."""
        return float(np.median(self.samples)) if self.samples else None

    @property
    def ratio(self) -> OverReference | None:
        """Ratio of its time to its reference's, with interval; None if it was measured without a reference."""
        found = self.info.time.over_reference if self.info else None
        return found if found and found.value is not None else None

    @property
    def visits(self) -> list[Visit]:
        """The saved visits; empty for a case without a reference, or saved before there were visits."""
        return self.info.time.visits if self.info and self.ratio else []

    @property
    def visited(self) -> Visited | None:
        """Log ratios of its visits, see ``runs.visits``; None without any."""
        logs = tuple(visit.log_ratio for visit in self.visits if visit.log_ratio is not None)
        if self.info is None or not logs:
            return None
        fused = self.info.attention is None or self.info.attention.fused is not False
        return Visited(kernel_kind(fused=fused), self.case.seq_len, logs, len(logs) > self.info.time.visits_planned)

    @property
    def reference_medians(self) -> list[float]:
        """Median seconds of the reference's rounds in each visit; defined if ``ratio`` is not None.

        Disturbed visits are left out, unless all are.
        """
        seconds = np.array(self.info.time.reference_s if self.info else ())
        parts = np.split(seconds, np.cumsum([visit.rounds for visit in self.visits])[:-1]) or [seconds]
        quiet = [part for part, visit in zip(parts, self.visits, strict=False) if not visit.disturbed]
        return [float(np.median(part)) for part in quiet or parts]

    @property
    def timed(self) -> bool:
        """True if it has times of its own; False for a check of gradients, even if seconds of it were saved."""
        return bool(self.samples) and not (self.probe and self.probe.claims)

    @property
    def training(self) -> Training | None:
        """Results of its training; None for a case that is not trained."""
        return self.probe.training if self.probe else None

    @property
    def by_length(self) -> Lengths | None:
        """Results of its training on short sequences; None for another case."""
        return self.probe.lengths if self.probe else None

    @property
    def peak(self) -> int | None:
        """Peak bytes by the allocator; None if not measured."""
        value = self.info.memory["allocated_peak"].value if self.info else None
        return None if value is None else int(value)

    @property
    def joules(self) -> float | None:
        """Energy of a step in joules; None if not measured."""
        return self.info.energy.joules.value if self.info and self.info.energy else None

    @property
    def flags(self) -> list[str]:
        """Warnings about its numbers, in words."""
        return self.info.flags if self.info else []

    @property
    def canary(self) -> float | None:
        """Mean seconds of the canary before and after its visits; None if the canary was not timed."""
        readings = self.info.time.canary_s if self.info else None
        return float(np.mean(readings)) if readings else None

    @property
    def disturbed(self) -> bool:
        """True if most of its visits were disturbed in both attempts."""
        return bool(self.info and self.info.time.disturbed)

    @property
    def cost(self) -> Cost:
        """Predicted cost of the case; empty if unknown."""
        return self.info.cost if self.info else Cost()

    @property
    def predicted(self) -> int | None:
        """Predicted peak bytes; None if not predicted."""
        value = self.cost.predicted_peak.value if self.cost.predicted_peak else None
        return None if value is None else int(value)

    @property
    def share_of_ceiling(self) -> float | None:
        """Seconds of its step at the machine's ceilings, divided by its measured seconds; None if unknown."""
        floor = self.cost.floor_s
        return floor.seconds / self.median if floor and floor.seconds and self.median else None

    @property
    def label(self) -> str:
        """The case in words: phase and axes."""
        return self.case.label


@dataclass(frozen=True)
class Run:
    """One saved run, in one file or several."""

    path: Path  # the first one
    data: dict[str, Any]  # of the first one, with the canary's readings and the processes of all
    cells: tuple[Cell, ...]
    beside: tuple[BesideRow, ...] = ()  # calls that were measured beside others

    @property
    def name(self) -> str:
        """The file's name without its ending."""
        return printable(self.path.stem)

    @property
    def token(self) -> str:
        """Identifier of the run: its own token, or its file's path if it was saved without one."""
        return str(self.data["attnlib"].get("run") or self.path.resolve())

    @property
    def device_kind(self) -> str:
        """Kind of its device: ``cpu``, ``cuda``, ..."""
        return str((self.data["machine_info"]["attnlib"].get("device") or {}).get("kind", "cpu"))

    @property
    def canary(self) -> float | None:
        """Median seconds of the canary throughout the run; None if it was not timed."""
        return float(np.median(self.canary_readings)) if self.canary_readings else None

    @property
    def canary_readings(self) -> list[float]:
        """Seconds of the canary on the run's device, node by node; those on other devices are left out."""
        return [seconds for heard in self.nodes.values() for seconds in heard]

    @property
    def nodes(self) -> dict[str, list[float]]:
        """Seconds of the canary's readings on the run's device, by name of each node that worked on the run."""
        kind = self.device_kind
        found: dict[str, list[float]] = {cell.node: [] for cell in self.cells if cell.node}
        for reading in self.data["attnlib"].get("canary", ()):
            if reading.get("device", kind) == kind:
                found.setdefault(node_of(self.data, reading) or "unknown", []).append(reading["seconds"])
        return found

    @property
    def merged(self) -> bool:
        """Return True if the run was merged from shards."""
        return "nodes" in self.data["attnlib"]

    @property
    def machines(self) -> list[dict[str, Any]]:
        """Fields of ``machine_of``, once for each different node, device and CPU affinity of the run's processes."""
        machine = machine_of(self.data["machine_info"])
        places = [machine | {k: p[k] for k in PLACE if k in p} for p in self.data["attnlib"].get("processes") or [{}]]
        return [place for index, place in enumerate(places) if place not in places[:index]]

    @property
    def kind(self) -> dict[str, Any]:
        """Fields of ``machine_of`` that all its machines share: all but node, device uuid and CPU affinity."""
        return kind_of(self.data["machine_info"])


def node_of(data: dict[str, Any], entry: dict[str, Any]) -> str | None:
    """Return the node that made a row or a reading of a saved run, by its process; None if no process did."""
    ours, number = data["attnlib"], entry.get("process", -1 if "nodes" in data["attnlib"] else 0) or 0
    processes = ours.get("processes") or ()
    place = processes[number].get("node") if 0 <= number < len(processes) else None
    return None if number < 0 else str(place or data["machine_info"].get("node") or "unknown")


def machine_of(info: dict[str, Any]) -> dict[str, Any]:
    """Return the fields of ``machine_info`` that must agree for times to be compared; None for one that is missing."""
    ours = info.get("attnlib") or {}
    device, versions = ours.get("device") or {}, ours.get("versions") or {}
    return {
        "node": info.get("node"),
        "cpu": processor(info),
        **{name: device.get(key) for name, key in (("device", "name"), ("uuid", "uuid"), ("driver", "driver"))},
        "torch": versions.get("torch"),
        **{name: ours.get(name) for name in SETTINGS},
        "switches": ours.get("switches") or {},  # those that are not as usual; earlier runs did not say
    }


def processor(info: dict[str, Any]) -> str | None:
    """Return the processor's name, family and model; None if it has no name.

    Under a hypervisor, processors of several generations may have the same name, such as ``AMD EPYC``.
    """
    cpu = info.get("cpu") or {}
    model = [f"{name} {cpu[name]}" for name in ("family", "model") if cpu.get(name) is not None]
    return ", ".join([str(cpu["brand_raw"]), *model]) if cpu.get("brand_raw") else None


def kind_of(info: dict[str, Any]) -> dict[str, Any]:
    """Return the fields of ``machine_of`` that machines of one kind share: all but node, device uuid and affinity."""
    return {key: value for key, value in machine_of(info).items() if key not in PLACE}


def load(path: Path) -> Run:
    """Load a saved run, or an unfinished one from its journal.

    Characters that would act on a terminal are shown as a replacement character.

    Raises:
        BadRun: see ``read``.
    """
    data, contents = read(path, clean=True)
    pairs = zip(data["attnlib"]["cases"], contents.rows, strict=True)
    cells = [cell_of(row, raw["case"], contents.timed.get(row.test), node_of(data, raw)) for raw, row in pairs]
    return Run(path, data, tuple(cells), tuple(contents.beside))


def saved_data(path: Path) -> dict[str, Any]:
    """Return the JSON of a file that keeps the results contract, unchanged; raises as ``read`` does."""
    return read(path)[0]


def read(path: Path, *, clean: bool = False) -> tuple[dict[str, Any], Contents]:
    """Return the JSON of a file that keeps the results contract, and its typed rows.

    Args:
        path: the file.
        clean: replace characters that would act on a terminal, and shorten names of parts.

    Raises:
        BadRun: the file cannot be read, is no regular file or too large, is not JSON, **or** breaks the contract.
    """
    try:
        if path.suffix == journal.SUFFIX:
            data = journal.assemble(journal.events(contents_of(path)), live=journal.is_live(path))
        else:
            data = _decoded(contents_of(path))
        data = with_switches(shortened(_printable(data))) if clean else data
        found, contents = examine(data)
    except OSError as error:
        raise BadRun(one_line(message(f"{path}: {error.strerror or error}"))) from None
    except (ValueError, RecursionError) as error:
        raise BadRun(one_line(message(f"{path}: {error}"))) from None
    if found:
        more = f" (and {len(found) - 1} more)" if len(found) > 1 else ""
        raise BadRun(one_line(message(f"{path}: {found[0]}{more}")))
    return data, contents


def cell_of(row: Row, fields: dict[str, Any], timed: Timed | None, node: str | None = None) -> Cell:
    """Return the cell of a row.

    Args:
        row: a row of ``attnlib.cases``.
        fields: all fields of its case.
        timed: the benchmark of its test, if there is one.
        node: name of the node that measured it.
    """
    identity = (row.case, LATER | fields, row.case_id, row.test, row.status, row.reason)
    timed = timed if row.status == "ok" else None
    probe = row.probe or (timed.extra_info.probe if timed else None) if row.status == "ok" else None
    if timed is None or (probe and probe.claims):  # a check, which in schema 1 was a benchmark
        return Cell(*identity, probe=probe, node=node, parts=row.parts)
    return Cell(*identity, tuple(timed.stats.data), timed.extra_info, probe, node, row.parts)


def shortened(data: Any) -> Any:
    """Return a run with short names for parts that are not attnlib's; see ``short_names``."""
    try:
        names = [name for axis in data["attnlib"]["axes"].values() for name in axis]
        own = {name: short for name, short in short_names(names).items() if name != short}
    except (KeyError, TypeError, AttributeError):  # it breaks the contract, which is said later
        return data
    if own:
        ours = data["attnlib"]
        ours["axes"], ours["cases"] = renamed(ours["axes"], own), [renamed(row, own) for row in ours["cases"]]
        data["benchmarks"] = [renamed(row, own) for row in data["benchmarks"]]
        cases = [row["case"] for row in ours["cases"]] + [row["extra_info"].get("case") for row in data["benchmarks"]]
        for case in cases:
            if case is not None:
                case["pe"] = encoding_label(case["model"], case["pe"]) if "model" in case else case["pe"]
        ours["axes"]["pe"] = list(dict.fromkeys([*ours["axes"]["pe"], *(row["case"]["pe"] for row in ours["cases"])]))
    return data


def with_switches(data: Any) -> Any:
    """Return a run with ``switch_label`` in place of the encodings of cases that have one switch each."""
    try:
        ours = data["attnlib"]
        labels = {row["test"]: switch_label(row["test"]) for row in ours["cases"]}
        if not any(labels.values()):
            return data
        cases = [(row["test"], row["case"]) for row in ours["cases"]]
        cases += [(row["fullname"], row["extra_info"].get("case")) for row in data["benchmarks"]]
        for test, case in cases:
            if case is not None and labels.get(test):
                case["pe"] = labels[test]
        ours["axes"]["pe"] = list(dict.fromkeys([*ours["axes"]["pe"], *sorted(filter(None, labels.values()))]))
    except (KeyError, TypeError, AttributeError):  # it breaks the contract, which is said later
        return data
    return data


def switch_label(test: str) -> str | None:
    """Return the switch in a test's id, such as ``kv_heads=1``, ``qk_norm`` or ``cope``; None for no switch."""
    found = re.search(r"test_switches\.py::.*[\[-]switch=([^\]]+)\]$", test)
    if found is None or found[1] == "none":
        return None
    return found[1].removeprefix("pe=").removesuffix("=true")


def encoding_label(model: str, pe: str) -> str:
    """Return the label of an encoding in tables and ids; with a model that is not attnlib's it has the model's name."""
    if model == "stack":
        return pe
    return model if pe == "none" else f"{model}+{pe}"


def renamed(node: Any, names: Mapping[str, str]) -> Any:
    """Return decoded JSON with strings replaced as in ``names``; values of keys ``parts`` stay as they are."""
    if not names:
        return node
    if isinstance(node, dict):
        return {key: value if key == "parts" else renamed(value, names) for key, value in node.items()}
    if isinstance(node, list):
        return node if node and isinstance(node[0], float) else [renamed(value, names) for value in node]
    return names.get(node, node) if isinstance(node, str) else node


def contents_of(path: Path) -> bytes:
    """Return the bytes of a regular file that is not too large.

    Raises:
        OSError: it cannot be read.
        ValueError: it is no regular file, **or** larger than ``LARGEST``.
    """
    if path.exists() and not path.is_file():  # a pipe or a device would never end
        raise ValueError(message("not a file"))
    if (size := path.stat().st_size) > LARGEST:
        raise ValueError(message(f"at most {LARGEST} bytes are read", size))
    return path.read_bytes()


def _decoded(data: bytes) -> Any:
    try:
        return msgspec.json.decode(data.removeprefix(codecs.BOM_UTF8))
    except (msgspec.MsgspecError, ValueError, RecursionError) as error:  # the first is no ValueError before 0.21
        raise ValueError(message(f"not JSON: {error}")) from None


def _printable(node: Any, depth: int = 0) -> Any:
    if depth > DEEPEST:
        raise ValueError(message(f"nested more than {DEEPEST} deep"))
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
    """Return a message without characters that would act on a terminal, cut to ``longest`` characters and dots."""
    text = printable(text)
    return text if len(text) <= longest else f"{text[:longest]}..."
