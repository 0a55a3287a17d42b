"""One saved run of the parts that several processes measured; their samples are held a part at a time.

Each case is there once, with the node that measured it; each node with its machine record.
"""

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any

import msgspec

from attnlib.runs import journal, visits
from attnlib.runs.load import node_of, one_line, saved_data
from attnlib.runs.save import token_in
from attnlib.runs.schema import Object, convert
from attnlib.sweep.folder import Shard, Sweep, read

GAP = "interrupted"
# of a part: put together, not taken over
OTHERS = ("run", "wall_s", "timed_share", "canary", "processes", "nodes", "data", "cases", "beside")
CHOOSING = ("order_seed", "seq_lens", "depths", "pe", "fixed_depth", "fixed_seq_len", "data")  # which cases there are
ASIDE = ("--shard=", "--benchmark-json=", "--resume", "--retry-crashed")  # of a part's command line
encode = msgspec.json.encode


class Part(msgspec.Struct):
    """The section ``attnlib`` of what can be merged."""

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
    """What is known of a merged run while its parts are read.

    Args:
        token: of the run.
        planned: its tests; None: what the parts planned.
        partial: whether tests may be missing, and become rows ``interrupted``.
    """

    token: str
    planned: Sequence[journal.Planned] | None = None
    partial: bool = False
    first: dict[str, Any] = field(default_factory=dict)  # part, without what is put together
    path: Path = Path()  # of it
    about: dict[str, Any] = field(default_factory=dict)  # what must agree with it
    data: dict[str, Any] = field(default_factory=dict)  # sets, by name: a part knows of those that it learned
    rows: dict[str, bytes] = field(default_factory=dict)  # by test
    gaps: dict[str, dict[str, Any]] = field(default_factory=dict)  # rows of tests that a part did not come to
    found: dict[str, Path] = field(default_factory=dict)  # the part of a case, by id
    beside: dict[str, dict[str, Any]] = field(default_factory=dict)  # rows of calls beside others, by test
    canary: list[bytes] = field(default_factory=list)
    processes: list[dict[str, Any]] = field(default_factory=list)
    nodes: dict[str, dict[str, Any]] = field(default_factory=dict)
    wall_s: float = 0.0

    def chunks(self, parts: Sequence[Path]) -> Iterator[bytes]:
        """The saved run, piece by piece, a line a benchmark and a case.

        Raises:
            ValueError: no parts, **or** one cannot be read, **or** they do not go together, **or** a test is missing;
                the message says what and where.
        """
        before = b""
        for number, path in enumerate(parts):
            data = saved_data(path)
            self.compare(path, data)
            lacking = sum(visits.planned_left({row["fullname"]: row for row in data["benchmarks"]}).values())
            if lacking and not self.partial:
                raise ValueError(one_line(f"{lacking} visits of {path} are missing: --partial merges without them"))
            if number == 0:
                head = {name: value for name, value in data.items() if name not in ("benchmarks", "attnlib")}
                yield encode(head)[:-1] + b',"benchmarks":[\n'
            if rows := self.add(path, data):  # none of checks and trainings
                yield before + b",\n".join(rows)
                before = b",\n"
        if not parts:
            raise ValueError("nothing to merge: no part has begun")
        yield b'\n],"attnlib":' + encode(self.ours())[:-1]
        yield b',"canary":[' + b",".join(self.canary) + b"]"
        yield b',"cases":[\n' + b",\n".join(self.cases()) + b"\n]}}\n"

    def compare(self, path: Path, data: dict[str, Any]) -> None:
        """Refuse a part that was not measured as the first one was."""
        ours = data["attnlib"]
        if found := convert(ours, Part)[1]:
            raise ValueError(one_line(f"{path}: does not tell what must agree for it to be merged: {found[0]}"))
        about = {name: ours[name] for name in ("kind", "axes", "theory")}
        about["settings"] = {name: value for name, value in ours["settings"].items() if name not in CHOOSING}
        self.data |= {name: value for name, value in ours["data"].items() if name not in self.data}
        if not self.first:
            self.first, self.path = {name: v for name, v in ours.items() if name not in OTHERS}, path
            self.about = about
        theirs = self.about | {"data": {name: self.data[name] for name in ours["data"]}}
        if differ := journal.differences(theirs, about | {"data": ours["data"]}):
            more = f" (and {len(differ) - 1} more)" if len(differ) > 1 else ""
            raise ValueError(one_line(f"{self.path} and {path} differ: {differ[0]}{more}"))

    def add(self, path: Path, data: dict[str, Any]) -> list[bytes]:
        """Take over a part; returns its benchmarks."""
        ours, offset = data["attnlib"], len(self.processes)
        self.wall_s += ours.get("wall_s") or 0.0
        machine, known = data["machine_info"], ours.get("nodes", {})  # those of a part that was merged itself
        for number, process in enumerate(ours["processes"]):
            node = process.get("node") or "unknown"
            self.processes.append(process)
            own = {name: process[name] for name in ("affinity", "memory_bytes") if name in process}
            own["device"] = (machine["attnlib"].get("device") or {}) | {"uuid": process.get("uuid")}
            record = machine | {"node": node, "attnlib": machine["attnlib"] | own}  # where it went on elsewhere: alike
            if number == 0 or node in known:
                self.nodes[node] = known.get(node, record)
            self.nodes.setdefault(node, record)
        for reading in ours["canary"]:
            self.canary.append(encode(reading | {"process": offset + (reading.get("process") or 0)}))
        for row in ours["cases"]:
            # a case crashed in the last process if none has gone on with it
            number = len(ours["processes"]) - 1 if row.get("process") is None else row["process"]
            own = {"process": offset + number, "node": node_of(data, row | {"process": number})}
            self.put(path, row, own)
        for row in ours.get("beside", ()):
            number = len(ours["processes"]) - 1 if row.get("process") is None else row["process"]
            self.put_beside(path, row | {"process": offset + number})
        return [encode(row) for row in data["benchmarks"]]

    def put(self, path: Path, row: dict[str, Any], where: dict[str, Any]) -> None:
        """Take over a row with where it was measured; one that a part did not come to may be another's."""
        test, case_id = row["test"], row["case_id"]
        if row["status"] == GAP:
            self.gaps.setdefault(test, {name: value for name, value in row.items() if name != "process"})
            return
        if other := self.found.get(case_id):
            raise ValueError(one_line(f"measured twice: {test}: {other} and {path}"))
        self.found[case_id] = path
        self.rows[test] = encode(row | where)

    def put_beside(self, path: Path, row: dict[str, Any]) -> None:
        """Take over the row of a call beside another one; one that a part did not come to may be another's."""
        known = self.beside.get(row["test"])
        if known is None or known["status"] == GAP:
            self.beside[row["test"]] = row
        elif row["status"] != GAP:
            raise ValueError(one_line(f"measured twice: {row['test']}, the second time in {path}"))

    def rows_beside(self) -> list[dict[str, Any]]:
        """Return a row for each planned call beside another one.

        Raises:
            ValueError: one is missing, and may not.
        """
        planned = [one for one in self.planned or () if one.beside is not None]
        rows: dict[str, dict[str, Any]] = {
            one.test: {"test": one.test, "params": one.beside, **journal.NOT_YET} for one in planned
        }
        rows |= self.beside
        missing = [test for test, row in rows.items() if row["status"] == GAP]
        if missing and not self.partial:
            raise ValueError(
                f"{len(missing)} of {len(rows)} tests are missing, as {missing[0]}: --partial merges others"
            )
        return list(rows.values())

    def ours(self) -> dict[str, Any]:
        """The section ``attnlib`` but for what is long."""
        command = [word for word in self.first["command"] if not word.startswith(ASIDE)]
        own = {"run": self.token, "command": command, "wall_s": self.wall_s, "timed_share": None}
        own |= {"data": self.data, "processes": self.processes, "nodes": self.nodes}
        beside = self.rows_beside()
        return self.first | own | ({"beside": beside} if beside else {})

    def cases(self) -> Iterator[bytes]:
        """A row for each planned case, in order.

        Raises:
            ValueError: one is missing, and may not.
        """
        if self.planned is not None:
            rows = {one.test: one.case | {"test": one.test} | journal.NOT_YET for one in self.planned if one.case}
            self.gaps = rows | self.gaps
        missing = [test for test in self.gaps if test not in self.rows]
        if missing and not self.partial:
            planned = len(self.gaps | self.rows)
            raise ValueError(
                f"{len(missing)} of {planned} cases are missing, as {missing[0]}: --partial merges the others"
            )
        for test in self.gaps | self.rows:
            yield self.rows[test] if test in self.rows else encode(self.gaps[test])


def of_sweep(sweep: Sweep, run: int, *, partial: bool) -> tuple[Merged, list[Path]]:
    """A run of a sweep, to be merged, and its parts: finished ones and journals.

    Raises:
        ValueError: it was not planned yet.
    """
    if (plan := sweep.plan) is None:
        raise ValueError(f"{sweep.folder} was not planned yet")
    tasks = [task for task in sweep.tasks if task.run == run]
    shards = [read(sweep.tests(plan, task.shard), Shard) for task in tasks]
    numbered = {number: test for shard in shards for number, test in zip(shard.numbers, shard.tests, strict=True)}
    planned = [numbered[number] for number in sorted(numbered)]
    parts = [path for task in tasks if (path := task.book or task.final).exists()]
    return Merged(f"{sweep.asked.token}{run:04x}", planned, partial), parts


def token_of(part: Path) -> str:
    """The token of a run, or of a journal."""
    if part.suffix == journal.SUFFIX and part.exists():
        return journal.plan_of(journal.events(part.read_bytes())).run
    return token_in(part) or part.name


def of_parts(parts: Sequence[Path], *, partial: bool) -> Merged:
    """Parts that were measured one by one, to be merged; the same ones are the same run."""
    tokens = sorted(map(token_of, parts))
    return Merged(hashlib.sha256(" ".join(tokens).encode()).hexdigest()[:12], None, partial)
