"""What disturbs a measurement: counters, what they mean, the second attempt, and the canary."""

import subprocess
import sys
import time

import psutil
import pytest

from attnlib.measure import noise
from attnlib.measure.canary import ROUNDS, Canary
from attnlib.measure.device import Device
from attnlib.measure.noise import Disturbance, disturbed
from attnlib.measure.sampling import Pilot
from bench.pair import Attempt, Pair, once_more

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
        ({"cpu_pressure": None, "involuntary_switches": 300}, "sent off its CPU 300 times"),
        ({"steal": 0.2}, "the hypervisor took 20%"),
        ({"cpu_s_per_wall_s": 1.4}, "it had 1.4 CPU seconds a second, 2.0 while it was warmed up"),
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
    """What the process had while it was disturbed says nothing about what it should have."""
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


def tried(samples, **seen):
    """A first attempt with these counters."""
    return Attempt(samples, None, cold=False, seen=QUIET | seen)


@pytest.mark.parametrize(("later", "kept"), [([0.0], [9.0, 9.0]), ([0.5], [1.0, 1.0])])
def test_a_disturbed_case_is_measured_once_more(monkeypatch, later, kept):
    """The counters decide which attempt counts, whatever its times; the other one is kept beside it, whole."""
    pressures = iter(later)
    monkeypatch.setattr(Disturbance, "read", lambda self: QUIET | {"cpu_pressure": next(pressures)})
    samples = [1.0, 1.0]
    pilot = Pilot(1, 1.0, True, (), (1,), 2, "min_rounds", 1.0)
    first, work = tried([samples], cpu_pressure=0.5), Work([1.0, 9.0, 9.0])  # one untimed step first
    counts, replaced = once_more(first, Pair(work), pilot, QUIET, Canary(Device()))

    assert samples == kept
    assert counts.samples == [kept]
    assert counts.seen["cpu_pressure"] == (0.0 if kept == [9.0, 9.0] else 0.5)
    assert replaced["samples"] == ([1.0, 1.0] if kept == [9.0, 9.0] else [9.0, 9.0])
    assert replaced["disturbed"] == disturbed(QUIET | {"cpu_pressure": 0.5})


def test_both_sides_are_measured_once_more(monkeypatch):
    """A pair is repeated as a pair, in the same order, and replaced or kept as one."""
    monkeypatch.setattr(Disturbance, "read", lambda self: QUIET)
    samples = [[1.0, 1.0], [2.0, 2.0]]
    pilot = Pilot(1, 1.0, True, (), (1, 1), 2, "min_rounds", 1.0)
    pair = Pair(Work([1.0, 8.0, 9.0]), Work([1.0, 4.0, 5.0]))
    counts, replaced = once_more(tried(samples, cpu_pressure=0.5), pair, pilot, QUIET, Canary(Device()))

    assert samples == counts.samples == [[4.0, 5.0], [8.0, 9.0]]
    assert counts.seen == QUIET
    assert (replaced["samples"], replaced["reference_s"]) == ([2.0, 2.0], [1.0, 1.0])


def test_a_quiet_case_is_measured_once():
    """Without a disturbance there is no second attempt."""
    first = tried([[1.0]])

    assert once_more(first, Pair(Work([])), None, QUIET, None) == (first, None)
    assert first.samples == [[1.0]]


def test_the_canary_is_the_same_every_time(monkeypatch):
    """Its work depends on nothing; a reading is the median of its rounds, with the seconds since the start."""
    first, second = Canary(Device()), Canary(Device())
    assert (first.large == second.large).all()

    calls, before = [], len(first.readings)
    monkeypatch.setattr(Canary, "step", lambda self, large, small: calls.append(self))
    seconds = first.listen()
    assert len(calls) == 1 + ROUNDS
    assert first.readings[before]["seconds"] == seconds
    assert first.readings[before]["at_s"] > first.readings[0]["at_s"] >= 0


def sings(canary, monkeypatch, seconds):
    """Make a canary's readings come from a list."""
    notes = iter(seconds)

    def listen():
        canary.readings.append({"at_s": 0.0, "seconds": next(notes)})
        return canary.readings[-1]["seconds"]

    canary.readings.clear()
    monkeypatch.setattr(canary, "listen", listen)


def test_a_slow_canary_is_a_disturbance(monkeypatch):
    """A reading of 1.5 times what is usual in this run, before or after, is a reason; 1.2 times is none."""
    canary = Canary(Device())
    sings(canary, monkeypatch, [1.0] * 8 + [1.5, 1.0, 1.2, 1.2])
    for _ in range(8):
        canary.listen()
    readings = [Disturbance(Device(), canary).read() for _ in range(2)]

    assert readings[0]["canary_s"] == [1.5, 1.0]
    assert [disturbed(QUIET | {"canary_slowness": r["canary_slowness"]}) for r in readings] == [
        ["the canary took 1.5 times as long as usual"],
        [],
    ]


def test_a_spell_is_waited_out(monkeypatch):
    """Waiting ends with the first usual reading, or after a while."""
    canary = Canary(Device())
    sings(canary, monkeypatch, [1.0] * 8 + [1.5, 1.4, 1.0, 9.9])
    for _ in range(8):
        canary.listen()
    canary.wait()
    assert canary.readings[-1]["seconds"] == 1.0

    monkeypatch.setattr("attnlib.measure.canary.PATIENCE", 0.0)
    canary.wait()
    assert canary.readings[-1]["seconds"] == 9.9
