"""The heap that a process's tensors come from: with freed memory kept, no step pays for what ran before it.

glibc maps a block of 32 MiB or more anew every time, unless an earlier case left a free piece that is large enough, and
gives the end of its heap back. A step of large tensors then takes a million page faults or none, by its history.
"""

import ctypes
import os
import sys
from collections.abc import Mapping

MIB = 2**20
PROBE = 40 * MIB  # a block larger than any that glibc keeps by itself
PAD = 64 * MIB  # bytes by which a kept heap grows at once
FEW = 10  # page faults of a block that is taken again; mapped anew it has 10,240, or 20 of huge pages
# mallopt's parameters by their numbers in malloc.h, with the values that keep memory; all are C ints
TRIM_THRESHOLD, TOP_PAD, MMAP_THRESHOLD, MMAP_MAX = -1, -2, -3, -4
MALLOPT = {MMAP_MAX: 0, TRIM_THRESHOLD: -1, TOP_PAD: PAD}
# glibc's own values, its two thresholds at the most that it raises them to by itself
GLIBC = {MMAP_MAX: 65536, MMAP_THRESHOLD: 32 * MIB, TRIM_THRESHOLD: 64 * MIB, TOP_PAD: 2**17}
# the same for a process that is started, since an older checkout does not know mallopt
KEPT = {"MALLOC_MMAP_MAX_": "0", "MALLOC_TRIM_THRESHOLD_": str(2**62), "MALLOC_TOP_PAD_": str(PAD)}


def chosen_outside(environment: Mapping[str, str] = os.environ) -> str | None:
    """Return a variable by which the user has chosen an allocator or its settings; None without one."""
    names = ("GLIBC_TUNABLES", "LD_PRELOAD")
    return next((name for name in environment if name in names or name.startswith("MALLOC_")), None)


def variables(heap: str, environment: Mapping[str, str] = os.environ) -> dict[str, str]:
    """Return the variables with which a new process has this heap, ``kept`` or ``system``; none beside the user's."""
    return dict(KEPT) if heap == "kept" and chosen_outside(environment) is None else {}


def keep() -> str | None:
    """Let the C library keep freed memory until the process ends.

    It holds for the main thread. In other threads blocks of more than 64 MiB are mapped anew whatever is set.

    Returns:
        None, or why memory is not kept: another C library, or what the user set in the environment, which stays.
    """
    if name := chosen_outside():
        return None if is_kept() else f"{name} is set"
    libc = _glibc()
    if libc is None:
        return "the C library is not glibc"
    for parameter, value in MALLOPT.items():
        if libc.mallopt(parameter, value) != 1:
            return f"mallopt({parameter}, {value}) failed"
    return None if is_kept() else "a block of 40 MiB is mapped anew all the same"


def give_back() -> None:
    """Let the C library give freed memory back again after ``keep``, and give back what is free now.

    glibc's thresholds stay at their most from then on: once they were set they no longer adapt.
    """
    libc = _glibc()
    if libc is not None:
        for parameter, value in GLIBC.items():
            libc.mallopt(parameter, value)
        libc.malloc_trim(0)


def is_kept() -> bool:
    """Return True if a large block that was freed is reused without page faults."""
    libc = _glibc()
    if libc is None:
        return False
    import resource

    for _ in range(2):  # the first one may make the heap larger
        before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
        block = libc.malloc(PROBE)
        if not block:
            return False
        ctypes.memset(block, 1, PROBE)
        libc.free(block)
        faults = resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before
    return faults < FEW


def level() -> None:
    """Bring a heap that gives memory back into the same state before each case: thresholds at their most, trimmed.

    glibc raises its thresholds to the size of a mapped block that is freed, up to 32 MiB.
    """
    libc = _glibc()
    if libc is not None:
        libc.free(libc.malloc(32 * MIB - 2**16))
        libc.malloc_trim(0)


def trim() -> None:
    """Give freed memory back to the system, where the C library can."""
    libc = _glibc()
    if libc is not None:
        libc.malloc_trim(0)


def _glibc() -> ctypes.CDLL | None:
    if sys.platform != "linux":
        return None
    libc = ctypes.CDLL(None)
    if not hasattr(libc, "gnu_get_libc_version"):  # musl
        return None
    libc.malloc.restype, libc.malloc.argtypes = ctypes.c_void_p, [ctypes.c_size_t]
    libc.free.restype, libc.free.argtypes = None, [ctypes.c_void_p]
    libc.malloc_trim.argtypes = [ctypes.c_size_t]
    return libc
