"""CPU and memory limits that the control groups (version 1 or 2) above this process set, on Linux."""

from collections.abc import Iterator
from pathlib import Path

PROC, ROOT = Path("/proc/self/cgroup"), Path("/sys/fs/cgroup")


def folders(controller: str, proc: Path = PROC, root: Path = ROOT) -> Iterator[tuple[Path, bool]]:
    """Yield the folder of each group above this process that ``controller`` limits, and True if it is of version 1."""
    try:
        entries = [line.split(":", 2) for line in proc.read_text().splitlines()]
    except OSError:  # not Linux
        return
    for _, controllers, path in entries:
        if controllers and controller not in controllers.split(","):
            continue
        base = root / controller if controllers else root
        own = base / path.strip("/")
        yield from ((folder, bool(controllers)) for folder in (own, *own.parents) if folder.is_relative_to(base))


def memory_left(proc: Path = PROC, root: Path = ROOT) -> list[int]:
    """Return the bytes that each limited group leaves free; file caches count as free."""
    left = []
    for folder, first in folders("memory", proc, root):
        names = ("memory.max", "memory.current", "inactive_file")
        if first:
            names = ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file")
        try:
            most, used = ((folder / name).read_text().strip() for name in names[:2])
            statistics = dict(line.split() for line in (folder / "memory.stat").read_text().splitlines())
        except OSError:  # the root of version 2 has no such files, and a container may not see its own group
            continue
        if most != "max":
            left.append(max(0, int(most) - int(used) + int(statistics.get(names[2], 0))))
    return left


def cpu_quota(proc: Path = PROC, root: Path = ROOT) -> float | None:
    """Return the CPUs that the strictest group grants before it throttles the process; None without a limit."""
    granted = []
    for folder, first in folders("cpu", proc, root):
        names = ("cpu.cfs_quota_us", "cpu.cfs_period_us") if first else ("cpu.max",)
        try:
            quota, period = " ".join((folder / name).read_text() for name in names).split()
        except OSError:
            continue
        if quota not in ("max", "-1"):
            granted.append(int(quota) / int(period))
    return min(granted, default=None)
