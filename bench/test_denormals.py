"""Backward pass over depth with subnormal numbers flushed to zero and kept: what vanishing gradients cost.

On the CPU, whatever device the other cases run on. The policy is set per process before the first torch operation, so
the cases run in two child processes.
"""

import pytest

from attnlib.live.process import HERE, Worker
from attnlib.live.remote import Remote, child_clock
from attnlib.measure import heap
from attnlib.plugin import over

FIXED = {"init": "linear", "pe": "none", "seq_len": 64, "device": "cpu", "dtype": "float32"}
pytestmark = pytest.mark.benchmark(timer=child_clock, group="denormals")


def points(settings):
    """Return depth x policy; with the ``linear`` initialisation gradients vanish fastest."""
    depths = (64,) if settings.preset == "smoke" else (2, 16, 32, 48, 64)
    return [{"depth": L, "denormals": policy} for L in depths for policy in ("flush", "keep")]


@pytest.fixture(name="workers", scope="session")
def _workers(settings):
    threads = [] if settings.threads is None else ["--threads", str(settings.threads)]
    started = {}

    def worker(policy):
        """Return the process of this policy; a new one if the last was killed, as when a case took too long."""
        if policy not in started or started[policy].process.poll() is not None:
            started[policy] = Worker(
                HERE, "--denormals", policy, *threads, environment=heap.variables(settings.base.heap)
            )
        return started[policy]

    yield worker
    for process in started.values():
        process.close()


@over(points, phase="backward", **FIXED)
def test_denormals(measure_case, workers, case, benchmark):
    """Times one backward pass in a child process, and counts the gradients that vanished in it."""
    remote = Remote(case, workers(case.denormals))
    measure_case(lambda _: remote)
    benchmark.extra_info["probe"] = {"counts": remote.counts()}
