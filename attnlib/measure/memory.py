"""Peak memory of one step, each reading with its method. A pass of its own: it never runs inside a timed round."""

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

OF_A_CARD = ("reserved_peak", "requested_peak", "allocated_baseline")
Readings = dict[str, dict[str, Any]]
REFUSALS = ("DefaultCPUAllocator: can't allocate memory", "CUDA error: out of memory", "_STATUS_ALLOC_FAILED")


def is_out_of_memory(error: BaseException) -> bool:
    """Return True if an exception means that an allocator, of an accelerator or of the CPU, had too little memory."""
    if isinstance(error, (MemoryError, torch.OutOfMemoryError)):
        return True
    return isinstance(error, RuntimeError) and any(text in str(error) for text in REFUSALS)


def available_bytes(device: Device) -> int | None:
    """Return the bytes that this process may still allocate; None for a device that does not tell.

    On a CUDA device, its free memory and torch's cache; on a CPU, the least that the machine and the process's control
    groups leave.
    """
    if device.kind == "cuda":
        free, _ = torch.cuda.mem_get_info(device.torch_device)
        # torch gives blocks of its cache out again, or back to the driver, before it runs out of memory
        cached = torch.cuda.memory_reserved(device.torch_device) - torch.cuda.memory_allocated(device.torch_device)
        return int(free + cached)
    if device.kind != "cpu":
        return None
    return min([int(psutil.virtual_memory().available), *cgroups.memory_left()])


def process_peak() -> int:
    """Return the peak resident memory of this process, in bytes."""
    if sys.platform == "win32":
        return int(psutil.Process().memory_info().peak_wset)
    import resource

    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return most if sys.platform == "darwin" else most * 1024  # macOS counts bytes, Linux KiB


def live_bytes(tensors: Iterable[Tensor]) -> int:
    """Return the bytes of the tensors' storages; tensors that share a storage count once."""
    storages = {t.untyped_storage().data_ptr(): t.untyped_storage().nbytes() for t in tensors}
    return sum(storages.values())


def allocator_peak(step: Callable[[], None]) -> int:
    """Return the peak bytes that ``step`` adds to the CPU allocator's total: exact and reproducible.

    Sums the allocation events that torch.profiler records. Buffers that a fused kernel allocates inside are counted;
    the scratch space of MKL and oneDNN, which bypasses torch's allocator, is not.
    """
    # The running sum starts at 0. A block from before the step that is freed within it gives a negative change, so
    # after it later peaks read low: the caller leaves no gradients of an earlier step.
    return max(accumulate((size for _, size in allocations(step)), initial=0))


def allocations(step: Callable[[], None]) -> list[tuple[float, int]]:
    """Return the changes of torch's CPU allocator in ``step``, in order: time and bytes, freed ones negative."""
    events = [event for event in trace(step, memory=True) if event.get("name") == "[memory]"]
    of_the_cpu = [event for event in events if event["args"]["Device Type"] == 0]
    return sorted((float(event["ts"]), int(event["args"]["Bytes"])) for event in of_the_cpu)


@cache
def untrustworthy() -> str | None:
    """Return the reason why ``allocator_peak`` fails on a known allocation; None if it is right. Tried once."""
    size = 3 * 2**20

    def known() -> None:
        torch.empty(size, dtype=torch.uint8)

    found = allocations(known)
    # without distinct times the events of a step cannot be put in order
    if found and found[0][0] == found[-1][0]:
        return "torch.profiler's memory events have no times"
    if [change for _, change in found] == [size, -size]:  # allocated once and freed once
        return None
    given = sum(change for _, change in found if change > 0)
    return f"torch.profiler saw {given} bytes, or not their release, of an allocation of {size}"


def peak_memory(
    device: Device, step: Callable[[], None], prepare: Callable[[], None] | None, held: Iterable[Tensor]
) -> Readings:
    """Return the peak memory of one ``step``, in bytes: the tensors held before it and all that it allocates.

    Args:
        device: device that the step runs on.
        step: the step; after ``prepare`` no gradients should be left, or the CPU's peak is too low.
        prepare: called before the step and counted with it, since the graph that it makes for a backward step is held.
        held: tensors that live throughout: parameters, optimiser state, batch.

    Returns:
        ``allocated_peak``; ``allocated_baseline``, which a card's allocator holds besides and which the peak leaves
        out; ``reserved_peak`` and ``requested_peak``, which contain it; and NVML's readings right after the step, see
        ``attnlib.measure.nvml.Card.memory``.
    """

    def whole() -> None:
        if prepare is not None:
            prepare()
        step()

    if device.kind == "cuda":
        return _cuda_peak(device, whole, held)
    none_here = f"not counted on {device.kind}"
    unread = {name: reading(None, "caching allocator", none_here) for name in OF_A_CARD}
    for name in ("nvml_device_used", "nvml_device_reserved", "nvml_process"):
        unread[name] = reading(None, "NVML", none_here)
    if device.kind != "cpu":
        return {"allocated_peak": reading(None, "allocator", none_here), **unread}
    method = "tensors held + torch.profiler allocation events"
    if reason := untrustworthy():
        return {"allocated_peak": reading(None, method, reason), **unread}
    # the profiler sees changes only: what is held before the step is added
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


def _cuda_peak(device: Device, whole: Callable[[], None], held: Iterable[Tensor]) -> Readings:
    """Read the peaks of CUDA's caching allocator in a step that ran before, so that its workspaces are there.

    cuBLAS keeps one for each thread and stream that multiplied so far, which depends on what ran before.
    """
    gc.collect()  # garbage in cycles would count as allocated
    device.release()  # else what earlier cases left in the cache would count as reserved
    before = torch.cuda.memory_stats(device.torch_device).get("allocated_bytes.all.current", 0)
    baseline = before - live_bytes(held)  # workspaces and whatever else the case does not hold
    torch.cuda.reset_peak_memory_stats(device.torch_device)
    whole()
    device.synchronize()  # NVML reads the card as it is now, so the step has to end first
    statistics = torch.cuda.memory_stats(device.torch_device)
    method = "torch.cuda.memory_stats allocated_bytes before the step, less the tensors held"
    peaks = {"allocated_baseline": reading(baseline, method)}
    for kind in ("allocated", "reserved", "requested"):
        method = f"torch.cuda.memory_stats {kind}_bytes, reset before the step"
        peaks[f"{kind}_peak"] = reading(statistics[f"{kind}_bytes.all.peak"], method)
    whole_peak = peaks["allocated_peak"]
    peaks["allocated_peak"] = reading(whole_peak["value"] - baseline, f"{whole_peak['method']}, less the baseline")
    with nvml.card(device.describe()["uuid"]) as card:
        return peaks | card.memory()


def out_of_order(readings: Readings) -> list[str]:
    """Return a sentence for each violation of allocated <= reserved <= this process <= the device."""
    order = ("allocated_peak", "reserved_peak", "nvml_process", "nvml_device_used")
    known = [(name, value) for name in order if (value := readings.get(name, {}).get("value")) is not None]
    return [
        f"{inner} of {size} bytes is more than {outer} of {whole}"
        for (inner, size), (outer, whole) in pairwise(known)
        if size > whole
    ]
