"""NVML readings through the real pynvml, against a compiled stand-in for the driver's library."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from attnlib.measure import nvml

UUID = "GPU-11111111-2222-3333-4444-555555555555"
CODE = """
import json, os, sys
from attnlib.measure import nvml
for line in sys.stdin:
    fault, uuid = json.loads(line)
    os.environ["FAKE_NVML"] = fault
    print(json.dumps([nvml.memory(uuid), nvml.driver_version(), nvml.clocks(uuid)]), flush=True)
"""


class Reader:
    """A process that finds NVML in ``folder``; imports torch once and reads the card as often as it is called."""

    def __init__(self, folder):
        environment = os.environ | {"LD_LIBRARY_PATH": str(folder)}
        pipes = dict.fromkeys(("stdin", "stdout", "stderr"), subprocess.PIPE)
        self.process = subprocess.Popen([sys.executable, "-c", CODE], env=environment, text=True, **pipes)

    def __call__(self, fault="", uuid=UUID):
        self.process.stdin.write(json.dumps([fault, uuid]) + "\n")
        self.process.stdin.flush()
        readings, driver, clocks = json.loads(self.process.stdout.readline())
        return readings["nvml_device_used"], readings["nvml_process"], driver, clocks

    def close(self):
        _, printed = self.process.communicate()
        assert printed == ""


@pytest.fixture(name="read", scope="module")
def _read(tmp_path_factory):
    compiler = shutil.which("cc") or shutil.which("gcc")
    if compiler is None:
        pytest.skip("no C compiler for the stand-in")
    folder = tmp_path_factory.mktemp("nvml")
    source = Path(__file__).with_name("fake_nvml.c")
    subprocess.run([compiler, "-shared", "-fPIC", "-o", folder / "libnvidia-ml.so.1", source], check=True)
    reader = Reader(folder)
    yield reader
    reader.close()


def test_readings_of_a_healthy_card(read):
    """The card's 700 bytes and this process's 600 are read by UUID."""
    device, process, driver, _ = read()

    assert (device["value"], device["reason"]) == (700, None)
    assert (process["value"], process["reason"]) == (600, None)
    assert driver == "999.01"


@pytest.mark.parametrize(
    ("fault", "device", "process", "reason"),
    [
        ("no_driver", None, None, "Driver Not Loaded"),
        ("not_supported", None, 600, None),
        ("no_permission", 700, None, "Insufficient Permissions"),
        ("other_pids", 700, None, "the driver does not list this process"),
        ("zero", 700, None, "the driver lists this process without its memory"),
        ("hidden", 700, None, "the driver lists this process without its memory"),
    ],
)
def test_every_fault_is_a_null_with_a_reason(read, fault, device, process, reason):
    """What the driver withholds is null with its reason, and nothing else is lost."""
    readings = read(fault)

    assert (readings[0]["value"], readings[1]["value"]) == (device, process)
    if reason is not None:
        assert reason in readings[1]["reason"]


@pytest.mark.parametrize(
    ("fault", "reasons"), [("", ["SwPowerCap"]), ("hot", ["SwPowerCap", "SwThermalSlowdown", "HwThermalSlowdown"])]
)
def test_clocks_of_a_card(read, fault, reasons):
    """The SM clock, its maximum and every reason that holds it down, in NVML's words."""
    assert read(fault)[3] == {"sm_mhz": 1500, "max_sm_mhz": 1980, "event_reasons": reasons, "reason": None}


def test_clocks_that_are_not_told(read):
    """Null with a reason."""
    clocks = read("not_supported")[3]

    assert (clocks["sm_mhz"], clocks["event_reasons"]) == (None, None)
    assert "Not Supported" in clocks["reason"]


def test_unknown_uuid(read):
    """Another card's UUID is not found rather than read from the first card."""
    device, process, _, clocks = read(uuid="GPU-0")

    assert "Not Found" in device["reason"]
    assert "Not Found" in process["reason"]
    assert "Not Found" in clocks["reason"]


def test_no_library(tmp_path):
    """Without NVML every reading is null with a reason."""
    reader = Reader(tmp_path)
    device, _, driver, _ = reader()
    reader.close()

    if driver is None:
        assert device["value"] is None
        assert "NVML" in device["reason"]


def test_an_old_distribution_reads_null(monkeypatch):
    """Functions that it lacks, and arguments that it wants as bytes, are reasons and no errors."""
    monkeypatch.setattr(nvml.pynvml, "nvmlInit", lambda: None)
    monkeypatch.setattr(nvml.pynvml, "nvmlShutdown", lambda: None)
    monkeypatch.setattr(nvml.pynvml, "nvmlSystemGetDriverVersion", lambda: b"470.1")
    monkeypatch.delattr(nvml.pynvml, "nvmlDeviceGetCurrentClocksEventReasons")

    def wants_bytes(uuid):
        raise TypeError("bytes or integer address expected instead of str instance")

    monkeypatch.setattr(nvml.pynvml, "nvmlDeviceGetHandleByUUID", wants_bytes)

    assert all(reading["value"] is None and "bytes" in reading["reason"] for reading in nvml.memory(UUID).values())
    assert nvml.clocks(UUID)["sm_mhz"] is None
    monkeypatch.setattr(nvml.pynvml, "nvmlDeviceGetHandleByUUID", lambda uuid: object())
    assert "nvmlDeviceGetCurrentClocksEventReasons" in nvml.clocks(UUID)["reason"]
    assert nvml.driver_version() == "470.1"
