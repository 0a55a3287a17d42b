"""Devices (CPU, CUDA, other accelerators) behind one interface: the only module that names a backend."""

import contextlib
import gc
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from attnlib.errors import message, shown

CACHES = Path("/sys/devices/system/cpu/cpu0/cache")  # Linux
UNITS = {"K": 2**10, "M": 2**20}
HELD = (0.002, 0.02, 0.2)  # seconds of work queued before a step, tried until its launches take less
SPIN, WARM_SPIN = 2_000_000, 10_000_000  # cycles of the spin that is timed, and of one before it, in which clocks rise
Step = Callable[[], None]


def reading(value: int | float | None, method: str, reason: str | None = None) -> dict[str, Any]:
    """Return a reading as it is saved: a value with its method, or a null value with the reason, never 0."""
    return {"value": value, "method": method, "reason": reason}


class Unavailable(RuntimeError):
    """Raised if something that a case asks for, as a graph or a compiled step, cannot be had; the message says why."""


class Device:
    """A CPU, and the interface of every device. On a CPU a call returns when its work is done.

    Args:
        name: torch's name of the device, such as ``cpu`` or ``cuda:1``.
    """

    def __init__(self, name: str = "cpu") -> None:
        self.torch_device = torch.device(name)

    @property
    def kind(self) -> str:
        """The kind of device: ``cpu``, ``cuda``, ``mps``, ..."""
        return self.torch_device.type

    @property
    def queues(self) -> bool:
        """True if a call returns before its work is done, so that the host calls operators while the device works."""
        return self.kind != "cpu"

    def use(self) -> None:
        """Make this the device that new work goes to."""

    def synchronize(self) -> None:
        """Wait until everything queued on the device has finished."""

    def is_busy(self) -> bool:
        """Return True if work that was queued on the device has not finished."""
        return False

    def hold(self, seconds: float) -> None:
        """Queue work that keeps the device busy for about ``seconds`` and uses no memory; nothing on a CPU."""

    def lost(self) -> str | None:
        """Return the reason why nothing can run on the device any more, after an error; None if it works."""
        return None

    def mark(self) -> Any:
        """Return a mark behind the work queued so far, for ``between``; None if the device has no clock of its own."""
        return None

    def between(self, start: Any, end: Any) -> float | None:
        """Return the seconds by the device's clock between two marks that it has passed; None if it has no clock."""
        return None

    def busy_seconds(self, step: Step, prepare: Step | None = None) -> dict[str, Any]:
        """Return a reading: the seconds that the device works on one ``step`` without waiting for launches.

        ``prepare`` is called before the step and is not counted.
        """
        return reading(None, "device events", f"{self.kind} has no queue of launches")

    def capture(self, step: Step) -> Step:
        """Return a callable that replays the work of ``step`` with a single launch.

        Raises:
            Unavailable: the step cannot be captured, **or** the device has no graphs.
        """
        raise Unavailable(message(f"{self.kind} cannot capture a step as a graph", do="choose device cuda"))

    def cache_bytes(self) -> int | None:
        """Return the bytes of the device's largest cache; None if the system does not tell."""
        sizes = [path.read_text().strip() for path in CACHES.glob("index*/size")]
        return max((int(size[:-1]) * UNITS[size[-1]] for size in sizes if size[-1:] in UNITS), default=None)

    def flush(self) -> int:
        """Overwrite the largest cache, so that the next step finds no data of its own there; return its bytes."""
        size = self.cache_bytes() or 0
        torch.empty(size, dtype=torch.uint8, device=self.torch_device).fill_(1)
        return size

    def release(self) -> None:
        """Free the allocator's cached memory, so that one case leaves none to the next."""

    def describe(self) -> dict[str, Any]:
        """Return the device's kind, name, UUID, driver and total bytes; what it does not tell is null."""
        return {"kind": self.kind, "name": None, "uuid": None, "driver": None, "total_bytes": None}


class Accelerator(Device):
    """Any device behind ``torch.accelerator`` (MPS, XPU, ...)."""

    def synchronize(self) -> None:
        """Wait until everything queued on the device has finished."""
        torch.accelerator.synchronize(self.torch_device)

    def cache_bytes(self) -> None:
        """Return None: torch does not tell."""


class Cuda(Device):
    """A device of ``torch.cuda``, usually an NVIDIA GPU. Its work is queued: a call returns before it is done."""

    def use(self) -> None:
        """Make this the current card, on which events and streams are created."""
        if self.torch_device.index is not None:  # without an index it is the current card, and torch refuses it
            torch.cuda.set_device(self.torch_device)

    def synchronize(self) -> None:
        """Wait until everything queued on the card has finished."""
        torch.cuda.synchronize(self.torch_device)

    def is_busy(self) -> bool:
        """Return True if work that was queued in the current stream has not finished."""
        return not torch.cuda.current_stream(self.torch_device).query()

    def lost(self) -> str | None:
        """Return the reason why nothing can run on the card any more; None if it works.

        An error such as an illegal memory access stays: every later call of the process raises it again.
        """
        try:
            self.synchronize()
            self.release()
            self.draw()
        except torch.OutOfMemoryError:
            return None
        except RuntimeError as error:
            return str(error).partition("\n")[0]
        return None

    def draw(self) -> None:
        """Draw a random number on the card, which fails where a refused capture left its generator capturing."""
        torch.randn((), device=self.torch_device)

    def mark(self) -> torch.cuda.Event:
        """Return an event recorded in the current stream; its clock resolves about 0.5 us."""
        event = torch.cuda.Event(enable_timing=True)
        event.record(torch.cuda.current_stream(self.torch_device))
        return event

    def between(self, start: torch.cuda.Event, end: torch.cuda.Event) -> float:
        """Return the seconds between two events, including the card's waits for launches."""
        return float(start.elapsed_time(end)) / 1e3

    def busy_seconds(self, step: Step, prepare: Step | None = None) -> dict[str, Any]:
        """Return a reading: the seconds that the card works on a step whose launches do not hold it up.

        A spinning kernel keeps the card busy while the step's launches are queued. If the card reaches the step before
        its last launch is queued, a longer spin is tried. A queue holds about a thousand launches; a step with more is
        captured as a graph, which is one launch. The reading is null, with the reason, if neither works.
        """
        for seconds in HELD:
            if prepare is not None:
                prepare()
            taken = self.held_seconds(step, seconds)
            if taken is not None:
                return reading(taken, "CUDA events around a step that is queued behind a spinning kernel")
        method = "CUDA events around the replay of the step's graph"
        if prepare is not None:
            return reading(None, method, "it has more launches than the queue holds, and cannot be captured alone")
        try:
            replay = self.capture(step)
        except (Unavailable, torch.OutOfMemoryError) as error:
            return reading(None, method, str(error).partition("\n")[0])
        replay()  # the first launch of a graph uploads it
        self.synchronize()
        for seconds in HELD:
            taken = self.held_seconds(replay, seconds)
            if taken is not None:
                return reading(taken, method)
        return reading(None, method, f"launching its graph took longer than {HELD[-1]} s")

    def held_seconds(self, step: Step, seconds: float) -> float | None:
        """Return the seconds between events around a step behind a spin; None if the spin ended before all launches."""
        self.hold(seconds)
        start = self.mark()
        step()
        reached = start.query()  # True if the card began the step before its last launch was queued
        end = self.mark()
        end.synchronize()
        return None if reached else self.between(start, end)

    def hold(self, seconds: float) -> None:
        """Queue a spinning kernel that keeps the card busy for about ``seconds``, in cycles of its present clock."""
        torch.cuda._sleep(WARM_SPIN)  # of an idle card the clock is low
        start = self.mark()
        torch.cuda._sleep(SPIN)
        end = self.mark()
        end.synchronize()
        torch.cuda._sleep(math.ceil(seconds * SPIN / self.between(start, end)))

    def capture(self, step: Step) -> Step:
        """Return the replay of a CUDA graph of ``step``, captured after three runs on a side stream as torch asks.

        Raises:
            Unavailable: torch refused; the message is its first line.
            torch.OutOfMemoryError: the card has too little memory for the graph.
        """
        before = torch.cuda.current_stream(self.torch_device)
        side, graph, pool = torch.cuda.Stream(self.torch_device), torch.cuda.CUDAGraph(), torch.cuda.graph_pool_handle()
        gc.collect()  # a graph that is collected during a capture would break it
        try:
            side.wait_stream(before)
            with torch.cuda.stream(side):
                for _ in range(3):
                    step()
            before.wait_stream(side)
            with torch.cuda.graph(graph, pool=pool):
                step()
        except RuntimeError as error:
            # A refused capture leaves its own stream the current one, up to torch 2.10 the generator capturing, and up
            # to 2.12 the allocator too, which then gives no memory back.
            torch.cuda.set_stream(before)
            self.renew_generator()
            self.abandon(pool)
            if isinstance(error, torch.OutOfMemoryError):
                raise
            why = str(error).partition("\n")[0]
            raise Unavailable(message(f"not captured as a CUDA graph: {why}")) from None
        return graph.replay

    @property
    def index(self) -> int:
        """The card's number in this process."""
        index = self.torch_device.index
        return torch.cuda.current_device() if index is None else index

    def renew_generator(self) -> None:
        """Give the card's random generator a new state, with the same seed and place, that does not capture."""
        own = torch.cuda.default_generators[self.index]
        own.graphsafe_set_state(own.clone_state())

    def abandon(self, pool: Any) -> None:
        """Let the allocator end a capture into a pool of memory, and release the pool; nothing if it has ended."""
        # the first is called so from torch 2.8 on
        first = "_cuda_endAllocateToPool"
        first = first if hasattr(torch._C, first) else "_cuda_endAllocateCurrentStreamToPool"
        for name in (first, "_cuda_releasePool"):
            with contextlib.suppress(RuntimeError):  # it has ended, or was released
                getattr(torch._C, name)(self.index, pool)

    def attention_order(self) -> list[int]:
        """Return torch's numbers of attention kernels in the order in which it tries them on this card."""
        q = torch.empty(1, 1, 8, 8, device=self.torch_device)
        torch._fused_sdp_choice(q, q, q)  # the first choice settles the order
        return [int(kernel) for kernel in torch._C._get_sdp_priority_order()]

    def cache_bytes(self) -> int:
        """Return the bytes of the card's L2 cache."""
        return int(torch.cuda.get_device_properties(self.torch_device).L2_cache_size)

    def release(self) -> None:
        """Return the caching allocator's free blocks to the driver."""
        torch.cuda.empty_cache()

    def describe(self) -> dict[str, Any]:
        """Return the card's properties by torch; its driver and MIG mode come from ``attnlib.measure.nvml``."""
        properties = torch.cuda.get_device_properties(self.torch_device)
        return super().describe() | {
            "name": properties.name,
            "uuid": str(properties.uuid),
            "total_bytes": properties.total_memory,
            "compute_capability": f"{properties.major}.{properties.minor}",
            "cuda": torch.version.cuda,
            "cudnn": torch.backends.cudnn.version(),
        }


def open_device(name: str) -> Device:
    """Return the device ``auto`` (an accelerator if there is one), ``cpu``, ``cuda``, ``cuda:1``, ``mps``, ...

    Raises:
        ValueError: this machine has no such device; the message lists its devices.
    """
    accelerator = torch.accelerator.current_accelerator() if torch.accelerator.is_available() else None
    choices = ["auto", "cpu"]
    if accelerator is not None:
        choices += [accelerator.type, *(f"{accelerator.type}:{i}" for i in range(torch.accelerator.device_count()))]
    if name not in choices:
        raise ValueError(message(f"no device {shown(name)} on this machine", choices=choices))
    if name == "cpu" or accelerator is None:
        return Device()
    if name == "auto":
        name = accelerator.type
    return Cuda(name) if accelerator.type == "cuda" else Accelerator(name)
