"""Merging parts that several processes measured into one saved run; only one part's samples are in memory at a time.

The merged run has each case once, with the node that measured it, and the machine record of each node.
"""

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any

import msgspec

from attnlib.errors import message
from attnlib.runs import journal, visits
from attnlib.runs.load import node_of, one_line, saved_data
from attnlib.runs.save import saved_now, token_in
from attnlib.runs.schema import Object, convert
from attnlib.sweep.folder import Shard, Sweep, read

GAP = "interrupted"  # status of a case that was not measured
# entries of a part's section ``attnlib`` that are made anew for the merged run; the first part has all others
COMBINED = ("run", "wall_s", "timed_share", "canary", "processes", "nodes", "data", "cases", "beside")
# settings that choose cases, and so may differ from part to part
CHOOSING = ("order_seed", "seq_lens", "depths", "pe", "fixed_depth", "fixed_seq_len", "data")
OMITTED = ("--shard=", "--benchmark-json=", "--resume", "--retry-crashed")  # options of one part, not of the run
encode = msgspec.json.encode


class Part(msgspec.Struct):
    """The section ``attnlib`` that a part must have."""

    kind: Object
    axes: Object
    theory: Object
    data: Object
    settings: Object
    command: list[str]
    canary: list[Object]
    processes: Annotated[list[Object], msgspec.Meta(min_length=1)]
    nodes: Object = {}


@dataclass
class Merged:
    """A merged run, built up while its parts are read.

    Args:
        token: identifies the run.
        planned: the tests of the run; None stands for the tests that the parts planned.
        partial: allow missing tests, which become rows with status ``interrupted``.
    """

    token: str
    planned: Sequence[journal.Planned] | None = None
    partial: bool = False
    first: dict[str, Any] = field(default_factory=dict)  # section of the first part, without ``COMBINED``
    path: Path = Path()  # of the first part
    about: dict[str, Any] = field(default_factory=dict)  # entries of the first part that all others must equal
    data: dict[str, Any] = field(default_factory=dict)  # data sets by name; a part lists those of its trainings
    rows: dict[str, bytes] = field(default_factory=dict)  # by test
    gaps: dict[str, dict[str, Any]] = field(default_factory=dict)  # rows of unmeasured tests
    sources: dict[str, Path] = field(default_factory=dict)  # the part of each case, by case id
    beside: dict[str, dict[str, Any]] = field(default_factory=dict)  # rows of calls beside others, by test
    canary: list[bytes] = field(default_factory=list)
    processes: list[dict[str, Any]] = field(default_factory=list)
    nodes: dict[str, dict[str, Any]] = field(default_factory=dict)
    wall_s: float = 0.0

    def chunks(self, parts: Sequence[Path]) -> Iterator[bytes]:
        """Yield the merged run as JSON, piece by piece, with a line for each benchmark and case.

        Raises:
            ValueError: there are no parts, **or** one cannot be read, **or** they differ where they must agree, **or**
                a test is missing, **or** measured twice; the message names it.
        """
        before = b""
        for number, path in enumerate(parts):
            data = saved_data(path)
            self.compare(path, data)
            lacking = sum(visits.planned_left({row["fullname"]: row for row in data["benchmarks"]}).values())
            if lacking and not self.partial:
                wrong = f"{lacking} visits of {path} are missing"
                raise ValueError(one_line(message(wrong, do="--partial merges without them")))
            if number == 0:
                head = {name: value for name, value in data.items() if name not in ("benchmarks", "attnlib")}
                yield encode(head | saved_now())[:-1] + b',"benchmarks":[\n'
            if rows := self.add(path, data):  # a part of checks and trainings has no benchmarks
                yield before + b",\n".join(rows)
                before = b",\n"
        if not parts:
            raise ValueError(message("nothing to merge: no part has begun"))
        yield b'\n],"attnlib":' + encode(self.section())[:-1]
        yield b',"canary":[' + b",".join(self.canary) + b"]"
        yield b',"cases":[\n' + b",\n".join(self.cases()) + b"\n]}}\n"

    def compare(self, path: Path, data: dict[str, Any]) -> None:
        """Raise ``ValueError`` if a part differs from the first in machine, code, settings or data."""
        ours = data["attnlib"]
        if problems := convert(ours, Part)[1]:
            wrong = f"{path} cannot be merged, an entry is missing or wrong: {problems[0]}"
            raise ValueError(one_line(message(wrong)))
        about = {name: ours[name] for name in ("kind", "axes", "theory")}
        about["settings"] = {name: value for name, value in ours["settings"].items() if name not in CHOOSING}
        self.data |= {name: value for name, value in ours["data"].items() if name not in self.data}
        if not self.first:
            self.first = {name: value for name, value in ours.items() if name not in COMBINED}
            self.path, self.about = path, about
        theirs = self.about | {"data": {name: self.data[name] for name in ours["data"]}}
        if differ := journal.differences(theirs, about | {"data": ours["data"]}):
            more = f" (and {len(differ) - 1} more)" if len(differ) > 1 else ""
            raise ValueError(one_line(message(f"{self.path} and {path} differ: {differ[0]}{more}")))

    def add(self, path: Path, data: dict[str, Any]) -> list[bytes]:
        """Add a part's processes, nodes, canary readings and rows; return its benchmarks."""
        ours, offset = data["attnlib"], len(self.processes)
        self.wall_s += ours.get("wall_s") or 0.0
        self.add_processes(data)
        for reading in ours["canary"]:
            self.canary.append(encode(reading | {"process": offset + (reading.get("process") or 0)}))
        for row in ours["cases"]:
            test, case_id = row["test"], row["case_id"]
            if row["status"] == GAP:  # another part may have it
                self.gaps.setdefault(test, {name: value for name, value in row.items() if name != "process"})
                continue
            if other := self.sources.get(case_id):
                raise ValueError(one_line(message(f"measured twice: {test}: {other} and {path}")))
            self.sources[case_id] = path
            # a crashed row without a process is of the last one: none resumed the run after it
            number = len(ours["processes"]) - 1 if row.get("process") is None else row["process"]
            node = node_of(data, row | {"process": number})
            self.rows[test] = encode(row | {"process": offset + number, "node": node})
        for row in ours.get("beside", ()):
            number = len(ours["processes"]) - 1 if row.get("process") is None else row["process"]
            self.add_beside(path, row | {"process": offset + number})
        return [encode(row) for row in data["benchmarks"]]

    def add_beside(self, path: Path, row: dict[str, Any]) -> None:
        """Add the row of a call beside another one, unless another part has measured it and this one has not."""
        known = self.beside.get(row["test"])
        if known is None or known["status"] == GAP:
            self.beside[row["test"]] = row
        elif row["status"] != GAP:
            raise ValueError(one_line(message(f"measured twice: {row['test']}, the second time in {path}")))

    def add_processes(self, data: dict[str, Any]) -> None:
        """Add a part's processes, and the machine record of each of their nodes."""
        machine, merged = data["machine_info"], data["attnlib"].get("nodes", {})  # ``nodes``: of a merged part
        for number, process in enumerate(data["attnlib"]["processes"]):
            node = process.get("node") or "unknown"
            self.processes.append(process)
            changes = {name: process[name] for name in ("affinity", "memory_bytes") if name in process}
            changes["device"] = (machine["attnlib"].get("device") or {}) | {"uuid": process.get("uuid")}
            # a process that resumed the run on another node has the first one's record but for these
            record = machine | {"node": node, "attnlib": machine["attnlib"] | changes}
            if number == 0 or node in merged:
                self.nodes[node] = merged.get(node, record)
            self.nodes.setdefault(node, record)

    def section(self) -> dict[str, Any]:
        """Return the section ``attnlib`` of the merged run, without canary readings and cases."""
        beside = self.rows_beside()
        return self.first | {
            "run": self.token,
            "command": [word for word in self.first["command"] if not word.startswith(OMITTED)],
            "wall_s": self.wall_s,
            "timed_share": None,
            "data": self.data,
            "processes": self.processes,
            "nodes": self.nodes,
            **({"beside": beside} if beside else {}),
        }

    def rows_beside(self) -> list[dict[str, Any]]:
        """Return the row of each planned call beside another one, in order.

        Raises:
            ValueError: one is missing, and the run is not partial.
        """
        planned = [one for one in self.planned or () if one.beside is not None]
        rows: dict[str, dict[str, Any]] = {
            one.test: {"test": one.test, "params": one.beside, **journal.NOT_YET} for one in planned
        }
        rows |= self.beside
        missing = [test for test, row in rows.items() if row["status"] == GAP]
        if missing and not self.partial:
            count = f"{len(missing)} of {len(rows)}"
            wrong = f"{count} tests are missing, as {missing[0]}"
            raise ValueError(message(wrong, do="--partial merges the others"))
        return list(rows.values())

    def cases(self) -> Iterator[bytes]:
        """Yield the row of each planned case, in order.

        Raises:
            ValueError: a case is missing, and the run is not partial.
        """
        if self.planned is not None:
            rows = {one.test: one.case | {"test": one.test} | journal.NOT_YET for one in self.planned if one.case}
            self.gaps = rows | self.gaps
        missing = [test for test in self.gaps if test not in self.rows]
        if missing and not self.partial:
            count = f"{len(missing)} of {len(self.gaps | self.rows)}"
            wrong = f"{count} cases are missing, as {missing[0]}"
            raise ValueError(message(wrong, do="--partial merges the others"))
        for test in self.gaps | self.rows:
            yield self.rows[test] if test in self.rows else encode(self.gaps[test])


def of_sweep(sweep: Sweep, run: int, *, partial: bool) -> tuple[Merged, list[Path]]:
    """Return a run of a sweep, counted from 1, to be merged, and the files of its parts: saved runs and journals.

    Raises:
        ValueError: the sweep was not planned yet.
    """
    if (plan := sweep.plan) is None:
        raise ValueError(message(f"nothing to merge: {sweep.folder} was not planned yet"))
    tasks = [task for task in sweep.tasks if task.run == run]
    shards = [read(sweep.tests(plan, task.shard), Shard) for task in tasks]
    numbered = {number: test for shard in shards for number, test in zip(shard.numbers, shard.tests, strict=True)}
    planned = [numbered[number] for number in sorted(numbered)]
    parts = [path for task in tasks if (path := task.book or task.final).exists()]
    return Merged(f"{sweep.asked.token}{run:04x}", planned, partial), parts


def token_of(part: Path) -> str:
    """Return the token of a saved run or a journal, or else the file's name."""
    if part.suffix == journal.SUFFIX and part.exists():
        return journal.plan_of(journal.events(part.read_bytes())).run
    return token_in(part) or part.name


def of_parts(parts: Sequence[Path], *, partial: bool) -> Merged:
    """Return the run, to be merged, of parts outside of a sweep; its token depends on the parts only."""
    tokens = sorted(map(token_of, parts))
    return Merged(hashlib.sha256(" ".join(tokens).encode()).hexdigest()[:12], None, partial)
