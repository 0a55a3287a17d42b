"""The C heap: with freed memory kept, the time of a step does not depend on the cases that ran before it.

glibc maps a block of 32 MiB or more from the system at each allocation, unless an earlier case left a free piece that
is large enough, and returns the free end of its heap. A step of large tensors then takes a million page faults or none,
depending on what ran before.
"""

import ctypes
import os
import sys
from collections.abc import Mapping

MIB = 2**20
PROBE = 40 * MIB  # a block larger than any that glibc keeps by default
PAD = 64 * MIB  # bytes by which a kept heap grows at once
TRIES = 5  # blocks that are looked at
FEW = 10  # most page faults of a reused block; a newly mapped one has 10,240, or 20 of huge pages
# mallopt's parameters by their numbers in malloc.h, with the values that keep memory; all are C ints
TRIM_THRESHOLD, TOP_PAD, MMAP_THRESHOLD, MMAP_MAX = -1, -2, -3, -4
MALLOPT = {MMAP_MAX: 0, TRIM_THRESHOLD: -1, TOP_PAD: PAD}
# glibc's own values, its two thresholds at the most that it raises them to by itself
GLIBC = {MMAP_MAX: 65536, MMAP_THRESHOLD: 32 * MIB, TRIM_THRESHOLD: 64 * MIB, TOP_PAD: 2**17}
# the same as environment variables of a new process, since an older checkout does not call mallopt
KEPT = {"MALLOC_MMAP_MAX_": "0", "MALLOC_TRIM_THRESHOLD_": str(2**62), "MALLOC_TOP_PAD_": str(PAD)}

_set = False  # by ``keep``; a block that is reused need not mean it, since a free piece may be large enough by chance


def chosen_outside(environment: Mapping[str, str] = os.environ) -> str | None:
    """Return the environment variable by which the user chose an allocator or its settings; None if there is none."""
    names = ("GLIBC_TUNABLES", "LD_PRELOAD")
    return next((name for name in environment if name in names or name.startswith("MALLOC_")), None)


def variables(heap: str, environment: Mapping[str, str] = os.environ) -> dict[str, str]:
    """Return the environment variables that give a new process this heap; none if the user has set some.

    Args:
        heap: ``kept`` or ``system``.
        environment: the environment variables of this process.
    """
    return dict(KEPT) if heap == "kept" and chosen_outside(environment) is None else {}


def keep() -> str | None:
    """Make the C library keep freed memory until the process ends.

    This holds for the main thread. In other threads blocks of more than 64 MiB are always mapped from the system.

    Returns:
        None, or the reason why memory is not kept: another C library, or a setting of the user, which is left alone.
    """
    global _set
    if name := chosen_outside():  # the user's own settings go first, even where they do not keep memory
        return None if is_kept() else f"{name} is set"
    libc = _glibc()
    if libc is None:
        return "the C library is not glibc"
    for parameter, value in MALLOPT.items():
        if libc.mallopt(parameter, value) != 1:
            return f"mallopt({parameter}, {value}) failed"
    _set = True
    # mallopt accepts values that it does not act on, so the effect is measured
    return None if is_kept() else "freed memory is not reused although mallopt accepted its settings"


def is_set() -> bool:
    """Return True after ``keep`` has changed the C library's settings, until ``give_back``."""
    return _set


def give_back() -> None:
    """Let the C library give freed memory back again after ``keep``, and give back what is free now.

    glibc's thresholds stay at their most from then on: once they were set they no longer adapt.
    """
    global _set
    libc, _set = _glibc(), False
    if libc is not None:
        for parameter, value in GLIBC.items():
            libc.mallopt(parameter, value)
        libc.malloc_trim(0)


def is_kept() -> bool:
    """Return True if a large freed block is reused without page faults, in the best of several tries."""
    libc = _glibc()
    if libc is None:
        return False
    import resource

    # of this thread where the system tells them apart: those of others would be taken for the block's
    whose = getattr(resource, "RUSAGE_THREAD", resource.RUSAGE_SELF)
    fewest = PROBE
    for _ in range(TRIES):  # the first block may make the heap larger, which faults in its pages; the others reuse it
        before = resource.getrusage(whose).ru_minflt
        block = libc.malloc(PROBE)
        if not block:
            return False
        ctypes.memset(block, 1, PROBE)  # a page faults when it is first written
        libc.free(block)
        fewest = min(fewest, resource.getrusage(whose).ru_minflt - before)
        if fewest < FEW:
            return True
    return False


def level() -> None:
    """Reset glibc's default heap before a case, so that each case starts from the same state."""
    libc = _glibc()
    if libc is not None:
        # freeing a mapped block raises glibc's thresholds to its size, at most 32 MiB: here to their highest values
        libc.free(libc.malloc(32 * MIB - 2**16))
        trim()


def trim() -> None:
    """Return freed memory to the system, if the C library can."""
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
