"""NVML readings of one card, found by its UUID. NVML has no peaks: each reading is of one instant."""

import contextlib
import os
import re
from collections.abc import Callable, Iterator
from typing import Any

import pynvml

from attnlib.measure.device import reading

# the driver's answer; what an old distribution, also called pynvml, lacks or takes otherwise; what is no UUID
FAILURES = (pynvml.NVMLError, AttributeError, TypeError, ValueError)
EVENTS = (
    *("GpuIdle", "ApplicationsClocksSetting", "SwPowerCap", "HwSlowdown", "SyncBoost"),
    *("SwThermalSlowdown", "HwThermalSlowdown", "HwPowerBrakeSlowdown", "DisplayClockSetting"),
)
BARE = "[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}"
WHOLE = re.compile(f"(GPU-|MIG-)?{BARE}|MIG-GPU-{BARE}/[0-9]+/[0-9]+", re.IGNORECASE)
Readings = dict[str, dict[str, Any]]


class Card:
    """A card, or a MIG slice of one, whose readings are each a value or null with a reason of its own.

    NVML ignores CUDA_VISIBLE_DEVICES and orders cards its own way, so a card is found by UUID, never by index.

    Args:
        handle: of what is measured, None where it was not found.
        whole: of the card that it is a slice of, or the same.
        reason: why it was not found.
    """

    def __init__(self, handle: Any, whole: Any, reason: str | None = None) -> None:
        self.handle, self.whole, self.reason = handle, whole, reason

    @property
    def is_slice(self) -> bool:
        """Whether it is a MIG slice: clocks, temperature and power are then of the whole card."""
        return self.handle is not self.whole

    def ask(self, method: str, query: Callable[[], Any]) -> dict[str, Any]:
        """One reading; whatever fails is its reason."""
        if self.reason is not None:
            return reading(None, method, self.reason)
        try:
            return reading(query(), method)
        except FAILURES as error:
            return reading(None, method, f"NVML: {error}")

    def of_the_whole(self, method: str, query: Callable[[], Any]) -> dict[str, Any]:
        """A reading that NVML has of whole cards only."""
        return self.ask(f"{method}, of the whole card" if self.is_slice else method, query)

    def memory(self) -> Readings:
        """Bytes now: ``nvml_device_used`` by all processes, ``nvml_device_reserved`` by the driver, ``nvml_process``.

        The second version of the call tells used from reserved memory; the first, which adds them up, is asked where
        the second fails, and named.
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

    def _processes(self) -> dict[int, int | None]:
        return {p.pid: p.usedGpuMemory for p in pynvml.nvmlDeviceGetComputeRunningProcesses(self.handle)}

    def process(self) -> dict[str, Any]:
        """Bytes of this process. A driver in a container may list other process ids, or no bytes: both are null."""
        method = "nvmlDeviceGetComputeRunningProcesses usedGpuMemory"
        used = self.ask(method, self._processes)
        if (found := used["value"]) is None:
            return used
        if os.getpid() not in found:
            return reading(None, method, "the driver does not list this process")
        if not found[os.getpid()]:
            return reading(None, method, "the driver lists this process without its memory")
        return reading(int(found[os.getpid()]), method)

    def others(self) -> dict[str, Any]:
        """How many other processes compute on the card; null where the driver's ids do not tell which is this one."""
        method = "nvmlDeviceGetComputeRunningProcesses"
        listed = self.ask(method, self._processes)
        if (found := listed["value"]) is None:
            return listed
        if os.getpid() not in found:
            return reading(None, method, "the driver does not list this process")
        return reading(len(found.keys() - {os.getpid()}), method)

    def state(self) -> Readings:
        """What changes from minute to minute: clocks in MHz and why they are not higher, degrees Celsius, watts.

        ``event_reasons`` are NVML's words, as a list.
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
        """Power now, which newer cards average over a second."""
        return self.of_the_whole("nvmlDeviceGetPowerUsage", lambda: pynvml.nvmlDeviceGetPowerUsage(self.whole) / 1e3)

    def joules(self) -> dict[str, Any]:
        """Energy since the driver was loaded; null for a slice, whose share NVML does not know."""
        method = "nvmlDeviceGetTotalEnergyConsumption"
        if self.is_slice:
            return reading(None, method, "NVML counts the energy of whole cards only")
        return self.ask(method, lambda: pynvml.nvmlDeviceGetTotalEnergyConsumption(self.handle) / 1e3)

    def identity(self) -> dict[str, Any]:
        """What names the card beside torch's own words: ``driver``, and whether ``mig`` is on; None where not told."""
        mig = self.ask("nvmlDeviceGetMigMode", lambda: bool(pynvml.nvmlDeviceGetMigMode(self.whole)[0]))
        return {"driver": self.ask("driver", _driver)["value"], "mig": mig["value"]}


@contextlib.contextmanager
def card(uuid: str) -> Iterator[Card]:
    """Open NVML and find a card by its UUID as torch prints it, with ``GPU-`` or ``MIG-`` in front or bare.

    Part of a UUID, and one that several cards answer to, is refused: every reading is then null with that reason.
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
        with contextlib.suppress(*FAILURES):  # a card that is lost
            pynvml.nvmlShutdown()


def _found(uuid: str) -> Card:
    """The card, or a ``ValueError`` or NVML's own error."""
    text = uuid.replace("\0", "").strip()
    if not WHOLE.fullmatch(text):
        raise ValueError(f"{text!r} is not a whole UUID")
    handles, failed = {}, None
    for name in [text] if text[:4] in ("GPU-", "MIG-") else [f"GPU-{text}", f"MIG-{text}"]:
        try:
            handles[name] = pynvml.nvmlDeviceGetHandleByUUID(name)
        except pynvml.NVMLError as error:
            failed = failed or error
    if len(handles) > 1:
        raise ValueError(f"{text!r} means {' and '.join(handles)}")
    for name, handle in handles.items():
        parent = pynvml.nvmlDeviceGetDeviceHandleFromMigDeviceHandle
        return Card(handle, parent(handle) if name.startswith("MIG-") else handle)
    raise failed or ValueError(f"no card {text!r}")


def _events(handle: Any) -> list[str]:
    bits = pynvml.nvmlDeviceGetCurrentClocksEventReasons(handle)
    return [name for name in EVENTS if bits & getattr(pynvml, f"nvmlClocksEventReason{name}")]


def _temperature(handle: Any) -> int:
    """By the newer call where the package has it: the older one is to go."""
    query = getattr(pynvml, "nvmlDeviceGetTemperatureV", pynvml.nvmlDeviceGetTemperature)
    return int(query(handle, pynvml.NVML_TEMPERATURE_GPU))


def _driver() -> str:
    version = pynvml.nvmlSystemGetDriverVersion()
    return version.decode() if isinstance(version, bytes) else str(version)
