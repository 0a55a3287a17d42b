"""Energy of a step, on counters of known behaviour."""

from contextlib import contextmanager

import pytest

from attnlib.measure import clock
from attnlib.measure import energy as module
from attnlib.measure.device import Device
from attnlib.measure.energy import Rapl, energy, judged
from attnlib.tests.measure.fake_cuda import open_fake


def r(value, reason=None):
    return {"value": value, "method": "m", "reason": reason}


POWER = [(at / 10, r(100.0 if at >= 10 else 10.0)) for at in range(21)]  # it lags, and is right in the second half


def package(root, name, joules, most=2**32, kind="package-0"):
    folder = root / name
    folder.mkdir()
    (folder / "name").write_text(f"{kind}\n")
    (folder / "energy_uj").write_text(f"{round(joules * 1e6)}\n")
    (folder / "max_energy_range_uj").write_text(f"{most}\n")
    return folder


def test_joules_of_a_step():
    """They are the counter's gain over the steps of the window; the power of the second half stands beside it."""
    found = judged(r(1000.0), r(1200.0), 50, 2.0, POWER)

    assert found["joules"] == r(4.0)
    assert found["power_w"] == r(100.0)
    assert (found["steps"], found["window_s"]) == (50, 2.0)


@pytest.mark.parametrize(
    ("first", "last", "reason"),
    [
        (r(5.0), r(5.0), "the counter stood still for 2.0 s"),
        (r(5.0), r(4.0), "the counter stood still for 2.0 s"),
        (r(5.0), r(None, "NVML: GPU is lost"), "NVML: GPU is lost"),
        (r(0.0), r(300.0), "the counter says 300 J and the power 200 J over 2.0 s"),
    ],
)
def test_a_counter_that_is_not_believed(first, last, reason):
    """One that stands still, is lost, or is contradicted by the power's integral is null and never 0."""
    assert judged(first, last, 50, 2.0, POWER)["joules"] == r(None, reason)


def test_power_that_is_not_told_contradicts_nothing():
    """If only the counter exists, it counts."""
    found = judged(r(0.0), r(300.0), 50, 2.0, [(2.0, r(None, "Not Supported"))])

    assert found["joules"] == r(6.0)
    assert found["power_w"]["reason"] == "Not Supported"


def test_packages_are_summed_and_overflow(tmp_path):
    """Packages, not their parts nor the platform that holds them; a counter that began anew goes on."""
    first = package(tmp_path, "intel-rapl:0", 10.0, most=20_000_000)
    package(tmp_path, "intel-rapl:1", 5.0)
    package(tmp_path, "intel-rapl:0:0", 99.0, kind="core")
    package(tmp_path, "intel-rapl:2", 99.0, kind="psys")
    counter = Rapl(tmp_path)
    assert counter.joules()["value"] == 15.0

    (first / "energy_uj").write_text("1000000")
    assert counter.joules()["value"] == 26.0


def test_counters_that_are_missing_or_forbidden(tmp_path, monkeypatch):
    """Null with the system's reason."""
    assert Rapl(tmp_path).joules() == {
        "value": None,
        "method": "RAPL, energy_uj of all packages",
        "reason": "this system shows no RAPL counters",
    }
    (package(tmp_path, "intel-rapl:0", 1.0) / "energy_uj").unlink()
    assert "RAPL's counters cannot be read: No such file" in Rapl(tmp_path).joules()["reason"]


def test_a_window_of_steps(tmp_path, monkeypatch):
    """Steps are repeated for the whole window, and their number divides what it took."""
    folder, calls = package(tmp_path, "intel-rapl:0", 0.0), []

    def step():
        calls.append(1)
        (folder / "energy_uj").write_text(str(2_000_000 * len(calls)))

    monkeypatch.setattr(module, "Rapl", lambda: Rapl(tmp_path))
    found = energy(Device(), step, 0.1)

    assert found["joules"]["value"] == pytest.approx(2.0)
    assert found["steps"] == len(calls) > 0
    assert found["window_s"] >= 0.5


def test_no_counter_no_steps(monkeypatch, tmp_path):
    """If nothing counts energy, nothing is run."""
    monkeypatch.setattr(module, "Rapl", lambda: Rapl(tmp_path))
    found = energy(Device(), pytest.fail, 0.1)

    assert (found["joules"]["value"], found["steps"]) == (None, 0)
    assert found["joules"]["reason"]


def test_only_the_steps_of_the_window_count(monkeypatch):
    """On a queue, what was left in it before is no part of the window, and every step that was queued is."""
    fake, device = open_fake(monkeypatch)

    class Counter:
        def joules(self):
            return r(100.0 * fake.done)  # 100 W while it works

        def watts(self):
            return r(None, "Not Supported")

    @contextmanager
    def counter(_device):
        yield Counter(), 2.0

    monkeypatch.setattr(module, "counter", counter)
    fake.launch(5.0)
    found = energy(device, lambda: fake.launch(0.01), 0.01)
    monkeypatch.undo()
    clock.bind(Device())

    assert found["joules"]["value"] == pytest.approx(1.0, rel=1e-3)
    assert found["window_s"] == pytest.approx(found["steps"] * 0.01, rel=0.01)
