"""What else the machine did meanwhile, from counters that cost microseconds."""

import time
from typing import Any

import psutil


class Disturbance:
    """CPU seconds, context switches and page faults of this process between making it and ``read``."""

    def __init__(self) -> None:
        self.process = psutil.Process()
        self.start = self._counters()

    def _counters(self) -> tuple[float, float, int, int | None]:
        with self.process.oneshot():
            cpu = self.process.cpu_times()
            switches = self.process.num_ctx_switches()
            faults = getattr(self.process.memory_info(), "num_page_faults", None) or _page_faults()
        return time.perf_counter(), cpu.user + cpu.system, switches.involuntary, faults

    def read(self) -> dict[str, Any]:
        """``cpu_s_per_wall_s``, ``involuntary_switches`` and ``page_faults`` since the start; null if not counted."""
        wall, cpu, switches, faults = self._counters()
        wall0, cpu0, switches0, faults0 = self.start
        return {
            "cpu_s_per_wall_s": (cpu - cpu0) / (wall - wall0),
            "involuntary_switches": switches - switches0,
            "page_faults": None if faults is None or faults0 is None else faults - faults0,
        }


def _page_faults() -> int | None:
    try:
        import resource
    except ImportError:  # Windows counts them in memory_info
        return None
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_minflt + usage.ru_majflt
