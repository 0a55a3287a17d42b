"""Peak memory of one step, each reading with its method. A pass of its own: nothing here runs while a clock does."""

import gc
import sys
from collections.abc import Callable, Iterable
from functools import cache
from itertools import accumulate, pairwise
from typing import Any

import psutil
import torch
from torch import Tensor

from attnlib.measure import cgroups, nvml
from attnlib.measure.device import Device, reading
from attnlib.measure.operators import trace

Readings = dict[str, dict[str, Any]]
REFUSALS = ("DefaultCPUAllocator: can't allocate memory", "CUDA error: out of memory", "_STATUS_ALLOC_FAILED")


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an exception is an allocator's refusal, on an accelerator or on the CPU."""
    if isinstance(error, (MemoryError, torch.OutOfMemoryError)):
        return True
    return isinstance(error, RuntimeError) and any(text in str(error) for text in REFUSALS)


def available_bytes(device: Device) -> int | None:
    """Bytes that this process may still take, or None for a device that does not tell.

    Of a CUDA device what is free or in torch's cache; of a CPU's memory the least that the machine and the process's
    control groups leave.
    """
    if device.kind == "cuda":
        free, _ = torch.cuda.mem_get_info(device.torch_device)
        cached = torch.cuda.memory_reserved(device.torch_device) - torch.cuda.memory_allocated(device.torch_device)
        return int(free + cached)
    if device.kind != "cpu":
        return None
    return min([int(psutil.virtual_memory().available), *cgroups.memory_left()])


def process_peak() -> int:
    """The most bytes that this process has had in memory."""
    if sys.platform == "win32":
        return int(psutil.Process().memory_info().peak_wset)
    import resource

    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return most if sys.platform == "darwin" else most * 1024


def live_bytes(tensors: Iterable[Tensor]) -> int:
    """Bytes of the tensors' storages, each storage once: what was there before the step."""
    storages = {t.untyped_storage().data_ptr(): t.untyped_storage().nbytes() for t in tensors}
    return sum(storages.values())


def allocator_peak(step: Callable[[], None]) -> int:
    """Bytes by which ``step`` raised the CPU allocator's total at its highest: exact, the same every time.

    Sums the allocation events that torch.profiler records. Buffers that a fused kernel allocates inside are seen;
    the scratch space of MKL and oneDNN, which bypasses torch's allocator, is not. Memory that was allocated before and
    is freed within the step is not subtracted.
    """
    return max(accumulate((size for _, size in allocations(step)), initial=0))


def allocations(step: Callable[[], None]) -> list[tuple[float, int]]:
    """When torch's CPU allocator gave (+) and got back (-) how many bytes in ``step``, in order."""
    events = [event for event in trace(step, memory=True) if event.get("name") == "[memory]"]
    of_the_cpu = [event for event in events if event["args"]["Device Type"] == 0]
    return sorted((float(event["ts"]), int(event["args"]["Bytes"])) for event in of_the_cpu)


@cache
def untrustworthy() -> str | None:
    """Why ``allocator_peak`` cannot be trusted here, found out once on an allocation that is known; None if it can."""
    size = 3 * 2**20

    def known() -> None:
        torch.empty(size, dtype=torch.uint8)

    found = allocations(known)
    if found and found[0][0] == found[-1][0]:
        return "torch.profiler's memory events have no times"
    given = sum(change for _, change in found if change > 0)
    balanced = [change for _, change in found] == [size, -size]
    return None if balanced else f"torch.profiler saw {given} bytes, or not their end, of an allocation of {size}"


def peak_memory(
    device: Device, step: Callable[[], None], prepare: Callable[[], None] | None, held: Iterable[Tensor]
) -> Readings:
    """Weigh one ``step``: the bytes held before it and everything that it allocates, at their highest together.

    Args:
        device: where it runs.
        step: what is weighed; after ``prepare`` no gradients should be left, or their release goes uncounted on CPU.
        prepare: called first; it is weighed too, since what it makes (a graph to go back through) is held.
        held: tensors that live throughout: parameters, optimiser state, batch.

    Returns:
        ``allocated_peak``, ``reserved_peak``, ``requested_peak``, and what NVML says right after the step, see
        ``attnlib.measure.nvml.Card.memory``; in bytes.
    """

    def whole() -> None:
        if prepare is not None:
            prepare()
        step()

    if device.kind == "cuda":
        return _cuda_peak(device, whole)
    none_here = f"not counted on {device.kind}"
    unread = {
        "reserved_peak": reading(None, "caching allocator", none_here),
        "requested_peak": reading(None, "caching allocator", none_here),
        "nvml_device_used": reading(None, "NVML", none_here),
        "nvml_device_reserved": reading(None, "NVML", none_here),
        "nvml_process": reading(None, "NVML", none_here),
    }
    if device.kind != "cpu":
        return {"allocated_peak": reading(None, "allocator", none_here), **unread}
    method = "tensors held + torch.profiler allocation events"
    if reason := untrustworthy():
        return {"allocated_peak": reading(None, method, reason), **unread}
    return {"allocated_peak": reading(live_bytes(held) + allocator_peak(whole), method), **unread}


def added_peak(device: Device, step: Callable[[], None], prepare: Callable[[], None] | None = None) -> dict[str, Any]:
    """Read the bytes that a call adds, at its peak, to what was allocated before it.

    Args:
        device: where it runs.
        step: what is weighed.
        prepare: called before it and weighed too, since what it makes (a graph to go back through) is held.

    Returns:
        a reading, see ``attnlib.measure.device.reading``; null with a reason where nothing counts allocations.
    """

    def whole() -> None:
        if prepare is not None:
            prepare()
        step()

    if device.kind == "cuda":
        gc.collect()  # garbage in cycles would be freed within
        device.synchronize()
        before = torch.cuda.memory_allocated(device.torch_device)
        torch.cuda.reset_peak_memory_stats(device.torch_device)
        whole()
        device.synchronize()
        most = torch.cuda.max_memory_allocated(device.torch_device)
        return reading(most - before, "torch.cuda.max_memory_allocated, reset before the call, less what was there")
    if device.kind != "cpu":
        return reading(None, "allocator", f"not counted on {device.kind}")
    method = "torch.profiler allocation events"
    if reason := untrustworthy():
        return reading(None, method, reason)
    return reading(allocator_peak(whole), method)


def _cuda_peak(device: Device, whole: Callable[[], None]) -> Readings:
    gc.collect()  # garbage in cycles would count as allocated
    device.release()  # else what earlier cases left in the cache would count as reserved
    torch.cuda.reset_peak_memory_stats(device.torch_device)
    whole()
    device.synchronize()
    statistics = torch.cuda.memory_stats(device.torch_device)
    peaks = {
        name: reading(statistics[f"{key}.all.peak"], f"torch.cuda.memory_stats {key}, reset before the step")
        for name, key in (
            ("allocated_peak", "allocated_bytes"),
            ("reserved_peak", "reserved_bytes"),
            ("requested_peak", "requested_bytes"),
        )
    }
    with nvml.card(device.describe()["uuid"]) as card:
        return peaks | card.memory()


def out_of_order(readings: Readings) -> list[str]:
    """Where a part is larger than what holds it: allocated <= reserved <= this process <= the device; in words."""
    order = ("allocated_peak", "reserved_peak", "nvml_process", "nvml_device_used")
    known = [(name, value) for name in order if (value := readings.get(name, {}).get("value")) is not None]
    return [
        f"{inner} of {size} bytes is more than {outer} of {whole}"
        for (inner, size), (outer, whole) in pairwise(known)
        if size > whole
    ]
