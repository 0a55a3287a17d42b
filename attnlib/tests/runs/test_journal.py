"""Journals and saved files: whole lines, whole files, one owner, nothing overwritten."""

import errno
import json
import multiprocessing
import os

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from attnlib.runs.journal import (
    SUFFIX,
    Busy,
    Finish,
    Journal,
    Plan,
    Planned,
    Process,
    Start,
    assemble,
    differences,
    events,
    finished,
    is_live,
    journals,
    processes,
)
from attnlib.runs.save import as_json, plain, save_new, save_over

PLAN = Plan(
    run="0123",
    name="x",
    fingerprint={},
    settings={},
    head={"version": "5"},
    ours={"schema": 1},
    tests=[Planned(test=name, case={"case_id": name}) for name in "abc"] + [Planned(test="ratio")],
)
OK = {"status": "ok", "reason": None}


def finish(test, at_s=1.0, **row):
    return Finish(test=test, at_s=at_s, row=OK | row, benchmark={"fullname": test}, spent_s=2.0, timed_s=1.0)


@pytest.fixture(name="path")
def _path(tmp_path):
    return tmp_path / f"x{SUFFIX}"


def test_what_is_written_is_read(path):
    """Events come back as they were, from the file and from the open journal."""
    written = [Process(about={"load": 0.5}), Start(test="a", at_s=0.25), finish("a", note="x")]
    book = Journal.create(path, PLAN)
    for event in written:
        book.write(event)

    assert events(path.read_bytes()) == [PLAN, *written] == book.events()
    assert [p.name for p in path.parent.iterdir()] == [path.name]
    book.close()


def test_a_line_that_was_cut_short_counts_for_nothing(path):
    """Every prefix of a journal reads as the events that are whole in it, and can be written on."""
    book = Journal.create(path, PLAN)
    for event in (Start(test="a", at_s=0.0), finish("a")):
        book.write(event)
    book.close()
    whole = path.read_bytes()
    start = whole.index(b"\n") + 1
    for length in range(start, len(whole)):
        path.write_bytes(whole[:length])
        kept = events(path.read_bytes())
        assert kept == events(whole)[: whole[:length].count(b"\n")]
        again = Journal(path)
        again.write(Start(test="b", at_s=3.0))
        again.close()
        assert events(path.read_bytes()) == [*kept, Start(test="b", at_s=3.0)]


def test_one_process_writes(path):
    """A journal that is being written is busy and live; when its owner lets go it is neither."""
    book = Journal.create(path, PLAN)

    assert is_live(path)
    with pytest.raises(Busy, match="is being written by another process"):
        Journal(path)
    book.close()
    assert not is_live(path)
    Journal(path).close()


def test_a_failed_write_leaves_the_journal_as_it_was(path, monkeypatch):
    """Half a line on a full disk is taken back."""
    book = Journal.create(path, PLAN)
    before, write = path.read_bytes(), os.write

    def half(handle, data):
        write(handle, data[: len(data) // 2])
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "write", half)
        with pytest.raises(OSError, match="No space left"):
            book.write(finish("a"))
    assert path.read_bytes() == before
    book.write(finish("a"))
    assert book.events() == [PLAN, finish("a")]
    book.close()


def test_a_plan_that_cannot_be_written_leaves_nothing(path, monkeypatch):
    """No journal without its plan."""

    def full(handle):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space left"):
        Journal.create(path, PLAN)
    assert list(path.parent.iterdir()) == []


def test_what_would_not_be_read_is_not_written(path):
    """A number that is not finite where one is needed is refused before it spoils the journal."""
    book = Journal.create(path, PLAN)
    with pytest.raises(ValueError, match="Expected `float`, got `null`"):
        book.write(Start(test="a", at_s=float("nan")))
    assert book.events() == [PLAN]
    book.close()


def test_a_run_in_the_making():
    """Finished, crashed or being measured, and not begun; the last word on a test counts."""
    found = [PLAN, Process(about={}), finish("a", at_s=5.0), Start(test="b", at_s=6.0)]
    dead, live = (assemble(found, live=alive)["attnlib"] for alive in (False, True))

    assert [row["status"] for row in dead["cases"]] == ["ok", "crashed", "interrupted"]
    assert [row["status"] for row in live["cases"]] == ["ok", "interrupted", "interrupted"]
    assert (dead["wall_s"], dead["timed_share"], dead["run"]) == (6.0, 0.5, "0123")
    again = assemble([*found, Process(about={}), finish("b", at_s=2.0), finish("ratio", at_s=3.0)])
    assert [row["status"] for row in again["attnlib"]["cases"]] == ["ok", "ok", "interrupted"]
    assert [benchmark["fullname"] for benchmark in again["benchmarks"]] == ["a", "b", "ratio"]
    assert [process["wall_s"] for process in again["attnlib"]["processes"]] == [6.0, 3.0]


def test_what_is_measured_again():
    """Interrupted tests are, crashed ones if asked, all others are not."""
    statuses = ("ok", "oom", "timeout", "unsupported", "error", "crashed", "interrupted")
    found = [PLAN, *(finish(status, status=status) for status in statuses)]

    assert set(finished(found)) == set(statuses) - {"interrupted"}
    assert set(finished(found, ("interrupted", "crashed"))) == set(statuses) - {"interrupted", "crashed"}
    assert processes(found) == []


def test_the_newest_journal_comes_first(tmp_path):
    """By the time of the last event."""
    for age, name in enumerate("abc"):
        path = tmp_path / f"{name}{SUFFIX}"
        path.write_text("")
        os.utime(path, (1000 - age, 1000 - age))

    assert [path.stem for path in journals(tmp_path)] == ["a", "b", "c"]


def test_differences_are_named():
    """Each leaf that differs, theirs first."""
    theirs = {"torch": "2.12", "cpu": {"name": "x", "n": 2}, "tests": {"a": "1"}}
    mine = {"torch": "2.13", "cpu": {"name": "x", "n": 2}, "tests": {"b": "2"}}

    assert differences(theirs, theirs) == []
    assert differences(theirs, mine) == ["torch: 2.12 | 2.13", "tests.a: 1 | absent", "tests.b: absent | 2"]


def nothing(path):
    """No note of the name."""


def save_ten(folder, token):
    for number in range(10):
        save_new(folder, "run", as_json({"token": token, "number": number}), f"{token}-{number}", nothing)


def test_concurrent_runs_take_different_numbers(tmp_path):
    """Four processes save ten runs each into one folder: forty whole files, numbered from 1, none overwritten."""
    workers = [multiprocessing.get_context("spawn").Process(target=save_ten, args=(tmp_path, str(n))) for n in range(4)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    found = {path.name: json.loads(path.read_text()) for path in tmp_path.iterdir()}

    assert sorted(found) == [f"{number:04}_run.json" for number in range(1, 41)]
    assert len({(run["token"], run["number"]) for run in found.values()}) == 40


@pytest.mark.parametrize("links", [True, False])
def test_numbers_go_on(tmp_path, monkeypatch, links):
    """The next number after the highest, beyond four digits, with hard links or without; names tried are told first."""

    def no_links(source, target):
        raise OSError(errno.EPERM, "Operation not permitted")

    if not links:
        monkeypatch.setattr(os, "link", no_links)
    (tmp_path / "9999_before.json").write_text("{}")
    tried = []
    first = save_new(tmp_path, "x", as_json({"a": 1}), "t", tried.append)
    second = save_new(tmp_path, "x", as_json({"a": 2}), "t", tried.append)

    assert [path.name for path in tried] == ["10000_x.json", "10001_x.json"]
    assert [json.loads(path.read_text()) for path in (first, second)] == [{"a": 1}, {"a": 2}]
    assert len(list(tmp_path.iterdir())) == 3


def test_a_file_is_replaced_whole_or_not_at_all(tmp_path, monkeypatch):
    """When the new content cannot be written the old one stays, and nothing is left beside it."""
    path = tmp_path / "run.json"
    save_over(path, as_json({"a": 1}), "t")

    def full(handle):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space left"):
        save_over(path, as_json({"a": 2}), "t")
    assert json.loads(path.read_text()) == {"a": 1}
    assert list(tmp_path.iterdir()) == [path]


def test_plain_is_json_and_names_what_it_nulled():
    """Numpy scalars become numbers, keys text, what is not finite null with its path, anything else its description."""
    nulled = []
    data = {
        1: np.float32(0.5),
        "n": np.int64(3),
        "x": [1.0, float("nan"), {"y": float("-inf")}],
        "p": errno,
        (1, 2): True,
    }
    made = plain(data, nulled=nulled)

    assert made == {"1": 0.5, "n": 3, "x": [1.0, None, {"y": None}], "p": repr(errno), "(1, 2)": True}
    assert nulled == ["x[1] was nan", "x[2].y was -inf"]


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
)


@given(json_values)
def test_plain_leaves_json_as_it_is(value):
    """Values that are JSON already stay the same."""
    assert plain(value) == value
