"""Vanishing costs time: the backward pass over depth with subnormal numbers flushed to zero and kept.

The policy is set per process before the first torch operation, so each case runs in a child process of its own.
"""

import pytest

from bench.worker import Remote, child_clock

fixed = {"phase": "backward", "init": "linear", "pe": "none", "seq_len": 64}
pytestmark = pytest.mark.benchmark(timer=child_clock, group="denormals")


def rows(settings):
    """Depth x policy; ``linear`` initialisation dies fastest."""
    depths = (64,) if settings.preset == "smoke" else (2, 16, 32, 48, 64)
    return [{"depth": L, "denormals": policy} for L in depths for policy in ("flush", "keep")]


def test_denormals(measure):
    """Times one backward pass in a child process."""
    workers = []

    def remote(case):
        workers.append(Remote(case))
        return workers[0]

    try:
        measure(remote)
    finally:
        for worker in workers:
            worker.close()
