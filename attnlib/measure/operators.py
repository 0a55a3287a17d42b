"""Which of torch's operators a step really runs. A pass of its own: nothing here runs while a clock does."""

from collections.abc import Callable

import torch


def operators(step: Callable[[], None]) -> set[str]:
    """Names of the operators that ``step`` calls on the host, as torch.profiler records them: ``aten::linear``."""
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU], acc_events=True) as profile:
        step()
    return {event.key for event in profile.key_averages()}
