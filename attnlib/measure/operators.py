"""What a step really runs, as torch.profiler records it. A pass of its own: nothing here runs while a clock does."""

import json
import tempfile
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch


def trace(step: Callable[[], None], *, memory: bool = False) -> list[dict[str, Any]]:
    """The events of ``step`` on the host as Chrome's trace format has them, allocations among them if asked for.

    The exported file is the one documented way to single allocations, and, parsed by torch, events cost many times
    what recording them does.
    """
    activities = [torch.profiler.ProfilerActivity.CPU]
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Profiler clears events")  # some versions say so of every profile
        with torch.profiler.profile(activities=activities, profile_memory=memory) as profile:
            step()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "trace.json")
        profile.export_chrome_trace(str(path))
        found: list[dict[str, Any]] = json.loads(path.read_text(encoding="utf-8", errors="replace"))["traceEvents"]
    return found


def operators(step: Callable[[], None]) -> set[str]:
    """Names of the operators that ``step`` calls on the host: ``aten::linear``."""
    return {str(event.get("name")) for event in trace(step) if event.get("cat") == "cpu_op"}
