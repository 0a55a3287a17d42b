"""The machine and the settings that a measurement depends on."""

import contextlib
import importlib.metadata
import os
import platform
import re
import sys
import tracemalloc
from collections.abc import Collection
from typing import Any

import psutil
import torch

from attnlib.errors import message
from attnlib.measure import cgroups, nvml
from attnlib.measure.cores import default_threads, usable_cpus
from attnlib.measure.device import Cuda, Device

# an allow-list: no other environment variable is ever saved
VARIABLES = (
    "ATEN_CPU_CAPABILITY", "CUBLASLT_WORKSPACE_SIZE", "CUBLAS_WORKSPACE_CONFIG",
    "CUDA_DEVICE_MAX_CONNECTIONS", "CUDA_DEVICE_ORDER",
    "CUDA_LAUNCH_BLOCKING", "CUDA_MODULE_LOADING", "CUDA_VISIBLE_DEVICES",
    "GOMP_CPU_AFFINITY", "GOMP_SPINCOUNT", "KMP_AFFINITY", "HIP_VISIBLE_DEVICES", "GLIBC_TUNABLES", "KMP_BLOCKTIME",
    "LD_PRELOAD", "MALLOC_ARENA_MAX", "MALLOC_CONF", "MALLOC_MMAP_MAX_", "MALLOC_MMAP_THRESHOLD_", "MALLOC_TOP_PAD_",
    "MALLOC_TRIM_THRESHOLD_", "MKL_NUM_THREADS", "OMP_NUM_THREADS", "OMP_PLACES", "OMP_PROC_BIND", "OMP_WAIT_POLICY",
    "NVIDIA_TF32_OVERRIDE", "ONEDNN_DEFAULT_FPMATH_MODE",
    "ONEDNN_MAX_CPU_ISA", "PYTORCH_ALLOC_CONF", "PYTORCH_CUDA_ALLOC_CONF",
    "PYTHONMALLOC", "ROCR_VISIBLE_DEVICES", "TORCH_ALLOW_TF32_CUBLAS_OVERRIDE", "TORCH_BLAS_PREFER_CUBLASLT",
    "TORCH_CUBLASLT_UNIFIED_WORKSPACE", "TORCH_CUDNN_SDPA_DEPRIORITIZED", "TORCH_CUDNN_SDPA_PREFERRED",
)  # fmt: skip
FOLDERS = re.compile(r"[^\s:;,=]*/")  # private: a value such as LD_PRELOAD's is saved without its folders
DISTRIBUTIONS = ("attnlib", "torch", "numpy", "scipy", "pytest", "pytest-benchmark", "nvidia-ml-py", "psutil")


def flushes_subnormals() -> bool:
    """Return True if float32 arithmetic on this thread flushes subnormal numbers to zero."""
    tiny = torch.full((1,), torch.finfo(torch.float32).tiny, dtype=torch.float32, device="cpu")
    return bool((tiny / 2 == 0).item())


def switches() -> dict[str, tuple[Any, Any]]:
    """Return switches of torch and Python that decide times or numbers: name to (value now, value at a usual start)."""
    cpu = torch.backends.mkldnn
    return {
        "default_dtype": (str(torch.get_default_dtype()), "torch.float32"),
        "default_device": (str(torch.empty(0).device), "cpu"),
        "anomaly_mode": (torch.is_anomaly_enabled(), False),
        "gradients": (torch.is_grad_enabled(), True),
        "autocast": ([name for name in ("cpu", "cuda") if torch.is_autocast_enabled(name)], []),
        "tracer": (tracer(), None),
        "deterministic_algorithms": (torch.are_deterministic_algorithms_enabled(), False),
        "onednn": (cpu.enabled, True),
        "onednn_deterministic": (cpu.deterministic, False),
        "backward_threads": (torch.autograd.is_multithreading_enabled(), True),
        "python_development_mode": (sys.flags.dev_mode, False),
        "python_tracemalloc": (tracemalloc.is_tracing(), False),
    }


# switches that make a case another one, or many times as slow: nothing is measured if one is changed
REFUSED = ("default_dtype", "default_device", "anomaly_mode", "gradients", "autocast", "tracer")
SET_BY_TESTS = ("default_dtype", "default_device", "gradients", "autocast")  # those that people's own tests may set


def tracer() -> str | None:
    """Return the name of the trace or profile function that is set, such as a debugger's; None if none is."""
    called = sys.gettrace() or sys.getprofile()
    if called is None:
        return None
    kind = called if hasattr(called, "__qualname__") else type(called)
    return f"{kind.__module__}.{kind.__qualname__}"


def changed_switches() -> dict[str, Any]:
    """Return the values of those ``switches`` that are not as at a usual start."""
    return {name: now for name, (now, usual) in switches().items() if now != usual}


def refuse_changed(threads: int | None, allowed: Collection[str] = ()) -> None:
    """Refuse to measure with a changed switch or too many threads, which would falsify times or numbers.

    Args:
        threads: torch's intra-op threads.
        allowed: switches that may be changed all the same.

    Raises:
        ValueError: a switch of ``REFUSED`` is changed, **or** there are more threads than CPUs for this process.
    """
    for name, (now, usual) in switches().items():
        if name in REFUSED and name not in allowed and now != usual:
            wrong = f"nothing is measured with {name}={now}, set outside of attnlib"
            raise ValueError(message(wrong, do=f"set it back to {usual}"))
    cpus = usable_cpus()
    if threads is not None and threads > cpus:
        only = f"{cpus} CPUs" if cpus > 1 else "one CPU"
        raise ValueError(message(f"{threads} threads, but this process may use {only}", do="take fewer threads"))


def set_threads(threads: int | None) -> None:
    """Set the number of threads that torch uses for one operation; None leaves one core free."""
    torch.set_num_threads(threads or default_threads(torch.get_num_threads()))


def versions() -> dict[str, str | None]:
    """Return the version of each library that a measurement depends on; None if it is not installed."""
    found: dict[str, str | None] = dict.fromkeys(DISTRIBUTIONS)
    for name in DISTRIBUTIONS:
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            found[name] = importlib.metadata.version(name)
    return found


def kernel_choices() -> dict[str, bool]:
    """Return the settings that decide which kernels run: TF32, cuDNN's modes and the allowed attention kernels."""
    cuda, cudnn = torch.backends.cuda, torch.backends.cudnn
    return {
        "cudnn_tf32": cudnn.allow_tf32,
        "cudnn_benchmark": cudnn.benchmark,
        "cudnn_deterministic": cudnn.deterministic,
        "half_sums_in_half": bool(cuda.matmul.allow_fp16_reduced_precision_reduction),
        "bfloat16_sums_in_bfloat16": bool(cuda.matmul.allow_bf16_reduced_precision_reduction),
        "flash_attention": cuda.flash_sdp_enabled(),
        "efficient_attention": cuda.mem_efficient_sdp_enabled(),
        "cudnn_attention": cuda.cudnn_sdp_enabled(),
        "attention_math": cuda.math_sdp_enabled(),
    }


def node() -> str:
    """Return the machine's name: Slurm's node name if there is one (a host may have several), else the host name."""
    return os.environ.get("SLURMD_NODENAME") or platform.node()


def _of_the_driver(device: Device) -> dict[str, Any]:
    if not isinstance(device, Cuda):
        return {}
    with nvml.card(device.describe()["uuid"]) as card:
        return card.identity() | {"attention_order": device.attention_order()}


def describe(device: Device) -> dict[str, Any]:
    """Return what is saved as ``machine_info.attnlib``: machine and settings, nothing that changes during a run."""
    memory = psutil.virtual_memory()
    return {
        "device": device.describe() | _of_the_driver(device),
        "python": sys.version.split()[0],
        "versions": versions(),
        "threads": torch.get_num_threads(),
        "interop_threads": torch.get_num_interop_threads(),
        "affinity": sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else None,
        "logical_cpus": psutil.cpu_count(),
        "cpu_quota": cgroups.cpu_quota(),
        "memory_bytes": memory.total,
        "flush_subnormals": flushes_subnormals(),
        "float32_matmul_precision": torch.get_float32_matmul_precision(),
        "switches": changed_switches(),
        "deterministic_algorithms": torch.are_deterministic_algorithms_enabled(),
        "kernels": kernel_choices(),
        "environment": {name: FOLDERS.sub("", os.environ[name]) for name in VARIABLES if name in os.environ},
    }
