"""Replicates: what each process is told, what comes back, and when it stops."""

import json
import subprocess
from types import SimpleNamespace

import pytest

from attnlib.commands.__main__ import main
from attnlib.live import repeat as module
from attnlib.live.repeat import repeat
from attnlib.tests import ROOT
from attnlib.tests.runs.examples import saved


@pytest.fixture(name="pytests")
def _pytests(monkeypatch, tmp_path):
    """Fake pytest processes with given exit codes, each of which saves a run; their arguments."""

    def make(*codes):
        calls, left = [], list(codes)

        def start(command):
            calls.append(command[3:])
            folder = tmp_path / "Linux"
            folder.mkdir(exist_ok=True)
            (folder / f"{len(calls):04}_x.json").write_text("{}")
            return SimpleNamespace(wait=lambda: left.pop(0))

        monkeypatch.setattr(subprocess, "Popen", start)
        return calls

    return make


def test_ctrl_c_waits_for_the_run(monkeypatch, tmp_path):
    """The process that heard Ctrl-C too may finish its file."""
    heard = []

    def wait():
        heard.append(1)
        if len(heard) == 1:
            raise KeyboardInterrupt
        return 130

    monkeypatch.setattr(subprocess, "Popen", lambda command: SimpleNamespace(wait=wait))
    with pytest.raises(KeyboardInterrupt):
        repeat(2, [], folder=tmp_path)
    assert len(heard) == 2


def test_each_run_is_a_fresh_process_with_its_own_order(pytests, tmp_path):
    """Three processes count their order seeds up and save themselves; the files come back in order."""
    calls = pytests(0, 0, 0)
    code, saved = repeat(3, ["bench/test_forward.py", "--preset", "smoke"], folder=tmp_path)

    assert code == 0
    assert calls == [
        ["bench/test_forward.py", "--preset", "smoke", "--benchmark-autosave", f"--order-seed={n}"] for n in (1, 2, 3)
    ]
    assert [path.name for path in saved] == ["0001_x.json", "0002_x.json", "0003_x.json"]


def test_a_named_run_is_not_autosaved(pytests, tmp_path):
    """A run has one name."""
    calls = pytests(0)
    repeat(1, [], name="before", folder=tmp_path)

    assert calls == [["bench/", "--run-name=before", "--order-seed=1"]]


@pytest.mark.parametrize(("codes", "runs", "worst"), [((0, 1, 0), 3, 1), ((2, 0, 0), 1, 2), ((1, -9, 0), 2, 137)])
def test_a_failed_case_goes_on_and_an_interrupt_does_not(pytests, tmp_path, codes, runs, worst):
    """Exit code 1 is a case that failed; anything else stops; the largest is returned, 128 + signal of a killed run."""
    calls = pytests(*codes)

    assert repeat(3, [], folder=tmp_path)[0] == worst
    assert len(calls) == runs


def test_bench_is_meant_where_no_path_is_named(pytests, tmp_path):
    """Options alone go to the whole suite."""
    calls = pytests(0)
    repeat(1, ["--preset", "smoke"], folder=tmp_path)

    assert calls[0][:3] == ["bench/", "--preset", "smoke"]


@pytest.mark.parametrize("options", [["--order-seed=5", "--run-name=x"], ["--run-name", "x", "--order-seed", "5"]])
def test_options_of_the_command_line(pytests, monkeypatch, tmp_path, options):
    """Both spellings; what is not its own goes to pytest as it is."""
    calls = pytests(0, 0)
    monkeypatch.chdir(tmp_path)
    assert main(["repeat", "2", "--preset", "smoke", *options, "--pe=none"]) == 0

    assert calls == [
        [str(ROOT / "bench"), "--preset", "smoke", "--pe=none", "--run-name=x", f"--order-seed={seed}"]
        for seed in (5, 6)
    ]


def test_a_bad_name_starts_no_run(pytests):
    """It is refused here, not by each process."""
    calls = pytests()
    with pytest.raises(SystemExit):
        main(["repeat", "2", "--run-name", ".."])

    assert calls == []


def test_a_repeated_repeat_goes_on(pytests, tmp_path, capsys):
    """With ``--resume`` and a name only runs that are not saved whole are started, each with the seed that it had."""
    calls = pytests(0, 0)
    for seed, status in ((1, "ok"), (2, "interrupted")):
        run = saved(status=status)
        run["attnlib"]["order_seed"] = seed
        (tmp_path / "x").mkdir(exist_ok=True)
        (tmp_path / "x" / f"000{seed}_before.json").write_text(json.dumps(run))
    repeat(3, ["--resume"], name="before", folder=tmp_path)

    assert [call[-1] for call in calls] == ["--order-seed=2", "--order-seed=3"]
    assert "run 1 of 3 is saved already" in capsys.readouterr().out


def test_one_file_for_all_runs_is_refused(monkeypatch, capsys):
    """One line, exit code 4, nothing is started."""
    monkeypatch.setattr(module.subprocess, "Popen", None)

    assert main(["repeat", "2", "--benchmark-json=x.json"]) == 4
    err = capsys.readouterr().err
    assert "--benchmark-json names one file for all runs" in err
    assert err.count("\n") == 1


@pytest.mark.parametrize("seed", ["-1", "0", "x"])
def test_an_order_seed_is_a_positive_integer(monkeypatch, capsys, seed):
    """Exit code 4, nothing is started."""
    monkeypatch.setattr(module.subprocess, "Popen", None)
    with pytest.raises(SystemExit, match="4"):
        main(["repeat", "2", f"--order-seed={seed}"])
    assert f"argument --order-seed: takes a positive integer, not '{seed}'" in capsys.readouterr().err


def test_a_count_is_a_positive_integer(capsys):
    """Anything else is refused by name."""
    with pytest.raises(SystemExit):
        main(["repeat", "0"])
    assert "takes a positive integer, not '0'" in capsys.readouterr().err
