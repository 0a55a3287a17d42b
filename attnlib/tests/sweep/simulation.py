"""How a sweep's own cost grows: ``python -m attnlib.tests.sweep.simulation RUN`` prints the table of docs/cluster.md.

Planning is pytest's own, of as many cases. What nodes would write are copies of the rows of a saved run, through the
same journal, and what they would take is what these rows took; cutting, status and merging are the product's.
"""

import heapq
import itertools
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import msgspec

from attnlib.cases.text import size
from attnlib.runs import journal
from attnlib.runs.load import load, saved_data
from attnlib.runs.save import as_json, save_over
from attnlib.show.table import Column, Table
from attnlib.show.units import duration, seconds
from attnlib.sweep.cut import cut
from attnlib.sweep.folder import Outline, Shard, Sweep, read
from attnlib.sweep.status import standings
from attnlib.tests import ROOT

CELLS, NODES = (10, 1_000, 100_000), (1, 10, 100, 1_000)
A_SHARD = 1_000  # cases at most: a process holds its shard's rows as it saves them
COLUMNS = {
    "cells": Column(number=True),
    "nodes": Column(number=True),
    "shards": Column(number=True),
    "planning": Column(seconds, number=True),
    "its memory": Column(size, number=True),
    "cutting": Column(seconds, number=True),
    "a case's journal": Column(seconds, number=True),
    "measuring": Column(duration, number=True),
    "over its least": Column(lambda ratio: f"{ratio:.2f}", number=True),
    "status": Column(seconds, number=True),
    "merging": Column(seconds, number=True),
    "memory of it": Column(size, number=True),
}


def watched(*command):
    """Seconds and peak bytes of a process."""
    begun = time.monotonic()
    process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    assert process.returncode == 0, command
    return time.monotonic() - begun, usage.ru_maxrss * 1024


def planned_by_pytest(cells, folder):
    """How many cases it planned, with seconds and bytes."""
    side = max(1, round((cells / 10) ** 0.5))
    lengths, depths = (",".join(map(str, range(step, step * side + 1, step))) for step in (8, 1))
    options = ["--preset=smoke", "--pe=all", f"--seq-lens={lengths}", f"--depths={depths}", "-k", "train_step"]
    out = folder / "outline.json"
    spent, peak = watched(sys.executable, "-m", "pytest", "bench/", *options, f"--plan-out={out}", "-q")
    return len(read(out, Outline).tests), spent, peak


class Copies:
    """So many cases, each a copy of one of a saved run.

    Args:
        path: of the run.
        cells: how many.
    """

    def __init__(self, path, cells):
        self.data = saved_data(path)
        ours = self.data["attnlib"]
        self.timed = {row["fullname"]: row for row in self.data["benchmarks"]}
        visits = {test: row["extra_info"]["time"]["visits"] for test, row in self.timed.items()}
        own = {test: sum(visit["seen"]["wall_s"] for visit in made) for test, made in visits.items()}
        beside = (ours["wall_s"] - sum(own.values())) / len(ours["cases"])
        rows = list(itertools.islice(itertools.cycle(ours["cases"]), cells))
        copies = [number // len(ours["cases"]) for number in range(cells)]
        names = [f"{row['test'][:-1]}-seed={copy}]" for row, copy in zip(rows, copies, strict=True)]
        self.rows = dict(zip(names, rows, strict=True))
        cases = [row["case"] for row in rows]
        blocks = [f"{c['phase']} T={c['seq_len']} L={c['depth']} {n}" for c, n in zip(cases, copies, strict=True)]
        took = [own.get(row["test"], 0.0) + beside for row in rows]
        tests = [
            journal.Planned(
                test=name,
                case={"schema": 2, "case": row["case"] | {"seed": copy}, "case_id": f"{number:012x}"},
            )
            for number, (name, row, copy) in enumerate(zip(names, rows, copies, strict=True))
        ]
        self.outline = Outline(kind={"cpu": "copy"}, platform="Copies", tests=tests, blocks=blocks, seconds=took)

    def measure(self, sweep, task, node):
        """Write what a node would of a shard; return seconds of its journal, and of its final file."""
        shard = read(sweep.tests(sweep.plan, task.shard), Shard)
        head = {name: self.data[name] for name in ("machine_info", "commit_info", "datetime", "version")}
        ours = {name: self.data["attnlib"][name] for name in ("axes", "theory", "command")}
        ours |= {"schema": 2, "data": {}, "kind": shard.kind, "settings": {}}
        plan = journal.Plan(
            run=f"{task.shard:012x}", name="x", fingerprint={}, settings={}, head=head, ours=ours, tests=shard.tests
        )
        task.final.parent.mkdir(exist_ok=True)
        book = journal.Journal.create(task.final.parent / f"{task.final.stem}.x{journal.SUFFIX}", plan)
        book.write(journal.Process(about={"node": node}))
        ends = [self.finish(test) for test in shard.tests]
        begun = time.perf_counter()
        for end in ends:
            book.write(journal.Start(test=end.test, at_s=0.0))
            book.write(end)
        spent = time.perf_counter() - begun
        save_over(task.final, as_json(journal.assemble(book.events())), "copy")
        book.path.unlink()
        book.close()
        return spent

    def finish(self, planned):
        """The end of a case."""
        row = self.rows[planned.test]
        found = self.timed.get(row["test"])
        if found:
            info = found["extra_info"] | {"case": planned.case["case"], "case_id": planned.case["case_id"]}
            found = found | {"fullname": planned.test, "extra_info": info}
        heard = [{"at_s": 0.0, "seconds": 1e-3, "device": "cpu", "process": 0}]
        own = {name: row[name] for name in ("status", "reason", "probe") if name in row} | {"process": 0}
        return journal.Finish(test=planned.test, at_s=0.0, row=own, benchmark=found, canary=heard)


def makespan(shards, nodes):
    """Seconds until so many nodes, each of which takes the next shard when it is free, have done all."""
    free = [0.0] * nodes
    for spent in shards:
        heapq.heapreplace(free, free[0] + spent)
    return max(free)


def simulate(path, cells, nodes, folder):
    """A row of the table, but for what pytest takes."""
    copies = Copies(path, cells)
    asked = {"name": "x", "place": "local", "options": [], "runs": 1, "order_seed": 1, "where": "."}
    shards = max(nodes, -(-cells // A_SHARD))
    sweep = Sweep.create(folder / f"{cells}-{nodes}", shards=shards, **asked)
    outline = copies.outline
    begun = time.perf_counter()
    sweep.cut(outline, cut(outline.blocks, outline.seconds, shards))
    cutting = time.perf_counter() - begun
    wrote = sum(copies.measure(sweep, task, f"n{task.shard % nodes:04}") for task in sweep.tasks)
    begun = time.perf_counter()
    assert {one.state for one in standings(sweep, {}, 3)} == {"done"}
    status = time.perf_counter() - begun
    out = sweep.folder / "merged.json"
    merging, peak = watched(sys.executable, "-m", "attnlib.commands", "merge", sweep.folder, "--out", out)
    if cells <= A_SHARD:
        assert len(load(out).cells) == cells
    took = makespan(sweep.plan.seconds, nodes)
    found = (cells, nodes, len(sweep.tasks), None, None, cutting, wrote / cells, took)
    shutil.rmtree(sweep.folder)
    return dict(zip(COLUMNS, (*found, took * nodes / sum(outline.seconds), status, merging, peak), strict=True))


def main(path):
    """The table."""
    rows = []
    with tempfile.TemporaryDirectory() as name:
        for cells in CELLS:
            planned, spent, peak = planned_by_pytest(cells, Path(name))
            print(f"pytest planned {planned} in {spent:.1f} s", file=sys.stderr)
            blocks = len(set(Copies(path, cells).outline.blocks))
            for nodes in (count for count in NODES if count <= blocks):
                rows.append(simulate(path, cells, nodes, Path(name)) | {"planning": spent, "its memory": peak})
                print(msgspec.json.encode(rows[-1]).decode(), file=sys.stderr)
    print(Table(COLUMNS, rows).markdown())


if __name__ == "__main__":
    main(Path(sys.argv[1]))
