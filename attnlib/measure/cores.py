"""The threads and cores of a measurement: one core stays free, so that other processes do not delay every step."""

import math
import os
import random
from collections.abc import Sequence
from pathlib import Path

import psutil

from attnlib.measure.cgroups import cpu_quota

CPUS = Path("/sys/devices/system/cpu")  # Linux


def usable_cpus() -> int:
    """Return the number of CPUs that this process may use; of a core with two threads both count."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else psutil.cpu_count() or 1


def usable_cores(cpus: Path = CPUS) -> int:
    """Return the number of physical cores that this process may use; CPUs that share a core count as one.

    Args:
        cpus: folder with the topology of each CPU; without it, every CPU counts as a core.
    """
    if not hasattr(os, "sched_getaffinity"):
        return psutil.cpu_count(logical=False) or psutil.cpu_count() or 1
    return len(cores_of(os.sched_getaffinity(0), cpus))


def cores_of(allowed: set[int], cpus: Path = CPUS) -> list[list[int]]:
    """Return these CPUs grouped by their physical core; without its topology, every CPU counts as a core.

    Args:
        allowed: numbers of CPUs.
        cpus: folder with the topology of each CPU.
    """
    cores: dict[str, list[int]] = {}
    for cpu in sorted(allowed):
        try:
            core = (cpus / f"cpu{cpu}" / "topology" / "thread_siblings_list").read_text().strip()
        except OSError:
            core = str(cpu)
        cores.setdefault(core, []).append(cpu)
    return list(cores.values())


def quiet_cpus(count: int, cores: list[list[int]], loads: Sequence[float]) -> set[int]:
    """Return a CPU of each of the ``count`` least busy cores; equally busy ones are drawn at random.

    Args:
        count: wanted CPUs.
        cores: CPUs of each physical core, see ``cores_of``.
        loads: per cent of the time in which each CPU was busy, by its number.
    """
    busy = [sum(loads[cpu] if cpu < len(loads) else 0.0 for cpu in core) for core in cores]
    order = sorted(range(len(cores)), key=lambda core: (busy[core], random.random()))
    return {cores[core][0] for core in order[:count]}


def default_threads(most: int, cores: int | None = None, quota: float | None = None) -> int:
    """Return the threads that leave a core free: the least of ``most``, cores - 1 and quota - 1, but at least 1.

    Args:
        most: threads that torch would take.
        cores: physical cores that the process may use; None counts them.
        quota: CPUs that its control groups grant; None reads it.
    """
    cores = usable_cores() if cores is None else cores
    quota = cpu_quota() if quota is None else quota
    return max(1, min(most, cores - 1, most if quota in (None, math.inf) else int(quota) - 1))
