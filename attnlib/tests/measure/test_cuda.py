"""CUDA's timing on an asynchronous fake: what is queued is counted where it belongs, by the host and by the device."""

from contextlib import contextmanager, nullcontext
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from attnlib.measure import clock, memory, noise
from attnlib.measure.device import Accelerator, Device, Unavailable
from attnlib.measure.rounds import rounds, timed, turn, turns
from attnlib.tests.measure.fake_cuda import IDLE_HZ, LAUNCH, NODE, QUEUE, READ, UUID, open_fake

DURATIONS = np.linspace(1e-3, 50e-3, 10)
SLACK = 50e-6


@pytest.fixture(name="fake")
def _fake(monkeypatch):
    fake, _ = open_fake(monkeypatch)
    yield fake
    monkeypatch.undo()
    clock.bind(Device())


class Work:
    """A side whose step is one piece of work, and whose set-up leaves other work in the queue."""

    clock = staticmethod(clock.device_clock)

    def __init__(self, fake, seconds, before=0.0, pieces=1):
        self.fake, self.seconds, self.before, self.pieces = fake, seconds, before, pieces

    @property
    def prepare(self):
        return (lambda: self.fake.launch(self.before)) if self.before else None

    def step(self):
        for _ in range(self.pieces):
            self.fake.launch(self.seconds / self.pieces)


def device_of():
    return clock._device


def both(take):
    """Seconds by the host and by the device of the rounds that ``take`` times."""
    with clock.device_times() as times:
        found = take()
    return np.array(found), np.array(times.rounds)


def true_within(found, truth):
    return bool((np.abs(np.array(found) - truth) <= 0.01 * truth + SLACK).all())


@pytest.mark.parametrize("before", [0.0, 0.02], ids=["alone", "behind a set-up"])
def test_work_of_known_length(fake, before):
    """Ten lengths lie on a straight line by both clocks, whatever the set-up left in the queue."""
    sides = [Work(fake, seconds, before) for seconds in DURATIONS]
    host, device = both(lambda: [turn(side)() for side in sides])

    for found in (host, device):
        assert true_within(found, DURATIONS)
        assert np.corrcoef(found, DURATIONS)[0, 1] ** 2 > 0.999


def test_rounds_of_several_steps(fake):
    """The mean over a round of the host, and of the device the whole round."""
    host, device = both(lambda: [turn(Work(fake, 1e-3), 8)()])

    assert true_within(host, 1e-3)
    assert true_within(device, 8e-3)


def test_pairs_leak_nothing_into_each_other(fake):
    """Each of two sides in turns has its own time, set-ups and the other side's work in neither."""
    truth = (2e-3, 3e-3)
    sides = [Work(fake, truth[0], before=0.01), Work(fake, truth[1])]
    order = list(turns(10, 1))
    (base, new), device = both_sides(sides, order)

    assert true_within(base, truth[0])
    assert true_within(new, truth[1])
    assert true_within(device, np.array(truth)[[side for side, _ in order]])


def both_sides(sides, order):
    with clock.device_times() as times:
        samples = rounds([turn(side) for side in sides], order)
    return samples, np.array(times.rounds)


def test_two_waits_a_round(fake):
    """The clock waits right before and right after, and nothing else does."""
    side = Work(fake, 1e-3)
    before = fake.waits
    for _ in range(5):
        timed(side.step, side.prepare, side.clock)

    assert fake.waits - before == 10


@pytest.mark.parametrize("lost", ["first", "second"])
def test_without_either_wait_the_time_is_wrong(fake, monkeypatch, lost):
    """Without the first wait a set-up is counted, without the second the work is not."""
    device, calls = device_of(), iter(range(100))
    wait = type(device).synchronize
    keep = (lambda call: call % 2 == 1) if lost == "first" else (lambda call: call % 2 == 0)
    monkeypatch.setattr(type(device), "synchronize", lambda self: wait(self) if keep(next(calls)) else None)
    found = timed(Work(fake, 5e-3, before=0.02).step, lambda: fake.launch(0.02), clock.device_clock)

    assert not true_within(found, 5e-3)


def test_launches_are_told_from_work(fake):
    """A step of many short kernels takes the host's launches by the clock, and its work where the queue is held up."""
    short = Work(fake, 200e-6, pieces=200)  # each of 1 us, launched in 5
    host = turn(short)()
    busy = device_of().busy_seconds(short.step)

    assert true_within(host, 200 * LAUNCH)
    assert busy["value"] == pytest.approx(200e-6)
    assert host / busy["value"] > 1.2


@pytest.mark.parametrize("pieces", [1, 50, 900, QUEUE + 500, 20 * QUEUE])
def test_a_step_of_any_number_of_launches_is_held(fake, pieces):
    """A queue of 1,024 launches: a step with more is replayed as a graph, also right after the card was idle."""
    fake.host += 10.0
    found = device_of().busy_seconds(Work(fake, 3e-3, pieces=pieces).step)

    assert found["value"] == pytest.approx(3e-3)
    assert ("replay" in found["method"]) == (pieces > QUEUE)


def test_a_step_that_can_be_neither_held_nor_captured_has_no_reading(fake):
    """With more launches than the queue holds it is captured; where that is refused the reading says why."""
    fake.refuses = True
    found = device_of().busy_seconds(Work(fake, 1e-3, pieces=2 * QUEUE).step)
    prepared = Work(fake, 1e-3, before=1e-3, pieces=2 * QUEUE)

    assert found["value"] is None
    assert "operation not permitted when stream is capturing" in found["reason"]
    assert "cannot be captured alone" in device_of().busy_seconds(prepared.step, prepared.prepare)["reason"]


@pytest.mark.parametrize("idle", [0.0, 10.0], ids=["working", "idle before"])
def test_a_hold_lasts_as_long_as_it_says(fake, idle):
    """Cycles are counted at the clock of the working card, which an idle one reaches first."""
    fake.host += idle
    device_of().hold(0.1)

    assert fake.free - fake.host == pytest.approx(0.1, rel=0.01)


@pytest.mark.parametrize("seconds", [50e-6, 200e-6, 5e-3])
@pytest.mark.parametrize("pieces", [1, 40], ids=["bound by the device", "bound by launches"])
def test_marks_cost_a_round_nothing(fake, seconds, pieces):
    """A round with events around it takes as long by the host's clock as one without them."""
    side = Work(fake, seconds, pieces=pieces)
    without = turn(side)()
    host, _ = both(lambda: [turn(side)() for _ in range(3)])

    assert host == pytest.approx([without] * 3, abs=3 * READ)


def test_other_accelerators_are_waited_for(monkeypatch):
    """Any device behind ``torch.accelerator``, by its own name."""
    waited = []
    monkeypatch.setattr(torch.accelerator, "synchronize", waited.append)
    Accelerator("xpu:1").synchronize()

    assert waited == [torch.device("xpu:1")]


def test_a_set_up_is_not_device_work(fake):
    """``prepare`` comes before what is counted."""
    side = Work(fake, 1e-3, before=0.05)

    assert device_of().busy_seconds(side.step, side.prepare)["value"] == pytest.approx(1e-3)


def test_a_graph_is_one_launch(fake):
    """A captured step does the same work with one launch; a refusal is one line."""
    step = Work(fake, 1e-3, pieces=500).step
    replay = device_of().capture(step)
    replay()  # which uploads it
    host = timed(replay, None, clock.device_clock)

    assert timed(step, None, clock.device_clock) > 2e-3
    assert host == pytest.approx(1e-3 + 500 * NODE, abs=SLACK)
    fake.refuses = True
    with pytest.raises(Unavailable, match=r"^not captured as a CUDA graph: CUDA error: [a-z ]*$"):
        device_of().capture(step)


def test_a_refused_capture_gives_the_stream_back(fake):
    """Later work does not run in the stream of the capture."""
    fake.refuses = True
    with pytest.raises(Unavailable):
        device_of().capture(Work(fake, 1e-3).step)

    assert fake.stream != "of the capture"


def test_a_refused_capture_spoils_nothing(fake):
    """The generator that it left capturing gets a new state, and the allocator gives memory back."""
    fake.refuses = True
    with pytest.raises(Unavailable):
        device_of().capture(Work(fake, 1e-3).step)
    device_of().release()

    assert device_of().lost() is None
    assert not fake.underway
    fake.refuses = False
    device_of().capture(Work(fake, 1e-3).step)


def test_a_graph_of_many_kernels_is_held_longer(fake):
    """Launching a graph takes the host some time for each kernel, and more the first time."""
    found = device_of().busy_seconds(Work(fake, 0.1, pieces=60_000).step)

    assert found["value"] == pytest.approx(0.1)
    endless = device_of().busy_seconds(Work(fake, 1.0, pieces=600_000).step)
    assert (endless["value"], "launching its graph took longer" in endless["reason"]) == (None, True)


def test_reading_the_cards_state_leaves_nothing_queued(fake, monkeypatch):
    """The spin behind which clocks are read is over before the next step begins."""
    monkeypatch.setattr(noise.nvml, "card", lambda _uuid: nullcontext(SimpleNamespace(state=dict)))
    noise.Disturbance(device_of())

    assert fake.free <= fake.host


def test_a_device_that_is_lost_says_so(fake):
    """After an error that stays, and where no random number can be drawn; a CPU is never lost."""
    assert device_of().lost() is None
    fake.generators[0].capturing = True
    assert "Offset increment outside graph capture" in device_of().lost()
    fake.underway.add(object())
    assert "captures_underway" in device_of().lost()
    fake.dead = "CUDA error: an illegal memory access was encountered\nmore lines"

    assert device_of().lost() == "CUDA error: an illegal memory access was encountered"
    assert Device().lost() is None


def test_a_lack_of_memory_is_no_refusal(fake):
    """It stays what it is, so that its row is ``oom``."""

    def full():
        raise torch.OutOfMemoryError("CUDA out of memory")

    with pytest.raises(torch.OutOfMemoryError, match="out of memory"):
        device_of().capture(full)


def test_a_card_without_a_number_is_the_current_one(monkeypatch):
    """``cuda``, as ``auto`` opens it, is not made current: torch would refuse it."""
    fake, device = open_fake(monkeypatch, "cuda")
    host, _ = both(lambda: [turn(Work(fake, 1e-3))()])
    device.busy_seconds(Work(fake, 1e-3).step)
    monkeypatch.undo()
    clock.bind(Device())

    assert true_within(host, 1e-3)


def test_only_the_chosen_card_is_touched(monkeypatch):
    """``cuda:1`` is waited for, marked and made current, and no other card is."""
    fake, device = open_fake(monkeypatch, "cuda:1")
    both(lambda: [turn(Work(fake, 1e-3))()])
    device.busy_seconds(Work(fake, 1e-3).step)
    device.capture(Work(fake, 1e-3).step)
    monkeypatch.undo()
    clock.bind(Device())

    assert fake.devices == {1}


def test_peaks_of_the_allocator(fake, monkeypatch):
    """Counters are reset before the step and read once it has finished."""
    device, read = device_of(), {}

    def step():
        fake.launch(1.0)
        fake.statistics.update({f"{name}_bytes.all.peak": size for name, size in sizes.items()})

    sizes = {"allocated": 5, "reserved": 8, "requested": 4}
    fake.statistics.update({f"{name}_bytes.all.peak": 99 for name in sizes})
    monkeypatch.setattr(memory.torch.cuda, "memory_stats", lambda _: read.update(at=fake.host) or fake.statistics)
    found = memory.peak_memory(device, step, None, [])

    assert {name: found[f"{name}_peak"]["value"] for name in sizes} == sizes
    assert read["at"] >= 1.0


def test_a_part_that_is_larger_than_its_whole():
    """Allocated <= reserved <= process <= device, readings that are missing left out."""

    def of(*sizes):
        names = ("allocated_peak", "reserved_peak", "nvml_process", "nvml_device_used")
        return {name: {"value": size} for name, size in zip(names, sizes, strict=True)}

    assert memory.out_of_order(of(1, 2, 3, 4)) == memory.out_of_order(of(1, None, None, 1)) == []
    assert memory.out_of_order(of(1, 5, 3, 4)) == ["reserved_peak of 5 bytes is more than nvml_process of 3"]
    assert memory.out_of_order(of(9, None, None, 4)) == ["allocated_peak of 9 bytes is more than nvml_device_used of 4"]


def test_clocks_are_read_while_the_card_works(fake, monkeypatch):
    """An idle card's clock is low; what is read before and after the rounds is that of the working card."""

    def state():
        works = fake.free > fake.host
        mhz = {"value": round((fake.hz if works else IDLE_HZ) / 1e6)}
        return {"sm_mhz": mhz, "event_reasons": {"value": []}}

    @contextmanager
    def card(_uuid):
        yield SimpleNamespace(state=state)

    monkeypatch.setattr(noise.nvml, "card", card)
    fake.host += 1.0
    watch = noise.Disturbance(device_of())
    fake.host += 1.0
    seen = watch.read()["card"]

    assert (seen["before"]["sm_mhz"]["value"], seen["after"]["sm_mhz"]["value"]) == (1980, 1980)


def test_cards_are_told_by_uuid(fake):
    """The UUID is written as torch prints it; NVML's prefixes are found there."""
    assert device_of().describe()["uuid"] == UUID
