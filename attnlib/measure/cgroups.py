"""What the control groups above this process leave it, version 1 or 2; nothing where there are none."""

from collections.abc import Iterator
from pathlib import Path

PROC, ROOT = Path("/proc/self/cgroup"), Path("/sys/fs/cgroup")


def folders(controller: str, proc: Path = PROC, root: Path = ROOT) -> Iterator[tuple[Path, bool]]:
    """The folders of every group above this process that ``controller`` limits, and whether they are of version 1."""
    try:
        entries = [line.split(":", 2) for line in proc.read_text().splitlines()]
    except OSError:  # no Linux
        return
    for _, controllers, path in entries:
        if controllers and controller not in controllers.split(","):
            continue
        base = root / controller if controllers else root
        own = base / path.strip("/")
        yield from ((folder, bool(controllers)) for folder in (own, *own.parents) if folder.is_relative_to(base))


def memory_left(proc: Path = PROC, root: Path = ROOT) -> list[int]:
    """Bytes that each limited group leaves; caches of files count as free."""
    left = []
    for folder, first in folders("memory", proc, root):
        names = ("memory.max", "memory.current", "inactive_file")
        if first:
            names = ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file")
        try:
            most, used = ((folder / name).read_text().strip() for name in names[:2])
            statistics = dict(line.split() for line in (folder / "memory.stat").read_text().splitlines())
        except OSError:  # the root of version 2 has none, and a container may not see its own
            continue
        if most != "max":
            left.append(max(0, int(most) - int(used) + int(statistics.get(names[2], 0))))
    return left


def cpu_quota(proc: Path = PROC, root: Path = ROOT) -> float | None:
    """CPUs that the groups grant at most, the least of all; None without a limit. Beyond it a process is throttled."""
    granted = []
    for folder, first in folders("cpu", proc, root):
        try:
            if first:
                quota, period = (
                    (folder / name).read_text().strip() for name in ("cpu.cfs_quota_us", "cpu.cfs_period_us")
                )
            else:
                quota, period = (folder / "cpu.max").read_text().split()
        except OSError:
            continue
        if quota not in ("max", "-1"):
            granted.append(int(quota) / int(period))
    return min(granted, default=None)
