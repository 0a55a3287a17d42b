"""Which run a session goes on with, what it refuses, where it saves, and what it never says."""

import json
import shutil
from pathlib import Path

import pytest

from attnlib.plugin import plan
from attnlib.plugin.plan import fingerprint
from attnlib.runs.journal import Journal, Plan, Planned
from attnlib.runs.load import load
from attnlib.runs.schema import problems
from attnlib.tests import ROOT
from attnlib.tests.plugin.sessions import CASES, files, saved, skeleton


def test_other_plans_and_code_are_refused_where_named(sessions, struck, tmp_path):
    """``--resume-from`` of another plan says what differs, changes nothing, and ends with exit code 4."""
    struck("journalled", tmp_path)
    (path,) = files(tmp_path, ".journal")
    before = path.read_bytes()
    for options, message in (
        (["--budget=0.03"], "settings.budget: 0.02 | 0.03"),
        (["--d-model=64"], "settings.base.d_model: 32 | 64"),
        (["-k", "none"], "tests.bench/test_"),
    ):
        done = sessions(f"--resume-from={path}", *options, folder=tmp_path)
        assert done.code == 4
        assert f"cannot resume {path}: it differs, journal | now: " in done.out
        assert message in done.out
    assert path.read_bytes() == before
    done = sessions("--resume-from", str(tmp_path / "none.journal"), folder=tmp_path)
    assert done.code == 4
    assert "No such file or directory" in done.out


def test_other_plans_are_in_nobodys_way(sessions, struck, tmp_path):
    """``--resume`` goes on with a run of its own plan only; without one it begins one, and the others stay."""
    struck("journalled", tmp_path)
    (path,) = files(tmp_path, ".journal")
    before = path.read_bytes()
    done = sessions("--resume", "--d-model=64", folder=tmp_path)

    assert done.code == 0
    assert "no unfinished run of this plan in" in done.out
    assert path.read_bytes() == before
    assert len(files(tmp_path, ".json")) == 1


@pytest.mark.parametrize("target", ["--run-name={}", "--benchmark-json={}.json"])
def test_another_name_is_another_run(sessions, tmp_path, target):
    """A run that is given a name goes on under that name only; without one it goes on under the name that it has."""
    before, after = (target.format(tmp_path / "x" / name if "json" in target else name) for name in ("before", "after"))
    (tmp_path / "x").mkdir()
    sessions(before, folder=tmp_path, fault="journalled")
    (path,) = files(tmp_path, ".journal")
    done = sessions("--resume", after, folder=tmp_path)

    assert done.code == 0
    assert "no unfinished run of this plan in" in done.out
    assert "a new one begins" in done.out
    assert path.exists()
    refused = sessions(f"--resume-from={path}", after, folder=tmp_path)
    assert refused.code == 4
    assert "name: before | after" in refused.out
    assert sessions("--resume", before, folder=tmp_path).code == 0
    assert not path.exists()


def test_a_numbered_and_a_named_file_are_resumed_together(sessions, undisturbed, tmp_path):
    """An autosaved run has the time in its name, which the file beside it does not change."""
    named = tmp_path / "named.json"
    options = ["--benchmark-autosave", f"--benchmark-json={named}"]
    sessions(*options, folder=tmp_path / "runs", fault="journalled")
    done = sessions("--resume", *options, folder=tmp_path / "runs")

    assert "goes on with a run of which 2 tests are done" in done.out
    assert skeleton(json.loads(named.read_text())) == undisturbed
    assert skeleton(saved(tmp_path / "runs")) == undisturbed


def test_an_unreadable_journal_is_said(sessions, struck, tmp_path):
    """It may be the run that was meant: a new one begins, and the line says that there is another."""
    struck("journalled", tmp_path)
    (path,) = files(tmp_path, ".journal")
    path.write_bytes(b"{}\n" + path.read_bytes())
    done = sessions("--resume", folder=tmp_path)

    assert done.code == 0
    assert "(of 1 others --resume-from says why not): a new one begins" in done.out


def test_a_run_may_go_on_elsewhere():
    """Node, affinity and card are each process's own; versions, code and kind of machine must agree."""
    ours = {"device": {"name": "A", "uuid": "GPU-1"}, "affinity": [0, 1], "memory_bytes": 1, "environment": {}}
    here = {"node": "n1", "cpu": {"brand_raw": "x"}, "attnlib": ours | {"python": "3.11"}}
    there = {**here, "node": "n2", "attnlib": here["attnlib"] | {"affinity": [2], "device": {"name": "A", "uuid": "G"}}}
    other = {**here, "attnlib": here["attnlib"] | {"device": {"name": "B", "uuid": "GPU-1"}}}

    assert fingerprint(here) == fingerprint(there)
    assert fingerprint(here) != fingerprint(other)


def test_code_counts_where_it_decides_a_number(monkeypatch, tmp_path):
    """Code that measures counts always, checks of gradients if some are planned, and tables and commands never."""
    shutil.copytree(ROOT / "attnlib", tmp_path / "attnlib", ignore=shutil.ignore_patterns("tests", "__pycache__"))
    monkeypatch.setattr(plan, "PACKAGE", tmp_path / "attnlib")
    ours = {"device": {"name": "A"}, "environment": {}}

    def agreed(phase):
        planned = Planned(test="t", case={"case": {"phase": phase}, "case_id": "c"})
        kind = plan.fingerprint({"attnlib": ours})
        whole = Plan(run="a", name="n", fingerprint=kind, settings={}, head={}, ours={}, tests=[planned])
        return plan.agreement(whole)

    def change(place):
        before = {phase: agreed(phase) for phase in ("forward", "rate", "learn")}
        path = tmp_path / "attnlib" / place
        path.write_text(path.read_text() + "\n")
        return [phase for phase in before if agreed(phase) != before[phase]]

    assert agreed("a phase of another version")  # whose journal may lie beside ours
    assert change("measure/clock.py") == change("plugin/measuring.py") == ["forward", "rate", "learn"]
    assert change("gradients/claims.py") == ["rate"]
    assert change("learning/training.py") == ["learn"]
    assert change("commands/trust.py") == change("show/costs.py") == change("plugin/screen.py") == []


def test_processes_say_where_they_ran(sessions, struck, undisturbed, tmp_path):
    """Each process of a resumed run has its node, affinity and load in the file, which has the time of its saving."""
    struck("journalled", tmp_path)
    sessions("--resume", folder=tmp_path)
    run = saved(tmp_path)
    about = run["attnlib"]["processes"]

    assert len(about) == 2
    assert run["datetime"] > about[1]["started"]
    assert all({"node", "affinity", "uuid", "load_average", "started", "command", "wall_s"} <= set(p) for p in about)
    assert len(load(files(tmp_path, ".json")[0]).machines) == 1


def test_a_live_run_is_left_alone(sessions, struck, undisturbed, tmp_path):
    """The journal of another process is not resumed; of another plan, it is in nobody's way."""
    struck("journalled", tmp_path)
    (path,) = files(tmp_path, ".journal")
    book = Journal(path)
    refused = sessions("--resume", folder=tmp_path)
    other = sessions("--resume", "--d-model=64", folder=tmp_path)
    book.close()

    assert refused.code == 4
    assert "is being written by another process" in refused.out
    assert other.code == 0
    assert "a new one begins" in other.out
    assert sessions("--resume", folder=tmp_path).code == 0
    assert [skeleton(json.loads(path.read_text())) == undisturbed for path in files(tmp_path, ".json")] == [False, True]


def test_a_journal_can_be_named(sessions, struck, undisturbed, tmp_path):
    """``--resume-from`` goes on with an older journal, and the newer one stays."""
    struck("journalled", tmp_path)
    sessions("--benchmark-autosave", folder=tmp_path, fault="journalled")
    older = min(files(tmp_path, ".journal"), key=lambda path: path.stat().st_mtime)

    assert sessions("--resume-from", str(older), folder=tmp_path).code == 0
    assert not older.exists()
    assert len(files(tmp_path, ".journal")) == 1
    (path,) = files(tmp_path, ".json")
    assert skeleton(json.loads(path.read_text())) == undisturbed


def test_crashed_cases_are_retried_when_resumed_only(sessions, tmp_path):
    """``--retry-crashed`` alone is refused."""
    done = sessions("--retry-crashed", folder=tmp_path)

    assert done.code == 4
    assert "--retry-crashed needs --resume" in done.out


def test_nothing_to_resume(sessions, undisturbed, tmp_path):
    """``--resume`` without an unfinished run begins one, so that a script may always say it."""
    done = sessions("--resume", folder=tmp_path)

    assert done.code == 0
    assert "no unfinished run of this plan in" in done.out
    assert skeleton(saved(tmp_path)) == undisturbed


def test_unfinished_runs_are_read(struck, tmp_path):
    """A journal loads as a run: what is finished, what crashed, what is left."""
    struck("measured", tmp_path)
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


@pytest.mark.parametrize("option", ["--benchmark-skip", "--benchmark-disable", "--collect-only", "-k=nothing"])
def test_sessions_that_measure_nothing_save_nothing(sessions, tmp_path, option):
    """No journal, no file."""
    done = sessions("--benchmark-autosave", option, folder=tmp_path)

    assert done.code in (0, 5)
    assert files(tmp_path, "") == []


def test_the_first_failure_may_end_a_session(sessions, tmp_path):
    """With ``-x`` the rest is left, and a resumed session measures it but fails all the same."""
    done = sessions("--benchmark-autosave", "-x", folder=tmp_path, fault="not a number")
    resumed = sessions("--resume", folder=tmp_path)
    statuses = [row["status"] for row in saved(tmp_path)["attnlib"]["cases"]]

    assert (done.code, resumed.code) == (1, 1)
    assert "go on with --resume" in done.out
    assert sorted(statuses) == ["error", "ok", "ok", "unsupported"]


@pytest.mark.parametrize(("fault", "visits"), [("device lost", "1"), ("device lost in a visit", "2")])
def test_a_lost_device_ends_the_session_and_a_new_process_goes_on(sessions, tmp_path, fault, visits):
    """After an error that stays only the case that met it is an error; the session says so and ``--resume`` goes on."""
    options = ("--benchmark-autosave", "--visits", visits)
    done = sessions(*options, folder=tmp_path, fault=fault)
    resumed = sessions(*options, "--resume", folder=tmp_path)
    statuses = [row["status"] for row in saved(tmp_path)["attnlib"]["cases"]]

    assert (done.code, resumed.code) == (2, 1)
    assert "nothing runs on cpu any more: CUDA error: an illegal memory access was encountered; --resume" in done.out
    assert sorted(statuses) == ["error", "ok", "ok", "unsupported"]


def test_credentials_are_not_saved(sessions, tmp_path):
    """Neither the environment nor unknown options nor folders reach a journal or a file."""
    secret = "hunter2hunter2"
    environment = {"API_TOKEN": secret, "PYTEST_ADDOPTS": f"-o junit_suite_name={secret}"}
    options = {"folder": tmp_path / secret, "environment": environment}
    done = sessions("--benchmark-autosave", f"--rootdir={ROOT}", **options)
    sessions("--benchmark-autosave", fault="journalled", **options)
    found = files(tmp_path / secret, "")

    assert done.code == 0
    assert {path.suffix for path in found} == {".json", ".journal"}
    assert not any(secret in path.read_text() for path in found)
    assert not any(str(folder) in path.read_text() for path in found for folder in (tmp_path, ROOT, Path.home()))


def test_only_files_are_saved_to(sessions, tmp_path):
    """Another storage of pytest-benchmark's, which may name a password, is refused without repeating it."""
    done = sessions("--benchmark-storage=elasticsearch+https://me:hunter2@host/index", folder=tmp_path)

    assert done.code == 4
    assert "--benchmark-storage takes file://FOLDER here" in done.out
    assert "hunter2" not in done.out
