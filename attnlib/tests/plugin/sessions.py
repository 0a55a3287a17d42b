"""Sessions of the suite in forks of one process, which imports and asks once; each may be struck by a fault.

``python -m attnlib.tests.plugin.sessions`` serves: a JSON line ``{"args", "fault", "environment", "out"}`` asks for
a session, and ``{"code"}`` answers, negative for a signal. ``Sessions`` is the near end.
"""

import copy
import gc
import json
import os
import signal
import subprocess
import sys
from typing import NamedTuple

from attnlib.runs.load import load
from attnlib.runs.schema import problems
from attnlib.tests import ROOT

TESTS = ["bench/test_forward.py", "bench/test_encodings.py"]
SMALL = [
    "--preset",
    "smoke",
    "--seq-lens",
    "8",
    "--depths",
    "1",
    "--pe",
    "none,learned",
    "--budget",
    "0.02",
    "--visits",
    "1",
]
CASES = 4  # of these, one of them unsupported


class Done(NamedTuple):
    """How a session ended: exit code (128 + signal where it was killed) and everything that it printed."""

    code: int
    out: str


class Sessions:
    """Runs sessions one after another; a context manager.

    Args:
        folder: for what they print.
        checkout: whose code and tests they run.
    """

    def __init__(self, folder, checkout=ROOT):
        self.log = folder / "out.txt"
        self.process = subprocess.Popen(
            [sys.executable, "-m", "attnlib.tests.plugin.sessions"],
            cwd=checkout,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=os.environ | {"OPENBLAS_NUM_THREADS": "1", "PYTHONWARNINGS": "ignore"},
        )

    def __call__(self, *options, folder, fault=None, tests=TESTS, small=SMALL, environment=None):
        """One session that saves in ``folder``, with variables beside those of this process."""
        args = [
            *tests,
            *small,
            "-q",
            "-p",
            "no:cacheprovider",
            "-p",
            "no:hypothesispytest",
            "-p",
            "no:anyio",
            "-W",
            "error",
            "-W",
            "default::pytest_benchmark.logger.PytestBenchmarkWarning",  # the plugin's words are for the user
            "-W",
            "ignore:Benchmark fixture was not used:pytest_benchmark.logger.PytestBenchmarkWarning",  # as in tox.ini
            "-W",
            "ignore::pytest.PytestAssertRewriteWarning",  # this package is a plugin, and imported already
            f"--benchmark-storage=file://{folder}",
            *options,
        ]
        self.process.stdin.write(
            json.dumps({"args": args, "fault": fault, "environment": environment or {}, "out": str(self.log)}) + "\n"
        )
        self.process.stdin.flush()
        code = json.loads(self.process.stdout.readline())["code"]
        return Done(code if code >= 0 else 128 - code, self.log.read_text())

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.communicate()


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
    """Return what does not depend on time: every case with its status, and bytes and costs of those with a time."""
    run = copy.deepcopy(run)
    for row in run["benchmarks"]:
        row["extra_info"]["cost"].pop("floor_s")  # at ceilings that are read
    rows = {row["test"]: (row["case_id"], row["status"], row["reason"]) for row in run["attnlib"]["cases"]}
    sizes = {
        row["fullname"]: (row["extra_info"]["case"], row["extra_info"]["memory"], row["extra_info"]["cost"])
        for row in run["benchmarks"]
    }
    return list(rows.items()), list(sizes.items())


def measured_twice(before, run):
    """Tests whose samples changed since they were finished; later visits of a case add to them."""
    after = {row["fullname"]: row["stats"]["data"] for row in run["benchmarks"]}
    return [test for test, samples in before.items() if after[test][: len(samples)] != samples]


def samples_in(folder):
    """Samples of every finished test, by journal or file."""
    found = {}
    for path in files(folder, ".journal") or files(folder, ".json"):
        found |= {cell.test: list(cell.samples) for cell in load(path).cells if cell.samples}
    return found


def hurry():
    """Read ceilings and canary on small tensors, wait for no quiet moment, and train in one process.

    No test here looks at what they say, nor at how many trainings there are at once.
    """
    from attnlib.learning import trainers
    from attnlib.measure import canary, ceilings  # torch, which conftest.py must not import: it sets threads first

    ceilings.COPIES, ceilings.ENOUGH = (2**12, 2**16, 2**20), 0.0
    canary.TRAFFIC, canary.PATIENCE = 2**20, 0.05
    trainers.usable_cpus = lambda: 1


def serve():
    """Fork a session for every line."""
    import pdb  # noqa: F401

    import cpuinfo
    import execnet  # noqa: F401
    import pytest
    import pytest_benchmark.plugin
    import pytest_benchmark.storage.file
    import scipy.special  # noqa: F401
    from _pytest.config import get_config

    import attnlib.plugin.preview
    import attnlib.plugin.saving
    import attnlib.sweep.folder  # noqa: F401
    from attnlib.cases.case import Case
    from attnlib.predict.peak import need
    from attnlib.tests.plugin.faults import FAULTS

    # imports what torch imports late; without a backward pass, whose threads would not survive a fork
    need(Case(phase="forward", seq_len=8))
    signal.signal(signal.SIGINT, signal.default_int_handler)  # whatever started these tests may have ignored them
    for signum in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(signum, signal.SIG_DFL)
    known = cpuinfo.get_cpu_info()
    pytest_benchmark.plugin.get_cpu_info = lambda: known
    commit = pytest_benchmark.utils.get_commit_info()
    for module in (pytest_benchmark.plugin, pytest_benchmark.utils):
        module.get_commit_info = lambda project_name=None: dict(commit)
    hurry()
    get_config()  # imports pytest's own plugins
    gc.freeze()  # collections in the forks need not walk all of torch
    for line in sys.stdin:
        request = json.loads(line)
        child = os.fork()
        if child == 0:
            handle = os.open(request["out"], os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
            os.dup2(handle, 1)
            os.dup2(handle, 2)
            os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
            os.environ.update(request["environment"])
            sys.path[:0] = request["environment"].get("PYTHONPATH", "").split()
            if request["fault"]:
                FAULTS[request["fault"]]()
            code = pytest.main(request["args"])
            sys.stdout.flush()
            os._exit(int(code))
        _, status = os.waitpid(child, 0)
        print(json.dumps({"code": os.waitstatus_to_exitcode(status)}), flush=True)


if __name__ == "__main__":
    serve()
