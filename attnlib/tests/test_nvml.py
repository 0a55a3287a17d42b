"""NVML readings through the real pynvml, against a compiled stand-in for the driver's library."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

UUID = "GPU-11111111-2222-3333-4444-555555555555"
CODE = """
import json, sys
from attnlib.measure import nvml
print(json.dumps([nvml.memory(sys.argv[1]), nvml.driver_version(), nvml.clocks(sys.argv[1])]))
"""


@pytest.fixture(name="library", scope="module")
def _library(tmp_path_factory):
    compiler = shutil.which("cc") or shutil.which("gcc")
    if compiler is None:
        pytest.skip("no C compiler for the stand-in")
    folder = tmp_path_factory.mktemp("nvml")
    source = Path(__file__).with_name("fake_nvml.c")
    subprocess.run([compiler, "-shared", "-fPIC", "-o", folder / "libnvidia-ml.so.1", source], check=True)
    return folder


def read(folder, fault="", uuid=UUID):
    environment = os.environ | {"LD_LIBRARY_PATH": str(folder), "FAKE_NVML": fault}
    done = subprocess.run(
        [sys.executable, "-c", CODE, uuid], env=environment, capture_output=True, text=True, check=True
    )
    assert done.stderr == ""
    readings, driver, clocks = json.loads(done.stdout)
    return readings["nvml_device_used"], readings["nvml_process"], driver, clocks


def test_readings_of_a_healthy_card(library):
    """The card's 700 bytes and this process's 600 are read by UUID."""
    device, process, driver, _ = read(library)

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
def test_every_fault_is_a_null_with_a_reason(library, fault, device, process, reason):
    """What the driver withholds is null with its reason, and nothing else is lost."""
    readings = read(library, fault)

    assert (readings[0]["value"], readings[1]["value"]) == (device, process)
    if reason is not None:
        assert reason in readings[1]["reason"]


@pytest.mark.parametrize(
    ("fault", "reasons"), [("", ["SwPowerCap"]), ("hot", ["SwPowerCap", "SwThermalSlowdown", "HwThermalSlowdown"])]
)
def test_clocks_of_a_card(library, fault, reasons):
    """The SM clock, its maximum and every reason that holds it down, in NVML's words."""
    assert read(library, fault)[3] == {"sm_mhz": 1500, "max_sm_mhz": 1980, "event_reasons": reasons, "reason": None}


def test_clocks_that_are_not_told(library):
    """Null with a reason."""
    clocks = read(library, "not_supported")[3]

    assert (clocks["sm_mhz"], clocks["event_reasons"]) == (None, None)
    assert "Not Supported" in clocks["reason"]


def test_unknown_uuid(library):
    """Another card's UUID is not found rather than read from the first card."""
    device, process, _, clocks = read(library, uuid="GPU-0")

    assert "Not Found" in device["reason"]
    assert "Not Found" in process["reason"]
    assert "Not Found" in clocks["reason"]


def test_no_library(tmp_path):
    """Without NVML every reading is null with a reason."""
    device, _, driver, _ = read(tmp_path)

    if driver is None:
        assert device["value"] is None
        assert "NVML" in device["reason"]
