"""Status of a sweep while others work on it, and what ``attnlib sweep`` refuses."""

import pytest

from attnlib.commands.__main__ import main
from attnlib.sweep import slurm
from attnlib.sweep.folder import Sweep, Task
from attnlib.sweep.status import seconds_left, standings
from attnlib.sweep.task import TaskRun, planned

SQUEUE = """#!/bin/sh
case "$*" in *--name=attnlib-{token}*) ;; *) exit 0 ;; esac
cat <<'END'
{lines}
END
exit {code}
"""


@pytest.fixture(name="squeue")
def _squeue(tmp_path, monkeypatch):
    """Makes a ``squeue`` that answers with these lines for a sweep."""

    def make(sweep, lines, code=0):
        program = tmp_path / "bin" / "squeue"
        program.parent.mkdir(exist_ok=True)
        program.write_text(SQUEUE.format(token=sweep.asked.token, lines="\n".join(lines), code=code))
        program.chmod(0o755)
        monkeypatch.setenv("PATH", f"{program.parent}:/usr/bin:/bin")

    return make


def test_what_slurm_says_is_told_by_task(sweep, squeue):
    """Jobs of several arrays are told by their places in their own; other sweeps' jobs never."""
    begun = sweep("--cells=9", place="slurm")
    slurm.note(begun, "8", [Task(begun.folder, 1, n) for n in (1, 2, 3)])
    slurm.note(begun, "9", [Task(begun.folder, 1, 2)])
    squeue(begun, ["8|0|RUNNING|None", "8|2|PENDING|Dependency", "9|0|COMPLETING|None"])

    assert slurm.queue(begun) == {
        (1, 1): ("RUNNING", "None"),
        (1, 3): ("PENDING", "Dependency"),
        (1, 2): ("COMPLETING", "None"),
    }


def test_a_slurm_that_does_not_answer_is_said(sweep, squeue, monkeypatch):
    """In its own words."""
    begun = sweep("--cells=9", place="slurm")
    squeue(begun, [], code=1)
    with pytest.raises(ValueError, match="cannot ask Slurm: no reason given"):
        slurm.queue(begun)
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(ValueError, match="cannot ask Slurm: squeue: No such file"):
        slurm.queue(begun)


def test_states_of_tasks(sweep):
    """By files and by Slurm: planned, queued, running, stopped, done; with the cases of each."""
    begun = sweep("--cells=36", shards=6)
    assert {one.state for one in standings(begun, {}, 3)} == {"planned"}
    assert seconds_left(standings(begun, {}, 3), 1) is None
    planned(begun)
    TaskRun(Task(begun.folder, 1, 1), 3)()
    begun.asked.options.append("--dies-in=" + ",".join(f"{n:012x}" for n in range(36)))
    (begun.folder / "sweep.json").write_bytes(slurm.msgspec.json.encode(begun.asked))
    TaskRun(Task(begun.folder, 1, 2), 1)()
    queue = {(1, 3): ("RUNNING", "None"), (1, 4): ("PENDING", "Priority"), (1, 5): ("PENDING", "ReqNodeNotAvail")}
    found = standings(begun, queue, 3)

    assert [one.state for one in found] == ["done", "stopped", "running", "queued", "queued", "planned"]
    assert [one.note for one in found[2:]] == ["", "", "ReqNodeNotAvail", ""]
    assert found[1].note.startswith("died in bench/test_")
    assert [one.done for one in found] == [begun.plan.tests[0], 0, 0, 0, 0, 0]
    left = [seconds for one, seconds in zip(found, begun.plan.seconds, strict=True) if one.state != "done"]
    assert seconds_left(found, 1) == pytest.approx(sum(left))
    assert seconds_left(found, 5) == pytest.approx(max(left))
    assert str(found[1].task) == "run 1, shard 2"


def test_a_sweep_here_from_start_to_end(sweep, capsys, monkeypatch, tmp_path):
    """Begun, looked at, gone on with, merged: each command says the next one."""
    folder = tmp_path / "here"
    words = ["sweep", "--shards", "2", "--runs", "2", "--folder", str(folder), "--", "--cells=12"]
    monkeypatch.setattr("attnlib.commands.sweep.with_bench", list)
    assert main(words) == 0
    said = capsys.readouterr()
    assert said.out.splitlines()[-2:] == ["24 of 24 cases are done", f"next: attnlib merge {folder}"]
    assert f"the sweep is kept in {folder}" in said.err
    assert main(["sweep", "--status", str(folder)]) == 0
    assert "4  done      24    24" in capsys.readouterr().out
    assert main(["sweep", "--resume", str(folder)]) == 0


def test_a_part_that_is_left_is_named_and_told_by_the_exit_code(sweep, capsys, monkeypatch, tmp_path):
    """The others are measured all the same."""
    folder = tmp_path / "here"
    monkeypatch.setattr("attnlib.commands.sweep.with_bench", list)
    words = ["sweep", "--shards", "2", "--folder", str(folder), "--", "--cells=12", f"--dies-in={0:012x}"]
    assert main([*words[:5], "--attempts", "1", *words[5:]]) == 1
    said = capsys.readouterr()
    assert "was ended by signal 9" in said.err
    assert said.out.splitlines()[-1] == f"try again with: attnlib sweep --resume {folder} --attempts 4"
    assert "died in bench/test_forward.py::test_forward[seq_len=8-depth=1-pe=none]" in said.out
    assert [one.state for one in standings(Sweep(folder), {}, 1)] == ["done", "dead"]
    assert main(["sweep", "--resume", str(folder), "--attempts", "4"]) == 0
    assert all(one.state == "done" for one in standings(Sweep(folder), {}, 3))


def test_gone_on_with_from_another_folder(sweep, capsys, monkeypatch, tmp_path):
    """Paths of what is measured count from where the sweep was begun; only what is asked of jobs may change."""
    monkeypatch.setattr("attnlib.commands.sweep.with_bench", list)
    monkeypatch.chdir(tmp_path)
    assert main(["sweep", "--shards", "2", "--folder", "here", "--", "--cells=6"]) == 0
    for task in Sweep(tmp_path / "here").tasks:
        task.final.unlink()
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    assert main(["sweep", "--resume", "../here"]) == 0
    assert main(["sweep", "--resume", "../here", "--runs", "2", "--folder", "x"]) == 4
    assert "leave out --runs --folder" in capsys.readouterr().err
    assert main(["sweep", "--resume", "../here", "--sbatch", "time=5"]) == 4
    begun = sweep(place="slurm", sbatch={"time": "5"})
    begun.ask(sbatch={"time": "9"}, max_parallel=3)

    assert (Sweep(begun.folder).asked.sbatch, Sweep(begun.folder).asked.max_parallel) == ({"time": "9"}, 3)


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["--shards", "0"], "argument --shards: "),
        ([], "--shards N is needed"),
        (["--on", "pbs"], "invalid choice: 'pbs' (choose from local, slurm)"),
        (["--shards", "2", "--sbatch", "time=5"], "--sbatch, --max-parallel and --detach need --on slurm"),
        (["--shards", "2", "--benchmark-autosave"], "--benchmark-autosave is set by the sweep for each shard"),
        (["--shards", "2", "--", "--resume-from=x"], "--resume-from=x is set by the sweep for each shard"),
        (["--on", "slurm", "--shards", "2"], "no Slurm here: sbatch is not on the PATH"),
        (
            ["--on", "slurm", "--shards", "2", "--sbatch", "time"],
            "--sbatch takes KEY=VALUE such as time=60, not",
        ),
        (["--on", "slurm", "--shards", "2", "--sbatch", "job-name=x"], "--sbatch job_name is set by the sweep"),
        (
            ["--on", "slurm", "--shards", "2", "--sbatch", "t=60"],
            "takes sbatch's long names, such as time=60, not 't=60'",
        ),
        (["--shards", "2", "--run-name", "a/b"], "argument --run-name: 'a/b'"),
        (["--status", "nowhere"], "nowhere: sweep.json: No such file or directory"),
        (["--resume", "nowhere"], "nowhere: sweep.json: No such file or directory"),
        (
            ["--resume", "nowhere", "--preset", "smoke"],
            "--resume continues the sweep as it was begun; leave out --preset smoke",
        ),
    ],
)
def test_what_cannot_be_done_is_said_in_a_line(words, says, capsys, monkeypatch):
    """With a code that is not zero, and nothing begun."""
    monkeypatch.setenv("PATH", "/nowhere")
    try:
        code = main(["sweep", *words])
    except SystemExit as end:
        code = end.code
    said = capsys.readouterr()

    assert code == 4
    assert says in said.err.replace("'local', 'slurm'", "local, slurm")
    assert said.out == ""
