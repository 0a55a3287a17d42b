"""Sweeps on a real Slurm of two nodes: ``tox -e slurm``."""

import contextlib
import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from attnlib.runs.load import load
from attnlib.sweep import slurm
from attnlib.sweep.folder import Sweep
from attnlib.tests import ROOT
from attnlib.tests.plugin.sessions import measured_twice, skeleton
from attnlib.tests.sweep.cluster import Cluster, lacking

pytestmark = [pytest.mark.slurm, pytest.mark.skipif(lacking() is not None, reason=str(lacking()))]
ONE = ["--threads", "1", "-q"]
SMOKE = ["--preset", "smoke", "--visits", "1", "--budget", "0.1", *ONE]
SHORT = [
    *SMOKE,
    "--seq-lens",
    "8,16",
    "--depths",
    "1",
    "--pe",
    "none,learned",
    "--budget",
    "0.02",
    "-k",
    "forward",
    "--visits",
    "2",
]
LONG = [*SMOKE, "--budget", "1", "--precision", "0.0001", "-k", "forward or backward"]  # half a minute


@pytest.fixture(name="cluster", scope="module")
def _cluster(tmp_path_factory):
    cluster = Cluster(tmp_path_factory.mktemp("slurm"))
    try:
        cluster.start()
        print(f"Slurm's two nodes run from {cluster.folder}: {cluster.ask('sinfo', '-N', '-h', '-o', '%N %T').split()}")
        yield cluster
    finally:
        cluster.stop()


@pytest.fixture(name="attnlib")
def _attnlib(cluster, tmp_path):
    """Runs ``attnlib`` where Slurm is."""

    def run(*words, code=0):
        return ended(cluster, start(cluster, *words), code)

    return run


def ended(cluster, process, code=0):
    """Return what a command printed, once it has ended; jobs that are queued again need not wait."""
    deadline = time.monotonic() + 900  # a sweep of a minute or two, on machines whose other tests slow it down
    while True:
        try:
            out, _ = process.communicate(timeout=2)
        except subprocess.TimeoutExpired:
            assert time.monotonic() < deadline, cluster.ask("squeue", "-a")
            cluster.hasten()
        else:
            assert process.returncode == code, out + logs_of(process)
            return out


def logs_of(process):
    """Return what the jobs of a command's sweep printed, for the message of a failure."""
    folders = [word for word in map(str, process.args) if "/" in word]
    found = [path for folder in folders for path in Path(folder).glob("logs/*.out")]
    return "".join(f"\n--- {path}\n{path.read_text(errors='replace')[-6000:]}" for path in found)


def start(cluster, *words):
    """A command in a process of its own."""
    return subprocess.Popen(
        [sys.executable, "-m", "attnlib.commands", *map(str, words)],
        cwd=ROOT,
        env=cluster.environment,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # whoever started these tests may ignore it
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def sweep(folder, *more, shards=2, options=SHORT, minutes=5):
    """Words of a sweep."""
    fixed = ["--on", "slurm", "--shards", shards, "--folder", folder, "--sbatch", f"time={minutes}"]
    return ["sweep", *fixed, *more, "--", *options]


def pytests(folder):
    """Processes of pytest that measure a shard of a sweep."""
    found = []
    for process in psutil.process_iter(["cmdline"]):
        words = process.info["cmdline"] or []
        if f"--shard={folder}" in " ".join(words) and "pytest" in words:
            found.append(process)
    return found


def samples(folder):
    """Return the samples of every case that is finished, by test."""
    found = {}
    for path in (*folder.glob("run-*/*.journal"), *folder.glob("run-*/*.json")):
        for cell in load(path).cells:
            if cell.samples:
                found.setdefault(cell.test, list(cell.samples))
    return found


def merged(attnlib, folder):
    """The merged run."""
    attnlib("merge", folder, "--out", folder / "merged.json")
    return load(folder / "merged.json")


def wait_for(condition, seconds=120):
    """Wait until something holds."""
    deadline = time.monotonic() + seconds
    while not (found := condition()):
        assert time.monotonic() < deadline
        time.sleep(0.1)
    return found


def finished(run):
    """Return True if each planned case was tried: it is ``ok`` or ``unsupported``."""
    return {cell.status for cell in run.cells} <= {"ok", "unsupported"}


def test_merged_as_if_unsharded(cluster, attnlib, tmp_path):
    """A sweep on two nodes gives what one process gives: statuses, bytes, FLOPs, parameters and findings."""
    options = [*SMOKE, "-k", "train_step or rate"]
    begun = time.monotonic()
    out = attnlib(*sweep(tmp_path / "s", options=options))
    spent = time.monotonic() - begun
    run = merged(attnlib, tmp_path / "s")
    alone = tmp_path / "alone.json"
    command = [sys.executable, "-m", "pytest", "bench/", *options, f"--benchmark-json={alone}"]
    begun = time.monotonic()
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True)
    print(f"two nodes {spent:.0f} s, one process {time.monotonic() - begun:.0f} s")
    rows, sizes = skeleton(run.data)
    expected = skeleton(json.loads(alone.read_text()))
    nodes = run.data["attnlib"]["nodes"]

    assert f"next: attnlib merge {tmp_path / 's'}" in out
    assert rows == expected[0]
    assert dict(sizes) == dict(expected[1])
    assert findings(run) == findings(load(alone))
    assert nodes.keys() == {"n1", "n2"} == {cell.node for cell in run.cells}
    assert "2  done" in attnlib("sweep", "--status", tmp_path / "s")
    assert all(name in attnlib("nodes", tmp_path / "s" / "merged.json") for name in nodes)
    assert attnlib("costs", tmp_path / "s" / "merged.json", "--markdown").count("| n") > 4


def findings(run):
    """Return what checks of gradients claim of each case, with every number."""
    return {cell.case_id: cell.probe.claims if cell.probe else None for cell in run.cells}


@pytest.mark.faults
def test_killed_and_requeued(cluster, attnlib, tmp_path):
    """SIGKILL of what measures, `scontrol requeue` of a job: it goes on, nothing is lost or measured twice."""
    waiting = start(cluster, *sweep(tmp_path / "s", options=LONG))
    wait_for(lambda: len(samples(tmp_path / "s")) > 2)
    before = [samples(tmp_path / "s")]
    first, second = pytests(tmp_path / "s")
    shard = int(Path(next(word for word in second.cmdline() if "--shard" in word)).stem)
    first.kill()
    wait_for(lambda: len(samples(tmp_path / "s")) > len(before[0]) + 1)
    before.append(samples(tmp_path / "s"))
    job = slurm.jobs_of(tmp_path / "s")[-1].job
    cluster.ask("scontrol", "requeue", f"{job}_{shard - 1}")
    out = ended(cluster, waiting)
    assert "2  done" in out
    merged_run = merged(attnlib, tmp_path / "s")

    assert finished(merged_run)
    assert all(measured_twice(own, merged_run.data) == [] for own in before)


def queued(cluster, folder):
    """Return what Slurm has of a sweep."""
    os.environ["SLURM_CONF"] = cluster.environment["SLURM_CONF"]
    try:
        return slurm.queue(Sweep(folder))
    finally:
        del os.environ["SLURM_CONF"]


@pytest.mark.faults
def test_a_job_that_runs_out_of_time_is_queued_again(cluster, attnlib, tmp_path):
    """A minute a job: it is warned, finishes its file and goes on in the next; nobody has to do anything."""
    options = [*LONG, "--budget", "2", "-k", "forward"]  # on any machine longer than the 30 s until the warning
    attnlib(*sweep(tmp_path / "s", options=options, minutes=1, shards=1))
    run = merged(attnlib, tmp_path / "s")

    assert finished(run)
    assert len(run.data["attnlib"]["processes"]) > 1
    assert not any(cell.status == "crashed" for cell in run.cells)


@pytest.mark.faults
def test_a_job_that_is_killed_is_queued_again_and_one_that_is_cancelled_is_not(cluster, attnlib, tmp_path):
    """The waiting command submits what advanced once more; what somebody cancelled it leaves."""
    waiting = start(cluster, *sweep(tmp_path / "s", options=LONG, shards=1))
    wait_for(lambda: len(samples(tmp_path / "s")) > 1)
    logs = str(tmp_path / "s" / "logs")
    commands = [(process, process.info["cmdline"] or []) for process in psutil.process_iter(["cmdline"])]
    jobs = [process for process, words in commands if "submitit.core._submit" in words and logs in words]
    for process in (*jobs, *pytests(tmp_path / "s")):  # the job first, which would start pytest again
        with contextlib.suppress(psutil.NoSuchProcess):  # a child that ends with its job
            process.kill()
    wait_for(lambda: len(slurm.jobs_of(tmp_path / "s")) > 1)
    done = len(samples(tmp_path / "s"))
    wait_for(lambda: len(samples(tmp_path / "s")) > done)
    cluster.ask("scancel", "--user=root")
    out, _ = waiting.communicate(timeout=120)

    assert waiting.returncode == 1, out
    assert "1 jobs ended before their shards were done, and are queued again" in out
    assert len(slurm.jobs_of(tmp_path / "s")) == 2


@pytest.mark.faults
def test_a_node_goes_down(cluster, attnlib, tmp_path):
    """Its job starts anew on the other node, and what it had finished counts."""
    waiting = start(cluster, *sweep(tmp_path / "s", options=LONG))
    wait_for(lambda: len(samples(tmp_path / "s")) > 4)
    before = samples(tmp_path / "s")
    cluster.power_off("n2")
    try:
        ended(cluster, waiting)
    finally:
        cluster.node_up("n2")
    run = merged(attnlib, tmp_path / "s")

    assert finished(run)
    assert measured_twice(before, run.data) == []
    cluster.until(lambda: cluster.ask("sinfo", "-h", "-o", "%T").split() == ["idle"], 90)


@pytest.mark.faults
def test_two_sweeps_at_once_in_one_folder(cluster, attnlib, tmp_path):
    """The second is refused; one that goes on with the first measures nothing twice; neighbours do not mind."""
    both = [start(cluster, *sweep(tmp_path / "s")) for _ in range(2)]
    beside = start(cluster, *sweep(tmp_path / "beside"))
    wait_for(lambda: (tmp_path / "s" / "sweep.json").exists())
    again = start(cluster, "sweep", "--resume", tmp_path / "s")
    outs = [process.communicate(timeout=300)[0] for process in (*both, beside, again)]
    codes = [process.returncode for process in (*both, beside, again)]
    runs = [merged(attnlib, tmp_path / name) for name in ("s", "beside")]

    assert sorted(codes) == [0, 0, 0, 4], outs
    assert sum("holds a sweep already" in out for out in outs) == 1
    assert all(map(finished, runs))
    assert all(len(run.data["attnlib"]["processes"]) == 2 for run in runs)


@pytest.mark.faults
def test_ctrl_c_leaves_the_jobs(cluster, attnlib, tmp_path):
    """It says how to come back; they go on, and --resume waits for them again."""
    waiting = start(cluster, *sweep(tmp_path / "s"))
    wait_for(lambda: queued(cluster, tmp_path / "s") if (tmp_path / "s" / "sweep.json").exists() else None)
    time.sleep(1)
    waiting.send_signal(signal.SIGINT)
    out, _ = waiting.communicate(timeout=60)
    assert waiting.returncode == 0, out
    assert f"the jobs keep running: attnlib sweep --status {tmp_path / 's'}" in out
    attnlib("sweep", "--resume", tmp_path / "s")

    assert finished(merged(attnlib, tmp_path / "s"))
    assert len(slurm.jobs_of(tmp_path / "s")) == 1


def test_what_cannot_be_planned_is_said(cluster, attnlib, tmp_path):
    """In pytest's words, as it is where there is no cluster; and what Slurm refuses in Slurm's."""
    out = attnlib(*sweep(tmp_path / "s", options=["--preset", "smok"]), code=4)
    assert "cannot plan: unknown preset 'smok'; choose from " in out
    assert "it could not be planned: unknown preset 'smok'" in attnlib("sweep", "--status", tmp_path / "s")
    out = attnlib(*sweep(tmp_path / "other", "--sbatch", "partition=nowhere"), code=4)
    assert "Slurm refuses the jobs: " in out
    assert "partition" in out


@pytest.mark.faults
def test_a_node_that_is_not_exclusive_is_seen(cluster, attnlib, tmp_path):
    """Rows that were measured while others computed on the node are marked, in the merged run too."""
    burners = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(2 * (os.cpu_count() or 1))]
    try:
        attnlib(*sweep(tmp_path / "s"))
    finally:
        for burner in burners:
            burner.kill()
            burner.wait()
    run = merged(attnlib, tmp_path / "s")
    timed = [cell for cell in run.cells if cell.timed]

    assert sum(cell.disturbed for cell in timed) > len(timed) / 2


@pytest.mark.faults
def test_killed_ten_times_at_random(cluster, attnlib, tmp_path):
    """Whatever is struck, pytest or the job around it, nothing is lost or measured twice."""
    moments, before, table = random.Random(17), [], []
    options = [*LONG, "--budget", "3"]  # 80 seconds
    waiting = start(cluster, *sweep(tmp_path / "s", "--attempts", 99, options=options))

    def running():
        nonlocal waiting
        if waiting.poll() is not None:
            waiting.communicate()
            waiting = start(cluster, "sweep", "--resume", tmp_path / "s", "--attempts", 99)
        return pytests(tmp_path / "s")

    for number in range(10):
        victim = moments.choice(wait_for(running))
        time.sleep(moments.uniform(1, 8))
        whole = moments.random() < 0.5
        family = [victim, psutil.Process(victim.ppid())] if whole and victim.is_running() else [victim]
        for process in family:
            if process.is_running():
                process.kill()
        before.append(samples(tmp_path / "s"))
        table.append(f"kill {number + 1}: {'job' if whole else 'pytest'}, {len(before[-1])} cases had a time")
        time.sleep(1)
    waiting.communicate(timeout=300)
    wait_for(lambda: not queued(cluster, tmp_path / "s"))
    attnlib("sweep", "--resume", tmp_path / "s", "--attempts", 99)
    run = merged(attnlib, tmp_path / "s")
    twice = [test for own in before for test in measured_twice(own, run.data)]
    lost = [cell.test for cell in run.cells if cell.status not in ("ok", "unsupported")]
    print("\n".join(["", *table, f"{len(run.cells)} cases, {len(lost)} lost, {len(set(twice))} measured twice"]))

    assert (lost, twice) == ([], [])
