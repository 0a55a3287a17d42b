"""Disturbances of a measurement: counters, what they mean, the second attempt, and the canary."""

import subprocess
import sys
import time
from functools import partial

import numpy as np
import psutil
import pytest

from attnlib.measure import noise
from attnlib.measure.canary import ROUNDS, Canary
from attnlib.measure.device import Device
from attnlib.measure.noise import Disturbance, disturbed
from attnlib.measure.sampling import Pilot
from attnlib.plugin.pair import Pair, visit

QUIET = {
    "wall_s": 1.0,
    "cpu_s_per_wall_s": 2.0,
    "cpu_pressure": 0.01,
    "steal": 0.0,
    "involuntary_switches": 3,
    "page_faults": 10,
    "load_average": 1.0,
    "card": None,
}


def card(sm_mhz=1900, reasons=("SwPowerCap",), before=()):
    """Readings of a card before and after."""
    states = [{"sm_mhz": {"value": sm_mhz}, "event_reasons": {"value": why}} for why in (before, reasons)]
    return {"card": dict(zip(("before", "after"), states, strict=True))}


def test_counters_of_a_busy_process():
    """A loop of 0.2 s uses about a CPU second a second; every counter is a number or null."""
    watch = Disturbance(Device())
    end = time.perf_counter() + 0.2
    while time.perf_counter() < end:
        pass
    seen = watch.read()

    assert seen.keys() == QUIET.keys()
    assert seen["wall_s"] >= 0.2
    assert 0 < seen["cpu_s_per_wall_s"] < 1.5
    assert seen["cpu_pressure"] is None or 0 <= seen["cpu_pressure"] <= 1


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"cpu_pressure": 0.5}, "50%"),
        ({"cpu_pressure": None, "involuntary_switches": 300}, "took the CPU from this process 300 times"),
        ({"steal": 0.2}, "the hypervisor took 20%"),
        ({"cpu_s_per_wall_s": 1.4}, "1.4 CPU seconds per second, 2.0 in its warm-up"),
        (card(reasons=["HwThermalSlowdown"]), "the card slowed down: HwThermalSlowdown"),
        (card(before=["HwSlowdown"]), "the card slowed down: HwSlowdown"),
        (card(sm_mhz=1200), "the SM clock fell from 1900 to 1200 MHz"),
    ],
)
def test_each_sign_of_a_disturbance(change, why):
    """One counter beyond its limit is one reason, in words."""
    (found,) = disturbed(QUIET | change, QUIET | card())

    assert why in found


@pytest.mark.parametrize(
    "change",
    [
        {},
        {"cpu_pressure": 0.2},
        {"cpu_pressure": None, "involuntary_switches": None, "steal": None},
        {"involuntary_switches": 300},
        {"cpu_s_per_wall_s": 1.7},
        {"wall_s": 0.01, "steal": 1.0, "cpu_s_per_wall_s": 1.0},
        card(),
        card(sm_mhz=None, reasons=None, before=None),
    ],
)
def test_what_is_no_disturbance(change):
    """Within the limits, not counted, or counted too coarsely for a short window."""
    assert disturbed(QUIET | change, QUIET) == []


def test_a_disturbed_warm_up_is_no_standard():
    """The CPU time of a disturbed warm-up says nothing about what the process should have."""
    assert disturbed(QUIET | {"cpu_s_per_wall_s": 1.0}, QUIET | {"cpu_pressure": 0.5}) == []


@pytest.fixture(name="busy")
def _busy():
    loops = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(2 * psutil.cpu_count())]
    yield
    for loop in loops:
        loop.kill()
        loop.wait()


@pytest.mark.skipif(noise._cpu_pressure() is None, reason="the kernel counts no CPU pressure")
def test_busy_loops_are_pressure(busy):
    """With two busy loops a CPU somebody waits all the time."""
    time.sleep(0.5)
    watch = Disturbance(Device())
    time.sleep(0.5)

    assert disturbed(watch.read()) != []


class Work:
    """A step whose seconds are read off a list."""

    prepare, flushes = None, 0

    def __init__(self, seconds):
        self.seconds, self.now = iter(seconds), 0.0

    def step(self):
        self.now += next(self.seconds)

    def clock(self):
        return self.now


PILOT = {sides: Pilot(1, 1.0, True, (1,) * sides, (0,) * sides, 2 * (sides - 1), 1, 4, "budget") for sides in (1, 2)}


@pytest.fixture(name="visited")
def _visited(monkeypatch):
    """Visit a pair whose first attempt has these samples, and whose attempts were under such pressure."""

    def made(pair, samples, *pressures):
        found = iter(pressures)
        monkeypatch.setattr(Disturbance, "read", lambda self: QUIET | {"cpu_pressure": next(found)})
        monkeypatch.setattr(Canary, "wait", lambda self: None)
        return visit(pair, PILOT[len(samples)], Canary(Device()), lambda: samples, QUIET)

    return made


def test_a_disturbed_visit_is_made_once_more(visited):
    """The undisturbed attempt counts, whatever its times, and the other one is saved beside it, whole."""
    made = visited(Pair(Work([9.0] * 4)), [[1.0] * 4], 0.5, 0.0)
    saved = made.as_json(3.0)

    assert made.samples == [[9.0] * 4]
    assert (saved["at_s"], saved["rounds"], saved["disturbed"]) == (3.0, 4, [])
    assert saved["seen"]["cpu_pressure"] == 0.0
    (left,) = saved["left"]
    assert left == {"samples": [1.0] * 4, "reference_s": None, "disturbed": disturbed(QUIET | {"cpu_pressure": 0.5})}


def test_two_disturbed_attempts_both_count(visited):
    """Nothing says which of them is better: the ratio is their mean, and the visit says that it was disturbed."""
    made = visited(Pair(Work([4.0] * 4), Work([1.0] * 4)), [[1.0] * 4, [2.0] * 4], 0.5, 0.6)
    saved = made.as_json(0.0)

    assert made.samples == [[1.0] * 8, [2.0] * 4 + [4.0] * 4]
    assert saved["log_ratio"] == pytest.approx(np.log([2, 4]).mean())
    assert (saved["rounds"], saved["left"]) == (8, [])
    assert saved["disturbed"] == disturbed(QUIET | {"cpu_pressure": 0.6})


def test_both_sides_are_measured_once_more(visited):
    """A pair is repeated as a pair, in the same order, and kept or left as one."""
    made = visited(Pair(Work([8.0, 9.0, 8.0, 9.0]), Work([4.0, 5.0, 4.0, 5.0])), [[1.0] * 4, [2.0] * 4], 0.5, 0.0)
    (left,) = made.as_json(0.0)["left"]

    assert made.samples == [[4.0, 5.0, 4.0, 5.0], [8.0, 9.0, 8.0, 9.0]]
    assert (left["samples"], left["reference_s"]) == ([2.0] * 4, [1.0] * 4)


def test_a_quiet_visit_is_made_once(visited):
    """Without a disturbance there is no second attempt."""
    made = visited(Pair(Work([])), [[1.0] * 4], 0.0)

    assert len(made.attempts) == 1
    assert made.as_json(0.0)["left"] == []


def test_the_canary_is_the_same_every_time(monkeypatch):
    """Its work depends on nothing; a reading is the sum of the medians of its kinds, after an untimed round of each."""
    first, second = Canary(Device()), Canary(Device())
    assert (first.large == second.large).all()

    calls, before = [], len(first.readings)
    kinds = {kind: partial(calls.append, kind) for kind in ("products", "traffic", "operators")}
    monkeypatch.setattr(Canary, "kinds", lambda self: kinds)
    seconds = first.listen()
    assert [calls.count(kind) for kind in kinds] == [1 + ROUNDS] * 3
    assert first.readings[before]["seconds"] == seconds == sum(first.readings[before]["kinds"].values())
    assert first.readings[before]["at_s"] > first.readings[0]["at_s"] >= 0


def test_the_canary_has_the_kinds_of_work_of_a_step():
    """Products, copies of more than a core's caches, and operators on next to nothing."""
    canary = Canary(Device())
    assert list(canary.readings[-1]["kinds"]) == ["products", "traffic", "operators"]
    assert all(seconds > 0 for seconds in canary.readings[-1]["kinds"].values())


def sings(canary, monkeypatch, seconds):
    """Make the readings of a canary's one kind of work come from a list."""
    notes = iter(seconds)

    def listen():
        second = next(notes)
        canary.readings.append({"at_s": 0.0, "seconds": second, "kinds": {"traffic": second}})
        return second

    canary.readings.clear()
    monkeypatch.setattr(canary, "listen", listen)


@pytest.mark.parametrize(("strange", "why"), [(1.5, 1), (0.6, 1), (1.2, 0), (0.9, 0)])
def test_a_strange_canary_is_a_disturbance(monkeypatch, strange, why):
    """A reading 1.5 times beyond what is usual in this run, on either side, before or after; 1.2 times is none."""
    canary = Canary(Device())
    sings(canary, monkeypatch, [1.0] * 18 + [strange, 1.0])
    for _ in range(18):
        canary.listen()
    seen = Disturbance(Device(), canary).read()

    assert seen["canary_s"] == [strange, 1.0]
    assert len(disturbed(QUIET | {"canary_change": seen["canary_change"]})) == why


def test_both_speeds_of_a_machine_are_usual(monkeypatch):
    """If a quarter of the readings is slow, neither a slow nor a fast one is unusual."""
    canary = Canary(Device())
    sings(canary, monkeypatch, [1.0, 1.0, 1.0, 1.6] * 6)
    for _ in range(24):
        canary.listen()
        assert len(canary.readings) < 12 or canary.change == 1.0


def test_a_spell_is_waited_out(monkeypatch):
    """Waiting ends with the first usual reading, or after a while."""
    canary = Canary(Device())
    sings(canary, monkeypatch, [1.0] * 18 + [1.5, 1.4, 1.0, 9.9])
    for _ in range(18):
        canary.listen()
    canary.wait()
    assert canary.readings[-1]["seconds"] == 1.0

    monkeypatch.setattr("attnlib.measure.canary.PATIENCE", 0.0)
    canary.wait()
    assert canary.readings[-1]["seconds"] == 9.9
