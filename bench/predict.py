"""What a case will need, found without allocating it: its steps on tensors that have shapes and no storage."""

import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from functools import cache
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from attnlib.measure.device import Device, reading
from attnlib.measure.memory import available_bytes
from attnlib.show.units import size
from bench.cases import PAIRED, Case, unsupported
from bench.settings import Settings
from bench.workload import build

METHOD = "steps on tensors without storage; what kernels allocate inside is not seen"
MARGIN = 1.25  # over phases, encodings, blocks, backends and dtypes a prediction was 0.82 to 1.10 of the peak
STRAIGHT = 4  # layers: below, a peak may lie elsewhere in the step than in deeper stacks


@dataclass(frozen=True)
class Unfit:
    """Why a case is not measured here: the status of its row, the reason in words, and the bytes it was judged by."""

    status: str
    reason: str
    predicted_bytes: int | None = None
    available_bytes: int | None = None

    def row(self) -> dict[str, Any]:
        """What its row says."""
        return {name: value for name, value in asdict(self).items() if value is not None}


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


class Need(NamedTuple):
    """Bytes of a case: the most at once, and what it holds between its steps."""

    peak: int
    held: int


@cache
def need(case: Case) -> Need:
    """Predict a case from its model's first tensor to its last step: operators are run for shapes alone.

    What kernels allocate inside is not seen. An epoch is as its train steps. Past ``STRAIGHT`` layers each one adds the
    same, so that deep stacks cost no more to predict.
    """
    if case.depth > STRAIGHT + 1:
        one, two = (need(replace(case, depth=depth)) for depth in (STRAIGHT, STRAIGHT + 1))
        return Need(*(a + (case.depth - STRAIGHT) * (b - a) for a, b in zip(one, two, strict=True)))
    if case.phase == "epoch":
        return need(replace(case, phase="train_step"))
    seen = Peak()
    with FakeTensorMode(), torch.device(case.device), default_dtype(getattr(torch, case.dtype)), seen:
        work = build(case)
        for _ in range(2 if case.phase == "train_step" else 1):  # the first one makes the optimiser's state
            if work.prepare is not None:
                work.prepare()
            work.step()
        return Need(seen.peak, seen.total)


def prediction(case: Case, reference: Case | None = None) -> dict[str, Any]:
    """Peak bytes as a reading: null with a reason where an operator cannot be run without storage.

    Args:
        case: whose peak it is.
        reference: another case whose model is there too, and which takes turns with it.
    """
    try:
        own = need(case)
        other = Need(0, 0) if reference is None else need(reference)
    except RuntimeError as error:
        return reading(None, METHOD, str(error).partition("\n")[0] or type(error).__name__)
    return reading(max(own.peak + other.held, own.held + other.peak), METHOD)


def reference_of(case: Case, settings: Settings, device: Device) -> tuple[Case | None, str | None]:
    """The case whose rounds lie between this one's; None with the reason where it is measured alone."""
    if case.phase not in PAIRED or settings.reference is None:
        return None, "not asked for"
    other = replace(case, **settings.reference)
    alone = unfit(other, settings, device) or unfit(case, settings, device, beside=other)
    return (None, f"its reference cannot be measured beside it: {alone.reason}") if alone else (other, None)


def unfit(case: Case, settings: Settings, device: Device, beside: Case | None = None) -> Unfit | None:
    """Why a case cannot be measured here, or would not fit into the memory that it may have; None where it can.

    Args:
        case: what is to be measured.
        settings: the run's choices.
        device: where.
        beside: its reference, if that should fit too.
    """
    if reason := unsupported(case):
        return Unfit("unsupported", reason)
    free, limit = available_bytes(device), settings.memory_limit
    if limit == 0 or (free is None and limit is None):
        return None
    available = min(bytes_ for bytes_ in (free, limit) if bytes_ is not None)
    predicted = prediction(case, beside)["value"]
    if predicted is None or (needed := int(MARGIN * predicted)) <= available:
        return None
    reason = f"predicted to need {size(needed)}, {size(available)} available"
    return Unfit("oom", reason, predicted_bytes=needed, available_bytes=available)
