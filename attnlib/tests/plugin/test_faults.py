"""Sessions that are killed, interrupted, starved and resumed: nothing that was finished is lost or measured twice."""

import math

import pytest

from attnlib.runs.load import load
from attnlib.runs.schema import problems
from attnlib.tests.plugin.sessions import CASES, files, measured_twice, samples_in, saved, skeleton

NOTHING_YET = ("planned",)  # boundaries before the first finished test


@pytest.mark.parametrize(
    "boundary", ["planned", "started", "measured", "cut short", "journalled", "temporary file", "linked"]
)
def test_killed_at_a_boundary(sessions, undisturbed, tmp_path, boundary):
    """After SIGKILL anywhere a resumed run is as an undisturbed one, and what was finished is not measured again."""
    assert sessions("--benchmark-autosave", folder=tmp_path, fault=boundary).code == 128 + 9
    before = samples_in(tmp_path)
    done = sessions("--resume", "--retry-crashed", folder=tmp_path)
    run = saved(tmp_path)

    assert done.code == 0, done.out
    assert skeleton(run) == undisturbed
    assert measured_twice(before, run) == []
    assert bool(before) == (boundary not in NOTHING_YET)
    assert {row["process"] for row in run["attnlib"]["cases"]} <= {0, 1}
    assert len(run["attnlib"]["processes"]) == 1 + (boundary not in NOTHING_YET)


def test_crashed_cases_are_not_tried_again(sessions, struck, tmp_path):
    """The case in which the process died is ``crashed``, and the others are measured."""
    struck("measured", tmp_path)
    done = sessions("--resume", folder=tmp_path)
    statuses = [row["status"] for row in saved(tmp_path)["attnlib"]["cases"]]

    assert done.code == 0
    assert statuses.count("crashed") == 1
    assert statuses.count("ok") + statuses.count("unsupported") == CASES - 1
    assert "crashed: bench/test_" in done.out


@pytest.mark.parametrize(
    ("name", "code"), [("SIGINT", 130), ("SIGTERM", 143), pytest.param("SIGHUP", 129, marks=pytest.mark.faults)]
)
def test_interrupts_leave_a_file_and_a_way_on(sessions, undisturbed, tmp_path, name, code):
    """A signal finishes the file with what is complete, marks the case in which it came, and the run can go on."""
    done = sessions("--benchmark-autosave", folder=tmp_path, fault=name)
    (path,) = files(tmp_path, ".json")
    rows = load(path).data["attnlib"]["cases"]
    (struck,) = [row for row in rows if "partial" in row]

    assert done.code == code
    assert "go on with --resume" in done.out
    assert struck["status"] == "interrupted"
    assert "the run ended in it" in struck["reason"]
    assert len(struck["partial"]["samples"]) == 2
    before = samples_in(tmp_path)
    assert sessions("--resume", folder=tmp_path).code == 0
    assert files(tmp_path, "") == [path]  # the same file, complete
    assert skeleton(saved(tmp_path)) == undisturbed
    assert measured_twice(before, saved(tmp_path)) == []


@pytest.mark.parametrize("fault", ["SIGTERM in fsync", "SIGTERM twice"])
def test_signals_while_something_is_written(sessions, undisturbed, tmp_path, fault):
    """A signal in the middle of a line of the journal, or a second one while saving, loses nothing either."""
    done = sessions("--benchmark-autosave", folder=tmp_path, fault=fault)
    (path,) = files(tmp_path, ".json")
    before = samples_in(tmp_path)

    assert done.code == 143
    assert "Traceback" not in done.out
    assert problems(load(path).data) == []
    assert len(before) == (2 if fault == "SIGTERM in fsync" else 1)
    assert sessions("--resume", folder=tmp_path).code == 0
    assert skeleton(saved(tmp_path)) == undisturbed
    assert measured_twice(before, saved(tmp_path)) == []


@pytest.mark.parametrize(
    ("fault", "message"),
    [
        ("disk full", "No space left on device"),
        pytest.param("disk full at the end", "No space left on device", marks=pytest.mark.faults),
        pytest.param("read-only", "Read-only file system", marks=pytest.mark.faults),
    ],
)
def test_a_run_that_cannot_be_saved_is_kept(sessions, undisturbed, tmp_path, fault, message):
    """A clear message, a nonzero exit code, no half-written file, and the journal resumes once there is room."""
    done = sessions("--benchmark-autosave", folder=tmp_path, fault=fault)
    (path,) = files(tmp_path, "")

    assert done.code == 74
    assert message in done.out
    assert "Traceback" not in done.out
    assert path.suffix == ".journal"
    before = samples_in(tmp_path)
    assert sessions("--resume", folder=tmp_path).code == 0
    assert skeleton(saved(tmp_path)) == undisturbed
    assert measured_twice(before, saved(tmp_path)) == []


def test_a_results_folder_that_is_deleted_meanwhile(sessions, undisturbed, tmp_path):
    """The run is saved all the same: the open journal holds it."""
    assert sessions("--benchmark-autosave", folder=tmp_path / "runs", fault="folder removed").code == 0
    assert skeleton(saved(tmp_path / "runs")) == undisturbed


def test_memory_that_ends(sessions, undisturbed, tmp_path):
    """An allocator's refusal is a row ``oom``; the next cases have the same bytes as without it."""
    done = sessions("--benchmark-autosave", folder=tmp_path, fault="out of memory")
    run = saved(tmp_path)
    rows, sizes = skeleton(run)
    (row,) = [row for row in run["attnlib"]["cases"] if row["status"] == "oom"]

    assert done.code == 0
    assert "can't allocate memory" in row["reason"]
    assert 0 < row["predicted_bytes"] < row["available_bytes"]
    assert len(row["partial"]["samples"]) == 2
    assert len(rows) == CASES
    assert [size for size in undisturbed[1] if size[0] != row["test"]] == sizes


def test_time_that_ends(sessions, tmp_path):
    """A case beyond ``--case-timeout`` is ``timeout``, with the rounds that it had, and the others are measured."""
    done = sessions("--benchmark-autosave", "--case-timeout=2", folder=tmp_path, fault="too long")
    run = saved(tmp_path)
    (row,) = [row for row in run["attnlib"]["cases"] if row["status"] == "timeout"]

    assert done.code == 0
    assert row["reason"] == "it took longer than 2 s"
    assert len(row["partial"]["samples"]) == 2
    assert row["partial"]["extra_info"]["time"]["first_call_s"] > 0
    assert len(run["benchmarks"]) == CASES - 2  # and one that is unsupported


def test_a_clock_that_gives_no_number(sessions, tmp_path):
    """A sample that is not finite makes its case an error, with null for it, and loses nothing else."""
    done = sessions("--benchmark-autosave", folder=tmp_path, fault="not a number")
    run = saved(tmp_path)
    (row,) = [row for row in run["attnlib"]["cases"] if row["status"] == "error"]

    assert done.code == 1
    assert "samples are not finite" in row["reason"]
    assert None in row["partial"]["samples"]
    assert len(run["benchmarks"]) == CASES - 2
    assert math.isfinite(run["attnlib"]["timed_share"])


def test_errors_of_an_earlier_process_count(sessions, tmp_path):
    """A resumed session fails if an earlier one had an error, although its own tests passed."""
    sessions("--benchmark-autosave", folder=tmp_path, fault="not a number, then killed")
    done = sessions("--resume", "--retry-crashed", folder=tmp_path)

    assert done.code == 1
    assert "samples are not finite" in done.out
    assert [row["status"] for row in saved(tmp_path)["attnlib"]["cases"]].count("error") == 1


def test_a_predicted_lack_of_memory(sessions, tmp_path):
    """A case that cannot fit is a row ``oom`` with predicted and available bytes, and is not tried."""
    done = sessions("--benchmark-autosave", "--memory-limit=30KiB", folder=tmp_path)
    rows = [row for row in saved(tmp_path)["attnlib"]["cases"] if row["status"] == "oom"]

    assert done.code == 0
    assert rows
    assert all(row["available_bytes"] == 30 * 2**10 < row["predicted_bytes"] for row in rows)
    assert "predicted to need" in rows[0]["reason"]
