"""NVML readings through the real pynvml, against a compiled stand-in for the driver's library."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from attnlib.measure import nvml

BARE = "11111111-2222-3333-4444-555555555555"
OTHER = "99999999-2222-3333-4444-555555555555"
CARD, SLICE = f"GPU-{BARE}", "MIG-77777777-2222-3333-4444-555555555555"
HEALTHY = """
used 700
reserved 50
process 1 5
process self 600
reasons 0x4
energy 1000
grows 500
"""
ONE = f"card {CARD}{HEALTHY}"
NOT_SUPPORTED, NO_PERMISSION, LOST = 3, 4, 15
CODE = """
import json, os, sys, warnings
warnings.simplefilter("always")
from attnlib.measure import nvml
for line in sys.stdin:
    profile, uuid, environment = json.loads(line)
    with open(os.environ["FAKE_NVML"], "w") as file:
        file.write(profile)
    os.environ |= environment
    with nvml.card(uuid) as card:
        found = card.memory() | card.state() | {"joules": card.joules(), "again": card.joules()} | card.identity()
    print(json.dumps(found), flush=True)
"""


class Reader:
    """A process that finds NVML in ``folder``; imports torch once and reads a card as often as it is called."""

    def __init__(self, folder, profile):
        environment = os.environ | {"LD_LIBRARY_PATH": str(folder), "FAKE_NVML": str(profile)}
        pipes = dict.fromkeys(("stdin", "stdout", "stderr"), subprocess.PIPE)
        self.process = subprocess.Popen([sys.executable, "-c", CODE], env=environment, text=True, **pipes)

    def __call__(self, profile=ONE, uuid=CARD, **environment):
        self.process.stdin.write(json.dumps([profile, uuid, environment]) + "\n")
        self.process.stdin.flush()
        return json.loads(self.process.stdout.readline())

    def close(self):
        """Nothing that it was asked made it warn, once or twice."""
        _, printed = self.process.communicate()
        assert printed == ""


@pytest.fixture(name="library", scope="session")
def _library(tmp_path_factory):
    compiler = shutil.which("cc") or shutil.which("gcc")
    if compiler is None:
        pytest.skip("no C compiler for the stand-in")
    folder = tmp_path_factory.mktemp("nvml")
    source = Path(__file__).with_name("fake_nvml.c")
    subprocess.run([compiler, "-shared", "-fPIC", "-o", folder / "libnvidia-ml.so.1", source], check=True)
    return folder


@pytest.fixture(name="read", scope="module")
def _read(library, tmp_path_factory):
    reader = Reader(library, tmp_path_factory.mktemp("profile") / "profile")
    yield reader
    reader.close()


def values(found):
    return {name: r["value"] if isinstance(r, dict) else r for name, r in found.items()}


def test_readings_of_a_healthy_card(read):
    """Each reading by UUID, in bytes, MHz, degrees, watts and joules; reserved memory is not used memory."""
    assert values(read()) == {
        "nvml_device_used": 700,
        "nvml_device_reserved": 50,
        "nvml_process": 600,
        "sm_mhz": 1500,
        "max_sm_mhz": 1980,
        "memory_mhz": 2600,
        "event_reasons": ["SwPowerCap"],
        "temperature_c": 55,
        "power_w": 200.0,
        "other_processes": 1,
        "joules": 1.0,
        "again": 1.5,
        "driver": "999.01",
        "mig": False,
    }
    assert all(reading["reason"] is None for reading in read().values() if isinstance(reading, dict))


QUERIES = {  # the call that fails: the readings that it takes away
    "nvmlDeviceGetComputeRunningProcesses_v3": {"nvml_process", "other_processes"},
    "nvmlDeviceGetCurrentClocksEventReasons": {"event_reasons"},
    "nvmlDeviceGetClockInfo": {"sm_mhz", "memory_mhz"},
    "nvmlDeviceGetMaxClockInfo": {"max_sm_mhz"},
    "nvmlDeviceGetPowerUsage": {"power_w"},
    "nvmlDeviceGetTotalEnergyConsumption": {"joules", "again"},
    "nvmlDeviceGetMigMode": {"mig"},
    "nvmlSystemGetDriverVersion": {"driver"},
}


@pytest.mark.parametrize("query", QUERIES)
@pytest.mark.parametrize(
    ("code", "reason"), [(NOT_SUPPORTED, "Not Supported"), (NO_PERMISSION, "Insufficient Permissions")]
)
def test_one_query_that_fails_takes_no_other_away(read, query, code, reason):
    """A reading that the driver withholds is null with its own reason, and every other reading is there."""
    found = read(f"{ONE}fail {query} {code}")

    assert {name for name, value in values(found).items() if value is None} == QUERIES[query]
    assert all(reason in found[name]["reason"] for name in QUERIES[query] if isinstance(found[name], dict))


def test_the_temperature_has_an_older_call(read):
    """It is asked where the newer one fails; without either the reading is null with the reason."""
    newer, older = (f"fail nvmlDeviceGetTemperature{version} {NOT_SUPPORTED}\n" for version in ("V", ""))

    assert read(ONE + newer)["temperature_c"]["value"] == 55
    assert read(ONE + newer + older)["temperature_c"]["value"] is None
    assert "Not Supported" in read(ONE + newer + older)["temperature_c"]["reason"]


def test_an_older_driver_counts_reserved_memory(read):
    """If the second version of the call fails, the first one's number says what it is."""
    found = read(f"{ONE}fail nvmlDeviceGetMemoryInfo_v2 25")

    assert found["nvml_device_used"]["value"] == 750
    assert "v1" in found["nvml_device_used"]["method"]
    assert "reserved memory counted too" in found["nvml_device_used"]["method"]
    assert "Argument Version Mismatch" in found["nvml_device_reserved"]["reason"]


def test_unified_memory(read):
    """A card without memory of its own tells none; its processes and clocks are read."""
    faults = "\n".join(f"fail nvmlDeviceGetMemoryInfo{version} {NOT_SUPPORTED}" for version in ("", "_v2"))
    found = read(f"{ONE}{faults}")

    assert found["nvml_device_used"]["value"] is None
    assert "Not Supported" in found["nvml_device_used"]["reason"]
    assert (found["nvml_process"]["value"], found["sm_mhz"]["value"]) == (600, 1500)


@pytest.mark.parametrize(
    ("processes", "reason"),
    [
        ("process 1 5", "the driver does not list this process"),
        ("", "the driver does not list this process"),
        ("process self 0", "the driver lists this process without its memory"),
        ("process self none", "the driver lists this process without its memory"),
    ],
)
def test_process_memory_that_is_not_ours(read, processes, reason):
    """Process ids of outside a container, and bytes of 0 or none, are null and never a number."""
    found = read(f"card {CARD}\nused 700\n{processes}")

    assert (found["nvml_process"]["value"], found["nvml_process"]["reason"]) == (None, reason)
    assert found["nvml_device_used"]["value"] == 700


def test_whose_the_processes_are_is_not_guessed(read):
    """If this process is not listed, the others are not counted: one of them may be this one."""
    assert read(f"card {CARD}\nprocess 1 5")["other_processes"]["value"] is None
    assert read(f"card {CARD}")["other_processes"]["value"] is None
    assert read(f"card {CARD}\nprocess self 5")["other_processes"]["value"] == 0


@pytest.mark.parametrize("visible", [None, "2,0", CARD, SLICE, ""])
@pytest.mark.parametrize("uuid", [CARD, BARE, f"{BARE}\0\0", f"  {CARD}\n"])
def test_a_card_is_found_by_its_uuid_alone(read, visible, uuid):
    """Whatever CUDA_VISIBLE_DEVICES says, and in whichever order NVML has the cards."""
    environment = {} if visible is None else {"CUDA_VISIBLE_DEVICES": visible}

    for profile in (f"card GPU-{OTHER}\nused 1\n{ONE}", f"{ONE}card GPU-{OTHER}\nused 1\n"):
        assert read(profile, uuid, **environment)["nvml_device_used"]["value"] == 700


@pytest.mark.parametrize("uuid", [SLICE, SLICE.removeprefix("MIG-")])
def test_a_slice_has_memory_of_its_own_and_clocks_of_the_whole(read, uuid):
    """A MIG slice: memory is its own, clocks and power are the card's and say so, energy is nobody's."""
    found = read(f"{ONE}mig 1\nslice {SLICE}\nused 70\nsm 1\n", uuid)

    assert found["nvml_device_used"]["value"] == 70
    assert found["sm_mhz"] == {"value": 1500, "method": "SM clock, of the whole card", "reason": None}
    assert found["joules"]["reason"] == "NVML counts the energy of whole cards only"
    assert found["mig"] is True


@pytest.mark.parametrize(
    ("uuid", "reason"),
    [
        ("GPU-1111", "'GPU-1111' is not a whole UUID"),
        ("", "'' is not a whole UUID"),
        ("0", "'0' is not a whole UUID"),
        (OTHER, "Not Found"),
    ],
)
def test_no_card_is_guessed(read, uuid, reason):
    """Part of a UUID, an index or another card's UUID reads nothing from the card that is there."""
    found = read(uuid=uuid)

    readings = [reading for reading in found.values() if isinstance(reading, dict)]
    assert all(reading["value"] is None and reason in reading["reason"] for reading in readings)


def test_an_ambiguous_uuid_is_refused(read):
    """A bare one that a card and a slice answer to."""
    found = read(f"card GPU-{BARE}\nslice MIG-{BARE}\n", BARE)

    assert f"means GPU-{BARE} and MIG-{BARE}" in found["sm_mhz"]["reason"]


@pytest.mark.parametrize(("fault", "reason"), [(f"fail nvmlInit {9}", "Driver Not Loaded")])
def test_no_driver(read, fault, reason):
    """Every reading is null with that reason."""
    readings = [reading for reading in read(ONE + fault).values() if isinstance(reading, dict)]

    assert all(reading["value"] is None and reason in reading["reason"] for reading in readings)


def test_a_card_that_is_lost(read):
    """Every call fails, each reading says so, and the next card is read as ever."""
    calls = ("MemoryInfo", "MemoryInfo_v2", "ClockInfo", "PowerUsage", "TotalEnergyConsumption")
    found = read(ONE + "\n".join(f"fail nvmlDeviceGet{call} {LOST}" for call in calls))

    assert "GPU is lost" in found["nvml_device_used"]["reason"]
    assert read()["nvml_device_used"]["value"] == 700


def test_no_library():
    """Without NVML every reading is null with a reason, and nothing warns."""
    with nvml.card(CARD) as card:
        found, driver = card.memory(), card.identity()["driver"]

    if driver is None:
        assert found["nvml_device_used"]["value"] is None
        assert "NVML" in found["nvml_device_used"]["reason"]


def test_an_old_distribution_reads_null(monkeypatch):
    """Functions that it lacks, and arguments that it wants as bytes, are reasons and no errors."""
    monkeypatch.setattr(nvml.pynvml, "nvmlInit", lambda: None)
    monkeypatch.setattr(nvml.pynvml, "nvmlShutdown", lambda: None)
    monkeypatch.setattr(nvml.pynvml, "nvmlSystemGetDriverVersion", lambda: b"470.1")
    monkeypatch.delattr(nvml.pynvml, "nvmlDeviceGetCurrentClocksEventReasons")

    def wants_bytes(uuid):
        raise TypeError("bytes or integer address expected instead of str instance")

    monkeypatch.setattr(nvml.pynvml, "nvmlDeviceGetHandleByUUID", wants_bytes)
    with nvml.card(CARD) as card:
        assert all(reading["value"] is None and "bytes" in reading["reason"] for reading in card.memory().values())
    monkeypatch.setattr(nvml.pynvml, "nvmlDeviceGetHandleByUUID", lambda uuid: object())
    with nvml.card(CARD) as card:
        assert "nvmlDeviceGetCurrentClocksEventReasons" in card.state()["event_reasons"]["reason"]
        assert card.identity()["driver"] == "470.1"
