"""Sessions that are killed, interrupted, starved and resumed: nothing that was finished is lost or measured twice."""

import json
import math
from pathlib import Path

import pytest

from attnlib.runs.load import load
from attnlib.runs.schema import problems
from attnlib.tests.sessions import CASES, Sessions

NOTHING_YET = ("planned",)  # boundaries before the first finished test
IN_A_TEST = ("started", "measured", "cut short")  # boundaries at which a test was running


@pytest.fixture(name="undisturbed", scope="module")
def _undisturbed(sessions, tmp_path_factory):
    folder = tmp_path_factory.mktemp("undisturbed")
    assert sessions("--benchmark-autosave", folder=folder).code == 0
    return skeleton(saved(folder))


def files(folder, ending):
    return sorted(path for path in folder.rglob(f"*{ending}") if path.is_file())


def saved(folder):
    """The one final file, which must be a good run, and with nothing beside it."""
    (path,) = files(folder, "")
    run = json.loads(path.read_text())
    assert path.suffix == ".json"
    assert problems(run) == []
    return run


def skeleton(run):
    """What does not depend on time: every case with its status, and for those with a time its bytes and costs."""
    rows = {row["test"]: (row["case_id"], row["status"], row["reason"]) for row in run["attnlib"]["cases"]}
    sizes = {
        row["fullname"]: (row["extra_info"]["case"], row["extra_info"]["memory"], row["extra_info"]["cost"])
        for row in run["benchmarks"]
    }
    return list(rows.items()), list(sizes.items())


def measured_twice(before, run):
    """Tests whose samples changed since they were finished."""
    after = {row["fullname"]: row["stats"]["data"] for row in run["benchmarks"]}
    return [test for test, samples in before.items() if after[test] != samples]


def samples_in(folder):
    """Samples of every finished test, by journal or file."""
    found = {}
    for path in files(folder, ".journal") or files(folder, ".json"):
        found |= {cell.test: list(cell.samples) for cell in load(path).cells if cell.samples}
    return found


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


@pytest.mark.parametrize("boundary", IN_A_TEST)
def test_crashed_cases_are_not_tried_again(sessions, tmp_path, boundary):
    """The case in which the process died is ``crashed``, and the others are measured."""
    sessions("--benchmark-autosave", folder=tmp_path, fault=boundary)
    done = sessions("--resume", folder=tmp_path)
    statuses = [row["status"] for row in saved(tmp_path)["attnlib"]["cases"]]

    assert done.code == 0
    assert statuses.count("crashed") == 1
    assert statuses.count("ok") + statuses.count("unsupported") == CASES - 1
    assert "crashed: bench/test_" in done.out


@pytest.mark.parametrize(("name", "code"), [("SIGINT", 130), ("SIGTERM", 143), ("SIGHUP", 129)])
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


@pytest.mark.parametrize(
    ("fault", "message"),
    [
        ("disk full", "No space left on device"),
        ("disk full at the end", "No space left on device"),
        ("read-only", "Read-only file system"),
    ],
)
def test_a_run_that_cannot_be_saved_is_kept(sessions, undisturbed, tmp_path, fault, message):
    """A clear message, a nonzero exit code, no half-written file, and the journal resumes once there is room."""
    done = sessions("--benchmark-autosave", folder=tmp_path, fault=fault)
    (path,) = files(tmp_path, "")

    assert done.code == 2
    assert message in done.out
    assert "Traceback" not in done.out
    assert path.suffix == ".journal"
    before = samples_in(tmp_path)
    assert sessions("--resume", "--retry-crashed", folder=tmp_path).code == 0
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
    assert len(row["partial"]["samples"]) == 2
    assert len(rows) == CASES
    assert [size for size in undisturbed[1] if size[0] != row["test"]] == sizes


def test_time_that_ends(sessions, tmp_path):
    """A case beyond ``--case-timeout`` is ``timeout``, with the rounds that it had, and the others are measured."""
    done = sessions("--benchmark-autosave", "--case-timeout=1.5", folder=tmp_path, fault="too long")
    run = saved(tmp_path)
    (row,) = [row for row in run["attnlib"]["cases"] if row["status"] == "timeout"]

    assert done.code == 0
    assert row["reason"] == "it took longer than 1.5 s"
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


def test_other_plans_machines_and_code_are_refused(sessions, tmp_path):
    """``--resume`` of another plan says what differs, changes nothing, and ends with exit code 4."""
    sessions("--benchmark-autosave", folder=tmp_path, fault="journalled")
    (path,) = files(tmp_path, ".journal")
    before = path.read_bytes()
    for options, message in (
        (["--budget=0.03"], "settings.budget: 0.02 | 0.03"),
        (["--threads=1"], "fingerprint.threads: "),
        (["--d-model=64"], "settings.base.d_model: 32 | 64"),
        (["-k", "none"], "tests.bench/test_"),
    ):
        done = sessions("--resume", *options, folder=tmp_path)
        assert done.code == 4
        assert f"cannot resume; journal | now: {path}: " in done.out
        assert message in done.out
    assert path.read_bytes() == before
    done = sessions("--resume-from", str(tmp_path / "none.journal"), folder=tmp_path)
    assert done.code == 4
    assert "No such file or directory" in done.out


def test_a_journal_can_be_named(sessions, undisturbed, tmp_path):
    """``--resume-from`` goes on with an older journal, and the newer one stays."""
    for _ in range(2):
        sessions("--benchmark-autosave", folder=tmp_path, fault="journalled")
    older = min(files(tmp_path, ".journal"), key=lambda path: path.stat().st_mtime)

    assert sessions("--resume-from", str(older), folder=tmp_path).code == 0
    assert not older.exists()
    assert len(files(tmp_path, ".journal")) == 1
    (path,) = files(tmp_path, ".json")
    assert skeleton(json.loads(path.read_text())) == undisturbed


def test_nothing_to_resume(sessions, undisturbed, tmp_path):
    """``--resume`` without an unfinished run begins one, so that a script may always say it."""
    done = sessions("--resume", folder=tmp_path)

    assert done.code == 0
    assert "no unfinished run in" in done.out
    assert skeleton(saved(tmp_path)) == undisturbed


def test_unfinished_runs_are_read(sessions, tmp_path):
    """A journal loads as a run: what is finished, what crashed, what is left."""
    sessions("--benchmark-autosave", folder=tmp_path, fault="measured")
    (path,) = files(tmp_path, ".journal")
    run = load(path)
    statuses = sorted(cell.status for cell in run.cells)

    assert len(statuses) == CASES
    assert statuses.count("crashed") == 1
    assert statuses.count("interrupted") == CASES - 2
    assert problems(run.data) == []


def test_one_file_may_be_named(sessions, undisturbed, tmp_path):
    """With ``--benchmark-json`` the journal lies beside that file, which is replaced whole or not at all."""
    path = tmp_path / "out" / "run.json"
    path.parent.mkdir()
    path.write_text("before")
    options = [f"--benchmark-json={path}"]
    assert sessions(*options, folder=tmp_path / "x", fault="temporary written").code == 128 + 9
    assert path.read_text() == "before"
    assert sessions(*options, "--resume", folder=tmp_path / "x").code == 0
    assert skeleton(json.loads(path.read_text())) == undisturbed
    assert [p.name for p in path.parent.iterdir()] == ["run.json"]


def test_credentials_are_not_saved(sessions, tmp_path, monkeypatch):
    """Neither the environment nor unknown options nor folders reach a journal or a file."""
    secret = "hunter2hunter2"
    monkeypatch.setenv("API_TOKEN", secret)
    monkeypatch.setenv("PYTEST_ADDOPTS", f"-o junit_suite_name={secret}")
    with Sessions(tmp_path) as own:
        done = own("--benchmark-autosave", f"--rootdir={Path(__file__).parents[2]}", folder=tmp_path / secret)
        own("--benchmark-autosave", folder=tmp_path / secret, fault="journalled")
    found = files(tmp_path / secret, "")

    assert done.code == 0
    assert {path.suffix for path in found} == {".json", ".journal"}
    assert not any(secret in path.read_text() for path in found)
    assert not any(str(tmp_path) in path.read_text() for path in found)


def test_only_files_are_saved_to(sessions, tmp_path):
    """Another storage of pytest-benchmark's, which may name a password, is refused without repeating it."""
    done = sessions("--benchmark-storage=elasticsearch+https://me:hunter2@host/index", folder=tmp_path)

    assert done.code == 4
    assert "--benchmark-storage takes file://FOLDER here" in done.out
    assert "hunter2" not in done.out
