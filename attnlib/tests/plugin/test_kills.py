"""Minutes of faults, in processes and on a file system of their own: ``tox -e faults``."""

import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from attnlib.runs.journal import SUFFIX
from attnlib.runs.load import load
from attnlib.runs.schema import problems
from attnlib.tests import ROOT
from attnlib.tests.plugin.sessions import files, measured_twice, samples_in, skeleton

pytestmark = pytest.mark.faults
PAIRS = 15  # of kills
COMMAND = [sys.executable, "-m", "pytest", "bench/", "-q", "-p", "no:cacheprovider", "--preset=smoke"]


def sweep(folder, *options):
    """The smoke preset's whole job, in a process of its own."""
    command = [*COMMAND, f"--benchmark-storage=file://{folder}", *options]
    return subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


@pytest.fixture(name="undisturbed", scope="module")
def _undisturbed(tmp_path_factory):
    folder, start = tmp_path_factory.mktemp("undisturbed"), time.monotonic()
    process = sweep(folder, "--benchmark-autosave")
    out, _ = process.communicate()
    assert process.returncode == 0, out
    (path,) = files(folder, "")
    return skeleton(json.loads(path.read_text())), time.monotonic() - start


@pytest.mark.parametrize("seed", range(PAIRS))
def test_killed_at_random(tmp_path, undisturbed, seed):
    """SIGKILL at any moment, then again at another, then to the end: as an undisturbed run, and no case twice."""
    expected, seconds = undisturbed
    moments = random.Random(seed)
    before = []
    for options in (["--benchmark-autosave"], ["--resume", "--retry-crashed"]):
        process = sweep(tmp_path, *options)
        time.sleep(moments.uniform(0, seconds))
        process.kill()
        process.communicate()
        before.append(samples_in(tmp_path))
    process = sweep(tmp_path, "--resume", "--retry-crashed")
    out, _ = process.communicate()
    runs = [json.loads(path.read_text()) for path in files(tmp_path, ".json")]

    assert process.returncode == 0, out
    assert files(tmp_path, SUFFIX) == files(tmp_path, ".tmp") == []
    assert all(problems(run) == [] for run in runs)
    assert all(skeleton(run) == expected for run in runs)
    for samples in before:
        assert any(measured_twice(samples, run) == [] for run in runs)


@pytest.fixture(name="small_disk")
def _small_disk(tmp_path):
    """A file system of 96 KiB."""
    done = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=96k", "tmpfs", tmp_path], capture_output=True, check=False
    )
    if done.returncode:
        pytest.skip(f"cannot mount: {done.stderr.decode().strip()}")
    yield tmp_path
    subprocess.run(["umount", tmp_path], check=True)


def resume_to_the_end(folder, expected, before):
    """A resumed sweep leaves one file, as of an undisturbed run, with the samples that there were before."""
    process = sweep(folder, "--resume")
    out, _ = process.communicate()
    (path,) = files(folder, "")
    run = json.loads(path.read_text())

    assert process.returncode == 0, out
    assert skeleton(run) == expected
    assert measured_twice(before, run) == []


def test_a_full_disk(small_disk, undisturbed):
    """A sweep that outgrows its disk ends with a message and exit code 74; with more room it goes on to its end."""
    process = sweep(small_disk, "--benchmark-autosave")
    out, _ = process.communicate()
    (path,) = files(small_disk, "")
    before = samples_in(small_disk)

    assert process.returncode == 74
    assert "No space left on device" in out
    assert path.suffix == SUFFIX
    assert before
    assert problems(load(path).data) == []
    subprocess.run(["mount", "-o", "remount,size=16m", small_disk], check=True)
    resume_to_the_end(small_disk, undisturbed[0], before)


def test_a_folder_that_turns_read_only(small_disk, undisturbed):
    """A results folder that becomes read-only midway: the journal is kept, and resumes once it is writable."""
    subprocess.run(["mount", "-o", "remount,size=16m", small_disk], check=True)
    process = sweep(small_disk, "--benchmark-autosave")
    while not (found := files(small_disk, SUFFIX)) or b'"finish"' not in found[0].read_bytes():
        time.sleep(0.05)
    folder = found[0].parent
    subprocess.run(["mount", "--bind", folder, folder], check=True)  # what is open already stays as it is
    subprocess.run(["mount", "-o", "remount,bind,ro", folder], check=True)
    out, _ = process.communicate()
    subprocess.run(["umount", folder], check=True)
    before = samples_in(small_disk)

    assert process.returncode == 74
    assert "Read-only file system" in out
    assert files(small_disk, "") == found
    resume_to_the_end(small_disk, undisturbed[0], before)


def test_the_kernel_kills(tmp_path):
    """If the process dies of its memory, the case is ``crashed`` and a resumed run goes on past it."""
    options = [
        "--seq-lens=16,4096",
        "--depths=1",
        "--pe=t5",
        "--attention=math",
        "--memory-limit=none",
        "-k",
        "train_step",
    ]
    process = sweep(tmp_path, "--benchmark-autosave", *options)
    while process.poll() is None:  # what the kernel's out-of-memory killer does, at 900 MB
        pages = int(Path(f"/proc/{process.pid}/statm").read_text().split()[1])
        if pages * os.sysconf("SC_PAGE_SIZE") > 900e6:
            process.send_signal(signal.SIGKILL)
    process.communicate()
    process = sweep(tmp_path, "--resume", *options)
    out, _ = process.communicate()
    (path,) = files(tmp_path, "")
    rows = load(path).data["attnlib"]["cases"]

    assert process.returncode == 0, out
    assert sorted(row["status"] for row in rows) == ["crashed", "ok"]
    assert [row["case"]["seq_len"] for row in rows if row["status"] == "crashed"] == [4096]
