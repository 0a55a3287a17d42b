"""What a case will need, found without allocating it: its steps on tensors that have shapes and no storage."""

import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import cache
from typing import Any

import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from attnlib.measure.device import Device
from attnlib.measure.memory import available_bytes
from attnlib.runs.text import size
from bench.cases import Case, Settings, unsupported
from bench.record import Left
from bench.workload import build

MARGIN = (
    1.25  # kernels allocate inside: over phases, encodings, blocks, dtypes a prediction was 0.82 to 1.10 of the peak
)
CLEARLY = 2.0  # what is free over what a whole group needs at most, for its cases not to be looked at one by one


class Peak(TorchDispatchMode):
    """Sums the storages that operators make and lets go of; ``peak`` is the most at once, in bytes."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.live: dict[int, int] = {}
        self.total = self.peak = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        made = func(*args, **(kwargs or {}))
        for tensor in tree_leaves(made):
            if isinstance(tensor, Tensor):
                self.add(tensor.untyped_storage())
        return made

    def add(self, storage: torch.UntypedStorage) -> None:
        """Count a storage, once, until it is freed."""
        key = storage._cdata
        if key not in self.live:
            self.live[key] = storage.nbytes()
            self.total += self.live[key]
            self.peak = max(self.peak, self.total)
            weakref.finalize(storage, self.free, key)

    def free(self, key: int) -> None:
        """Count it no more."""
        self.total -= self.live.pop(key)


@contextmanager
def default_dtype(dtype: torch.dtype) -> Iterator[None]:
    """What new tensors are made of."""
    before = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        yield
    finally:
        torch.set_default_dtype(before)


def predicted_peak(case: Case) -> int:
    """Peak bytes of a case from its model's first tensor to its second step: operators are run for shapes alone.

    What kernels allocate inside is not seen. An epoch is as its train steps.
    """
    phase = "train_step" if case.phase == "epoch" else case.phase
    dtype = getattr(torch, case.dtype)
    seen = Peak()
    with FakeTensorMode(), torch.device(case.device), default_dtype(dtype), seen:
        work = build(replace(case, phase=phase))
        for _ in range(2):  # the first one makes the optimiser's state
            if work.prepare is not None:
                work.prepare()
            work.step()
    return seen.peak


@cache
def extrapolated_peak(case: Case) -> int:
    """About ``predicted_peak``, from its first two layers: in the time of two."""
    if case.depth <= 2:
        return predicted_peak(case)
    one, two = (predicted_peak(replace(case, depth=depth)) for depth in (1, 2))
    return one + (case.depth - 1) * (two - one)


def fitting(case: Case, settings: Settings, device: Device) -> None:
    """Refuse a case that cannot be measured here, or whose predicted peak exceeds the memory that it may have.

    The largest case of its kind on the axes is looked at first, from two layers: if that clearly fits, all do.

    Raises:
        Left: ``unsupported``, **or** ``oom`` with the predicted and the available bytes.
    """
    if reason := unsupported(case):
        raise Left("unsupported", reason)
    free, limit = available_bytes(device), settings.memory_limit
    if limit == 0 or (free is None and limit is None):
        return
    available = min(bytes_ for bytes_ in (free, limit) if bytes_ is not None)
    largest = replace(case, seq_len=max(*settings.seq_lens, case.seq_len), depth=max(*settings.depths, case.depth))
    if CLEARLY * MARGIN * extrapolated_peak(largest) <= available:
        return
    needed = int(MARGIN * predicted_peak(case))
    if needed > available:
        reason = f"predicted to need {size(needed)}, {size(available)} available"
        raise Left("oom", reason, predicted_bytes=needed, available_bytes=available)
