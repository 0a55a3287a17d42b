"""NVML readings of one card, found by its UUID. NVML has no peaks: each reading is of one instant."""

import contextlib
import os
import re
from collections.abc import Callable, Iterator
from typing import Any

import pynvml

from attnlib.errors import message, shown
from attnlib.measure.device import reading

# the driver's errors; functions or arguments that the old distribution, also called pynvml, lacks; an invalid UUID
FAILURES = (pynvml.NVMLError, AttributeError, TypeError, ValueError)
EVENTS = (
    *("GpuIdle", "ApplicationsClocksSetting", "SwPowerCap", "HwSlowdown", "SyncBoost"),
    *("SwThermalSlowdown", "HwThermalSlowdown", "HwPowerBrakeSlowdown", "DisplayClockSetting"),
)
BARE = "[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}"
WHOLE = re.compile(f"(GPU-|MIG-)?{BARE}|MIG-GPU-{BARE}/[0-9]+/[0-9]+", re.IGNORECASE)
Readings = dict[str, dict[str, Any]]


class Card:
    """A card, or a MIG slice of one; each of its readings is a value, or null with its reason.

    NVML ignores CUDA_VISIBLE_DEVICES and has its own order of cards, so a card is found by UUID, never by index.

    Args:
        handle: NVML's handle of the card or slice; None if it was not found.
        whole: the handle of the whole card; the same as ``handle`` without MIG.
        reason: why the card was not found.
    """

    def __init__(self, handle: Any, whole: Any, reason: str | None = None) -> None:
        self.handle, self.whole, self.reason = handle, whole, reason

    @property
    def is_slice(self) -> bool:
        """True for a MIG slice, whose clocks, temperature and power are those of the whole card."""
        return self.handle is not self.whole

    def ask(self, method: str, query: Callable[[], Any]) -> dict[str, Any]:
        """Return the reading of a query; a failure becomes its reason."""
        if self.reason is not None:
            return reading(None, method, self.reason)
        try:
            return reading(query(), method)
        except FAILURES as error:
            return reading(None, method, f"NVML: {error}")

    def of_the_whole(self, method: str, query: Callable[[], Any]) -> dict[str, Any]:
        """Return a reading that NVML has of whole cards only; the method says so for a slice."""
        return self.ask(f"{method}, of the whole card" if self.is_slice else method, query)

    def memory(self) -> Readings:
        """Return bytes now: ``nvml_device_used`` by all processes, ``nvml_device_reserved`` (driver), ``nvml_process``.

        Version 2 of NVML's call separates used from reserved memory. Where it fails, version 1 is used, which adds them
        up, and the method says so.
        """
        name = "nvmlDeviceGetMemoryInfo"
        used = self.ask(f"{name} v2 used", lambda: int(self._info().used))
        if used["value"] is None and self.reason is None:
            method = f"{name} v1 used, reserved memory counted too"
            first = self.ask(method, lambda: int(pynvml.nvmlDeviceGetMemoryInfo(self.handle).used))
            used = first if first["value"] is not None else used
        reserved = self.ask(f"{name} v2 reserved", lambda: int(self._info().reserved))
        return {"nvml_device_used": used, "nvml_device_reserved": reserved, "nvml_process": self.process()}

    def _info(self) -> Any:
        return pynvml.nvmlDeviceGetMemoryInfo(self.handle, version=pynvml.nvmlMemory_v2)

    def _processes(self, method: str) -> dict[str, Any]:
        """Return a reading: the bytes of each process on the card by its id; null if this process is not listed."""
        listed = self.ask(
            method,
            lambda: {p.pid: p.usedGpuMemory for p in pynvml.nvmlDeviceGetComputeRunningProcesses(self.handle)},
        )
        if listed["value"] is not None and os.getpid() not in listed["value"]:
            return reading(None, method, "the driver does not list this process")
        return listed

    def process(self) -> dict[str, Any]:
        """Return the bytes of this process; null where the driver lists other process ids or no bytes (containers)."""
        listed = self._processes("nvmlDeviceGetComputeRunningProcesses usedGpuMemory")
        if listed["value"] is None:
            return listed
        if not (used := listed["value"][os.getpid()]):
            return reading(None, listed["method"], "the driver lists this process without its memory")
        return reading(int(used), listed["method"])

    def others(self) -> dict[str, Any]:
        """Return the number of other processes that compute on the card; null if the driver does not list this one."""
        listed = self._processes("nvmlDeviceGetComputeRunningProcesses")
        return listed if listed["value"] is None else listed | {"value": len(listed["value"]) - 1}

    def state(self) -> Readings:
        """Return the card's state now: clocks in MHz, temperature in degrees Celsius, power in watts, other processes.

        ``event_reasons`` is the list of NVML's names of what limits the clocks.
        """
        ask, handle = self.of_the_whole, self.whole
        return {
            "sm_mhz": ask("SM clock", lambda: int(pynvml.nvmlDeviceGetClockInfo(handle, pynvml.NVML_CLOCK_SM))),
            "max_sm_mhz": ask(
                "largest SM clock", lambda: int(pynvml.nvmlDeviceGetMaxClockInfo(handle, pynvml.NVML_CLOCK_SM))
            ),
            "memory_mhz": ask(
                "memory clock", lambda: int(pynvml.nvmlDeviceGetClockInfo(handle, pynvml.NVML_CLOCK_MEM))
            ),
            "event_reasons": ask("nvmlDeviceGetCurrentClocksEventReasons", lambda: _events(handle)),
            "temperature_c": ask("nvmlDeviceGetTemperature of the GPU", lambda: _temperature(handle)),
            "power_w": self.watts(),
            "other_processes": self.others(),
        }

    def watts(self) -> dict[str, Any]:
        """Return the power in watts, now or, on newer cards, averaged over a second."""
        return self.of_the_whole("nvmlDeviceGetPowerUsage", lambda: pynvml.nvmlDeviceGetPowerUsage(self.whole) / 1e3)

    def joules(self) -> dict[str, Any]:
        """Return the energy in joules since the driver was loaded; null for a slice, which NVML does not measure."""
        method = "nvmlDeviceGetTotalEnergyConsumption"
        if self.is_slice:
            return reading(None, method, "NVML counts the energy of whole cards only")
        return self.ask(method, lambda: pynvml.nvmlDeviceGetTotalEnergyConsumption(self.handle) / 1e3)

    def identity(self) -> dict[str, Any]:
        """Return the ``driver``'s version, and ``mig``, True if MIG mode is on; None where NVML does not tell."""
        mig = self.ask("nvmlDeviceGetMigMode", lambda: bool(pynvml.nvmlDeviceGetMigMode(self.whole)[0]))
        return {"driver": self.ask("driver", _driver)["value"], "mig": mig["value"]}


@contextlib.contextmanager
def card(uuid: str) -> Iterator[Card]:
    """Open NVML and find a card by its UUID as torch prints it, with or without ``GPU-`` or ``MIG-`` in front.

    An incomplete UUID, or one that several cards have, is refused: every reading is then null with that reason.
    """
    try:
        pynvml.nvmlInit()
    except FAILURES as error:
        yield Card(None, None, f"NVML: {error}")
        return
    try:
        try:
            found = _found(uuid)
        except FAILURES as error:
            found = Card(None, None, f"NVML: {error}")
        yield found
    finally:
        with contextlib.suppress(*FAILURES):  # shutting down fails after a card was lost
            pynvml.nvmlShutdown()


def _found(uuid: str) -> Card:
    text = uuid.replace("\0", "").strip()
    if not WHOLE.fullmatch(text):
        raise ValueError(message(f"{shown(text)} is not a whole UUID"))
    handles, failed = {}, None
    for name in [text] if text[:4] in ("GPU-", "MIG-") else [f"GPU-{text}", f"MIG-{text}"]:
        try:
            handles[name] = pynvml.nvmlDeviceGetHandleByUUID(name)
        except pynvml.NVMLError as error:
            failed = failed or error
    if len(handles) > 1:
        raise ValueError(message(f"{shown(text)} means {' and '.join(handles)}"))
    for name, handle in handles.items():
        parent = pynvml.nvmlDeviceGetDeviceHandleFromMigDeviceHandle
        return Card(handle, parent(handle) if name.startswith("MIG-") else handle)
    raise failed or ValueError(message(f"no card {shown(text)}"))


def _events(handle: Any) -> list[str]:
    bits = pynvml.nvmlDeviceGetCurrentClocksEventReasons(handle)
    return [name for name in EVENTS if bits & getattr(pynvml, f"nvmlClocksEventReason{name}")]


def _temperature(handle: Any) -> int:
    # the newer call where package and driver have it: the older one is deprecated
    try:
        return int(pynvml.nvmlDeviceGetTemperatureV(handle, pynvml.NVML_TEMPERATURE_GPU))
    except (AttributeError, pynvml.NVMLError):
        return int(pynvml.nvmlDeviceGetTemperature(handle, pynvml.NVML_TEMPERATURE_GPU))


def _driver() -> str:
    version = pynvml.nvmlSystemGetDriverVersion()
    return version.decode() if isinstance(version, bytes) else str(version)
