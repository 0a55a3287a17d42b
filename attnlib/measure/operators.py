"""The operators of a step, recorded by torch.profiler. A pass of its own: it never runs inside a timed round."""

import json
import tempfile
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch


def trace(step: Callable[[], None], *, memory: bool = False) -> list[dict[str, Any]]:
    """Return the events of ``step`` on the host in Chrome's trace format, with allocations if ``memory``.

    The exported file is the only documented source of single allocations, and it is faster to read than to let torch
    parse its events.
    """
    activities = [torch.profiler.ProfilerActivity.CPU]
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", ".*Profiler clears events")  # some versions warn at every profile
        with torch.profiler.profile(activities=activities, profile_memory=memory) as profile:
            step()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "trace.json")
        profile.export_chrome_trace(str(path))
        found: list[dict[str, Any]] = json.loads(path.read_text(encoding="utf-8", errors="replace"))["traceEvents"]
    return found


def operators(step: Callable[[], None]) -> set[str]:
    """Return the names of the operators that ``step`` calls on the host, such as ``aten::linear``."""
    return {str(event.get("name")) for event in trace(step) if event.get("cat") == "cpu_op"}
