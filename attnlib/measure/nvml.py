"""NVML readings by UUID. NVML has no peaks: each reading is of one instant, right after a step."""

import os
from typing import Any

import pynvml

from attnlib.measure.device import reading

# the driver's answer; and what an old distribution, also called pynvml, lacks or takes otherwise
FAILURES = (pynvml.NVMLError, AttributeError, TypeError)
EVENTS = (
    *("GpuIdle", "ApplicationsClocksSetting", "SwPowerCap", "HwSlowdown", "SyncBoost"),
    *("SwThermalSlowdown", "HwThermalSlowdown", "HwPowerBrakeSlowdown", "DisplayClockSetting"),
)


def memory(uuid: str) -> dict[str, dict[str, Any]]:
    """Bytes in use on the card (all processes) and by this process, as the driver counts them now.

    NVML ignores CUDA_VISIBLE_DEVICES and orders cards its own way, so the card is found by UUID, never by index.
    A driver in a container may list other process ids than ours, or 0 bytes: both read as null.

    Args:
        uuid: ``GPU-...`` or ``MIG-...``, as torch and nvidia-smi print it.
    """
    try:
        pynvml.nvmlInit()
    except FAILURES as error:
        missing = reading(None, "NVML", f"NVML: {error}")
        return {"nvml_device_used": missing, "nvml_process": missing}
    try:
        return {"nvml_device_used": _device_used(uuid), "nvml_process": _process_used(uuid)}
    finally:
        pynvml.nvmlShutdown()


def driver_version() -> str | None:
    """The NVIDIA driver's version, or None where there is no driver."""
    try:
        pynvml.nvmlInit()
    except FAILURES:
        return None
    try:
        version = pynvml.nvmlSystemGetDriverVersion()
        return version.decode() if isinstance(version, bytes) else str(version)
    finally:
        pynvml.nvmlShutdown()


def clocks(uuid: str) -> dict[str, Any]:
    """SM clock of a card now and at most, in MHz, and why it is not higher, in NVML's words; null with a ``reason``."""
    unread = {"sm_mhz": None, "max_sm_mhz": None, "event_reasons": None}
    try:
        pynvml.nvmlInit()
    except FAILURES as error:
        return unread | {"reason": f"NVML: {error}"}
    try:
        handle = pynvml.nvmlDeviceGetHandleByUUID(uuid)
        bits = pynvml.nvmlDeviceGetCurrentClocksEventReasons(handle)
        return {
            "sm_mhz": int(pynvml.nvmlDeviceGetClockInfo(handle, pynvml.NVML_CLOCK_SM)),
            "max_sm_mhz": int(pynvml.nvmlDeviceGetMaxClockInfo(handle, pynvml.NVML_CLOCK_SM)),
            "event_reasons": [name for name in EVENTS if bits & getattr(pynvml, f"nvmlClocksEventReason{name}")],
            "reason": None,
        }
    except FAILURES as error:
        return unread | {"reason": f"NVML: {error}"}
    finally:
        pynvml.nvmlShutdown()


def _device_used(uuid: str) -> dict[str, Any]:
    method = "nvmlDeviceGetMemoryInfo used, instant after the step"
    try:
        return reading(int(pynvml.nvmlDeviceGetMemoryInfo(pynvml.nvmlDeviceGetHandleByUUID(uuid)).used), method)
    except FAILURES as error:
        return reading(None, method, f"NVML: {error}")


def _process_used(uuid: str) -> dict[str, Any]:
    method = "nvmlDeviceGetComputeRunningProcesses usedGpuMemory, instant after the step"
    try:
        handle = pynvml.nvmlDeviceGetHandleByUUID(uuid)
        used = {p.pid: p.usedGpuMemory for p in pynvml.nvmlDeviceGetComputeRunningProcesses(handle)}
    except FAILURES as error:
        return reading(None, method, f"NVML: {error}")
    if os.getpid() not in used:
        return reading(None, method, "the driver does not list this process")
    if not used[os.getpid()]:
        return reading(None, method, "the driver lists this process without its memory")
    return reading(int(used[os.getpid()]), method)
