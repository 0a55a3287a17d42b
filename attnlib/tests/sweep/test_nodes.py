"""Readers of merged runs: tables by node, comparisons that know where a case was measured."""

import copy
import json

import pytest

from attnlib.compare.cells import Cells, read_cells, time_note
from attnlib.compare.nodes import apart
from attnlib.compare.saved import compare
from attnlib.runs.load import load
from attnlib.runs.schema import problems
from attnlib.show.costs import costs
from attnlib.show.nodes import nodes
from attnlib.show.tidy import tidy
from attnlib.tests.runs.examples import saved

RATIO = 1.2


def merged(path, where=("n1", "n2"), slow=1.0, token="t"):
    """A run of two lengths, one a node, of which the second is ``slow`` times as slow as the first."""
    run = copy.deepcopy(saved(times=(1.0,) * 5, node=where[0], canary=1e-3, ratio=RATIO))
    ours = run["attnlib"]
    for row, benchmark in zip(ours["cases"], run["benchmarks"], strict=True):
        row["process"] = int(row["case"]["seq_len"] == 128)
        row["node"] = where[row["process"]]
        time = benchmark["extra_info"]["time"]
        factor = slow if row["process"] else 1.0
        benchmark["stats"]["data"] = [factor * s for s in benchmark["stats"]["data"]]
        time["reference_s"] = [factor * s for s in time["reference_s"]]
        time["canary_s"] = [factor * s for s in time["canary_s"]]
    ours["processes"] = [{"node": node, "affinity": [n]} for n, node in enumerate(where)]
    ours["canary"] = [{"seconds": 1e-3 * (slow if n else 1.0), "process": n, "at_s": 0.0} for n in (0, 1)]
    ours |= {"run": token, "nodes": {node: run["machine_info"] | {"node": node} for node in where}}
    assert problems(run) == []
    path.write_text(json.dumps(run))
    return path


@pytest.fixture(name="runs")
def _runs(tmp_path):
    """Makes so many merged runs."""

    def make(name, count=6, **more):
        return [load(merged(tmp_path / f"{name}{n}.json", token=f"{name}{n}", **more)) for n in range(count)]

    return make


def test_absolute_times_are_told_by_node(runs):
    """The table of costs names the node of each row, and says where nodes differ."""
    cells = Cells(runs("a", 1, slow=1.5))
    table = costs(cells)[-1]
    (by_node,) = nodes(cells)

    assert {(row["T"], row["node"]) for row in table.rows} == {(64, "n1"), (128, "n2")}
    assert "; measured on 2 nodes, which differ: n2 took 1.50 of n1's time for the canary" in time_note(cells)
    assert by_node.after[-1] == "nodes differ: n2 took 1.50 of n1's time for the canary"
    assert [(row["node"], row["cases"], row["disturbed"]) for row in by_node.rows] == [("n1", 4, 0), ("n2", 4, 0)]
    assert [round(row["canary"].value, 6) for row in by_node.rows] == [1e-3, 1.5e-3]
    assert {row["node"] for row in tidy(cells.runs)} == {"n1", "n2"}


def test_nodes_that_are_alike_are_not_remarked_upon(runs):
    """And a run of one node has no column of nodes."""
    assert apart(runs("a", 1)) is None
    assert time_note(Cells(runs("b", 1))).endswith("; measured on 2 nodes")
    assert "node" not in costs(Cells(runs("c", 1, where=("n1", "n1"))))[-1].columns


def test_merged_runs_of_one_kind_share_a_table(tmp_path):
    """Wherever their parts were measured; other kinds stay out, and so does a run of one machine."""
    places = ("n1", "n2"), ("n3", "n1")
    paths = [merged(tmp_path / f"{n}.json", where, token=str(n)) for n, where in enumerate(places)]
    other = merged(tmp_path / "other.json", token="o")
    data = json.loads(other.read_text())
    data["machine_info"]["attnlib"]["threads"] = 64
    other.write_text(json.dumps(data))
    alone = tmp_path / "alone.json"
    alone.write_text(json.dumps(saved(times=(1.0,) * 5, node="n1", ratio=RATIO)))
    cells, left_out = read_cells([*paths, other, alone])

    assert [run.name for run in cells.runs] == ["0", "1"]
    assert [line.partition(":")[0] for line in left_out] == [str(other), str(alone)]


def test_ratios_are_judged_wherever_they_were_measured(runs):
    """Seconds are not: a slower node is no slower code."""
    found = compare(runs("a"), runs("b", where=("n2", "n1"), slow=1.5))
    assert {row.verdict.word for row in found.rows} == {"same"}
    assert {row.verdict.word for row in found.references} == {"undecided"}
    assert {row.verdict.reason for row in found.references} == {"8 cases were measured on other nodes"}


def test_seconds_are_judged_on_the_same_nodes(runs):
    """They are if each case was measured on the nodes that it had on the other side."""
    found = compare(runs("a"), runs("b"))
    assert {row.verdict.word for row in (*found.rows, *found.references)} == {"same"}
    assert found.machine == ()


def test_a_case_that_fails_on_one_side_was_not_moved(runs):
    """The others' seconds are judged all the same."""
    new = runs("b")
    for run in new:
        object.__setattr__(run, "cells", run.cells[1:])
    found = compare(runs("a"), new)

    assert {row.verdict.word for row in found.references} == {"same"}


def test_other_kinds_of_nodes_are_not_compared(runs, tmp_path):
    """Runs on machines of other kinds stay undecided, merged or not."""
    path = merged(tmp_path / "x.json", token="x")
    data = json.loads(path.read_text())
    data["machine_info"]["attnlib"]["threads"] = 64
    path.write_text(json.dumps(data))
    found = compare(runs("a", 1), [load(path)])

    assert found.machine == ("threads: 2 | 64",)
    assert {row.verdict.word for row in found.rows} == {"undecided"}
