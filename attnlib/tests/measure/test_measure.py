"""Clock, sampling and memory on things with known behaviour."""

import json
import sys
import time
from contextlib import contextmanager
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from attnlib.measure import clock, environment, memory, rounds, sampling
from attnlib.measure import operators as profiling
from attnlib.measure.device import Device, open_device


class Asynchronous(Device):
    """A device that takes work at once and finishes it when waited for, on a clock of its own."""

    def __init__(self):
        super().__init__("cpu")
        self.now, self.queued, self.waits = 0.0, 0.0, 0

    def synchronize(self):
        self.now, self.queued, self.waits = self.now + self.queued, 0.0, self.waits + 1


@pytest.fixture(name="device")
def _device(monkeypatch):
    device = Asynchronous()
    clock.bind(device)
    monkeypatch.setattr(time, "perf_counter", lambda: device.now)
    yield device
    clock.bind(Device())


def launch(device, seconds):
    def step():
        device.queued += seconds

    return step


def test_clock_waits_for_queued_work(device):
    """A round takes as long as its queued work, with two waits; what a set-up queued is not counted."""
    seconds = rounds.timed(launch(device, 0.25), launch(device, 10.0), clock.device_clock)

    assert seconds == 0.25
    assert device.waits == 2


def test_pilot_spends_its_budget(device):
    """Warm-up takes half of its tenth of the budget at least; steps without noise get no more rounds than some."""
    plan = sampling.pilot([clock.Bare(launch(device, 0.01))], [0.01], precision=1e-9, budget=10.0)

    assert plan.warmup_s == pytest.approx(0.5, abs=0.02)
    assert (plan.rounds, plan.stop_reason) == (sampling.SOME, "precision")


def test_turns_fit_into_the_budget(device):
    """Rounds and untimed steps of noisy sides take about the budget, in an even number of blocks."""
    rng = np.random.default_rng(0)

    def noisy():
        device.queued += 0.002 * float(np.exp(0.3 * rng.standard_normal()))

    sides = [clock.Bare(noisy), clock.Bare(noisy)]
    plan = sampling.pilot(sides, [0.002, 0.002], precision=1e-9, budget=2.0)
    before = device.now
    samples = rounds.rounds(plan.turns(sides), plan.order())

    assert plan.blocks % 2 == 0
    assert [len(side) for side in samples] == [plan.rounds] * 2
    assert device.now - before == pytest.approx(1.9, rel=0.15)


@pytest.mark.parametrize(("step", "count"), [(1e-3, 4), (3e-3, 2), (0.05, 1), (0.2, 0)])
def test_untimed_steps_last_as_long_as_caches_take_to_fill(step, count):
    """Many short steps, one of the longer ones, and none of those in which filling the caches does not show."""
    assert sampling.untimed_steps(step) == count


def test_a_side_is_settled_after_each_change():
    """Untimed steps come first whenever the other side ran before, and at no other time."""
    log = []
    sides = [clock.Bare(lambda name=name: log.append(name), clock=lambda: 0.0) for name in "RC"]
    plan = sampling.Pilot(1, 0.0, True, (1, 1), (2, 3), 2, 2, 8, "precision")
    rounds.rounds(plan.turns(sides), plan.order())

    # reference, case twice, reference | case, reference twice, case; two rounds each
    assert "".join(log) == "RRRR" + "CCCCCCC" + "RRRR" + "CCCCC" + "RRRRRR" + "CCCCC"


@pytest.mark.parametrize(
    ("seconds", "calls", "steady"),
    [
        ([0.1] * 30, 5, True),  # half of its budget of 1 s
        ([0.3, 0.2, 0.1] + [0.05] * 30, 8, True),
        ([0.12 * 0.9**n for n in range(30)], 18, False),  # faster and faster
        ([2.0], 1, None),
    ],
)
def test_warm_up_ends_when_steady(seconds, calls, steady):
    """It goes on while a window of calls is faster than the one before, within its budget."""
    times = iter(seconds)
    now = {"s": 0.0}

    def step():
        now["s"] += next(times)

    warm = sampling.warm_up(clock.Bare(step, clock=lambda: now["s"]), budget=1.0)

    assert (len(warm.seconds), warm.steady) == (calls, steady)


@pytest.mark.parametrize("sides", [1, 2])
def test_slow_steps_have_the_fewest_rounds(device, sides):
    """Steps that exceed their budget within the least number of rounds are warmed up once and get those rounds."""
    plan = sampling.pilot([clock.Bare(launch(device, 3.0))] * sides, [3.0] * sides, precision=0.03, budget=10.0)

    assert (plan.warmup_calls, plan.rounds) == (1, 6 if sides == 1 else 4)
    assert (plan.stop_reason, plan.iterations) == ("min_rounds", (1,) * sides)
    assert device.now == 3.0 * sides


def test_the_slowest_steps_are_warmed_up_by_one_call(device):
    """Their least number of rounds takes many times the budget, by the first call and by a second one."""
    plan = sampling.pilot([clock.Bare(launch(device, 10.0))], [12.0], precision=0.03, budget=10.0)

    assert (plan.warmup_calls, plan.rounds, device.now) == (1, sampling.MIN_ROUNDS, 10.0)


@pytest.mark.parametrize("sides", [1, 2])
def test_a_first_call_that_compiles_decides_nothing(device, sides):
    """Five seconds, then a millisecond a step: the plan is that of steps of a millisecond."""
    alike = [clock.Bare(launch(device, 1e-3))] * sides
    slow = sampling.pilot(alike, [5.0] * sides, precision=0.03, budget=1.0)
    fast = sampling.pilot(alike, [1e-3] * sides, precision=0.03, budget=1.0)

    assert (slow.rounds, slow.iterations, slow.untimed) == (fast.rounds, fast.iterations, fast.untimed)
    assert slow.warmup_calls == fast.warmup_calls > 1


def test_short_steps_are_repeated_within_a_round(device):
    """A step of 10 us is repeated so that a round lasts a millisecond; with a set-up before each it cannot be."""
    short, long = launch(device, 1e-5), launch(device, 1e-4)
    plan = sampling.pilot([clock.Bare(short), clock.Bare(long)], [0.0, 0.0], precision=0.03, budget=0.1)

    assert plan.iterations[0] in (100, 101)
    assert plan.iterations[1] in (10, 11)
    assert plan.as_json()["reference_iterations"] == plan.iterations[0]
    assert sampling.pilot([clock.Bare(short, lambda: None)], [0.0], precision=0.03, budget=0.1).iterations == (1,)


def test_pairs_come_in_whole_blocks(device):
    """A pair has as many rounds of either side, an even number, whatever the noise asks for."""
    rng = np.random.default_rng(0)

    def noisy():
        device.queued += 0.01 * float(np.exp(0.1 * rng.standard_normal()))

    plan = sampling.pilot([clock.Bare(noisy), clock.Bare(noisy)], [0.0, 0.0], precision=0.05, budget=20.0)

    assert plan.stop_reason == "precision"
    assert plan.rounds == 2 * plan.blocks * plan.each
    assert plan.rounds > sampling.SOME


def test_rounds_of_the_reference_lie_between():
    """Called before a case's first round and after each, its turns are those of one loop over both sides."""
    order, plan = [], sampling.Pilot(1, 0.0, True, (1, 1), (1, 1), 2, 3, 12, "precision")
    between = rounds.Between(
        lambda changed: order.append("R!" if changed else "R") or 1.0, lambda: order.append("!"), plan.order()
    )
    between()
    for _ in range(12):
        order.append("C")
        between()
    between()  # pytest-benchmark calls once more than there are rounds

    whole = [f"{'RC'[side]}{'!' * changed}" for side, changed in plan.order()]
    assert " ".join(order).replace("! C", "C!").split() == whole
    assert between.samples == [1.0] * 12


def test_drift_favours_neither_side():
    """On a machine that slows down steadily equal sides have a ratio of 1, and a spell that hits a block moves none."""
    seconds = 1 + 0.01 * np.arange(24)
    seconds[8:12] *= 3
    sides = [[], []]
    for side, value in zip(rounds.abba(6), seconds, strict=True):
        sides[side].append(float(value))
    value, low, high = sampling.ratio_over(*sides)

    assert value == pytest.approx(1.0, abs=0.005)
    assert low <= 1 <= high


def test_a_ratio_has_the_interval_of_a_median():
    """On 1,000 pairs of sides of known ratio 1.3, with spells that hit both, it holds 1.3 as often as it says."""
    rng, hits = np.random.default_rng(0), 0
    for _ in range(1000):
        spell = np.exp(0.3 * rng.standard_normal(12))
        reference, case = (spell * np.exp(0.05 * rng.standard_normal(12)) for _ in range(2))
        _, low, high = sampling.ratio_over(reference.tolist(), (1.3 * case).tolist())
        hits += low <= 1.3 <= high

    assert 0.94 <= hits / 1000 <= 0.99


@pytest.mark.parametrize("count", [1, 4, 7, 8, 30, 200])
def test_without_noise_a_ratio_is_that_of_the_sides(count):
    """Whatever the number of rounds, also while the machine changes its speed for both."""
    speed = np.where(np.arange(count) // 11 % 2, 1.0, 1.4)

    assert sampling.log_ratio(speed.tolist(), (1.3 * speed).tolist()) == pytest.approx(np.log(1.3))


def test_other_work_moves_a_ratio_less_than_a_median_over_pairs():
    """A third of the rounds is slowed down, by up to twice: the mean of 2,000 visits is right, and they spread less."""
    rng = np.random.default_rng(0)
    found, medians = [], []
    for _ in range(2000):
        slowed = [np.exp(0.7 * rng.uniform(size=32) * (rng.uniform(size=32) < 1 / 3)) for _ in range(2)]
        reference, case = (x * np.exp(0.02 * rng.standard_normal(32)) for x in slowed)
        found.append(sampling.log_ratio(reference.tolist(), (1.3 * case).tolist()))
        medians.append(np.median(np.log(1.3 * case) - np.log(reference)))

    assert np.mean(found) == pytest.approx(np.log(1.3), abs=1e-3)
    assert np.std(found) < 0.75 * np.std(medians)


def test_rounds_follow_noise_and_budget():
    """Noisier steps want more rounds; a small budget or slow steps end in the minimum."""

    def found(spread, precision, seconds):
        return sampling.rounds_for(spread, each=1.0, precision=precision, seconds=seconds, least=6)

    assert found(0.01, 0.03, 1e6) == (sampling.SOME, "precision")
    assert found(0.01, 0.03, 5.0) == (6, "min_rounds")
    assert found(0.1, 0.01, 1e6) == (604, "precision")  # (1.96 x 1.253 x 0.1 / 0.01)^2
    assert found(0.1, 0.01, 20.5) == (20, "budget")
    assert found(0.1, 1e-4, 1e6) == (sampling.MAX_ROUNDS, "max_rounds")
    assert found(None, 0.01, 20.5) == (20, "budget")


@pytest.mark.parametrize("n", [6, 11, 30])
def test_median_interval_covers(n):
    """On 2,000 skewed samples of known median the interval holds it in at least 95 % of cases (less 3 sigma)."""
    rng = np.random.default_rng(n)
    hits = 0
    for sample in rng.exponential(size=(2000, n)):
        low, high = sampling.median_interval(sample)
        hits += low <= np.log(2) <= high

    assert hits / 2000 >= 0.95 - 3 * np.sqrt(0.95 * 0.05 / 2000)


def test_too_few_samples_have_no_interval():
    """Five samples cannot bound a median at 95 %."""
    assert sampling.median_interval([1, 2, 3, 4, 5]) is None
    assert sampling.summary([1.0, 2.0])["interval_reason"] == "fewer than 6 rounds"


def test_summary_counts_outliers_and_drift():
    """One far sample of twelve is counted, not removed; samples that double have drift 2."""
    assert sampling.summary([1.0, 1.1] * 6 + [9.0])["outliers"] == 1
    assert sampling.summary([1.0] * 4 + [1.5] * 4 + [2.0] * 4)["drift"] == 2.0


def test_peak_of_known_allocations():
    """Two blocks held together, then one freed and a small one made: the peak is the first two, every time."""

    def step():
        a, b = torch.empty(1000, dtype=torch.uint8), torch.empty(500, dtype=torch.uint8)
        del a
        return b, torch.empty(10, dtype=torch.uint8)

    assert [memory.allocator_peak(step) for _ in range(3)] == [1500] * 3


def test_peak_of_a_layer_by_hand():
    """Input and weights held, then x W^T and its ReLU: 4 (BD + DE + 2BE) bytes."""
    B, D, E = 64, 128, 256
    x, weight = torch.randn(B, D), torch.randn(E, D)

    def step():
        torch.relu(x @ weight.T)

    readings = memory.peak_memory(Device(), step, None, [x, weight])

    assert readings["allocated_peak"]["value"] == 4 * (B * D + D * E + 2 * B * E)


def test_held_storages_count_once():
    """Views share their storage."""
    x = torch.zeros(100)

    assert memory.live_bytes([x, x[:50], x.view(10, 10)]) == 400


def test_missing_readings_are_null_with_a_reason():
    """A reading that a CPU does not count is null and says why."""
    readings = memory.peak_memory(Device(), lambda: None, None, [])

    assert readings["nvml_process"] == {"value": None, "method": "NVML", "reason": "not counted on cpu"}


def test_out_of_memory_is_told_from_other_errors():
    """Torch's CPU allocator raises a RuntimeError like any other, but for its text."""
    with pytest.raises(RuntimeError) as caught:
        torch.empty(2**60, dtype=torch.uint8)

    assert memory.is_out_of_memory(caught.value)
    assert memory.is_out_of_memory(torch.OutOfMemoryError())
    assert not memory.is_out_of_memory(RuntimeError("shapes differ"))


def test_unknown_devices_are_refused_with_choices():
    """A device that is not here is named with those that are."""
    with pytest.raises(ValueError, match="no device 'cuda:99' on this machine; choose from auto, cpu"):
        open_device("cuda:99")


def test_environment_is_an_allow_list(monkeypatch):
    """A secret in the environment never reaches a saved run."""
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "hunter2")
    monkeypatch.setenv("OMP_WAIT_POLICY", "passive")
    described = environment.describe(Device())

    assert "hunter2" not in str(described)
    assert described["environment"]["OMP_WAIT_POLICY"] == "passive"


@contextmanager
def default(dtype=None, device=None):
    torch.set_default_dtype(dtype or torch.float32)
    torch.set_default_device(device)
    yield
    torch.set_default_dtype(torch.float32)
    torch.set_default_device(None)


@contextmanager
def profiled():
    sys.setprofile(lambda *_: None)
    yield
    sys.setprofile(None)


@pytest.mark.parametrize(
    ("name", "changed"),
    [
        ("anomaly_mode", torch.autograd.set_detect_anomaly),
        ("default_dtype", lambda _: default(dtype=torch.float64)),
        ("default_device", lambda _: default(device="meta")),
        ("gradients", lambda _: torch.no_grad()),
        ("autocast", lambda _: torch.autocast("cpu", torch.bfloat16)),
        ("tracer=attnlib.*<lambda>", lambda _: profiled()),
    ],
)
def test_switches_that_make_a_case_another_one_are_refused(name, changed):
    """Set outside of the suite, each is named; and it is gone where it is set back."""
    environment.refuse_changed(1)
    before = environment.changed_switches()
    with changed(True), pytest.raises(ValueError, match=name):
        environment.refuse_changed(1)

    assert environment.changed_switches() == before
    environment.refuse_changed(1)


def test_subnormals_are_looked_at_on_the_cpu_in_float32():
    """Whatever torch's defaults are."""
    before = environment.flushes_subnormals()
    with default(torch.float64, "meta"):
        assert environment.flushes_subnormals() == before


def test_more_threads_than_cpus_are_refused(monkeypatch):
    """The CPUs of this process count, not those of the machine."""
    monkeypatch.setattr(environment, "usable_cpus", lambda: 1)
    with pytest.raises(ValueError, match="2 threads, but this process may use one CPU"):
        environment.refuse_changed(2)


def test_a_switch_may_be_allowed():
    """A debugger's tracer where nothing is timed."""
    with profiled():
        environment.refuse_changed(1, ("tracer",))


def test_other_switches_are_saved():
    """One that decides which kernels run is in the machine's description, and none else."""
    torch.backends.mkldnn.deterministic = True
    try:
        found = environment.describe(Device())["switches"]
    finally:
        torch.backends.mkldnn.deterministic = False

    assert found == environment.changed_switches() | {"onednn_deterministic": True}


def without_times(events):
    return [event | {"ts": 0} if event.get("name") == "[memory]" else event for event in events]


def of_eight_bytes(events):
    return [e | {"args": e["args"] | {"Bytes": 8}} if "Bytes" in e.get("args", {}) else e for e in events]


@pytest.mark.parametrize(
    ("spoilt", "reason"),
    [
        (lambda events: [e for e in events if e.get("name") != "[memory]"], "torch.profiler saw 0 bytes"),
        (without_times, "torch.profiler's memory events have no times"),
        (of_eight_bytes, "torch.profiler saw 16 bytes"),
    ],
)
def test_an_instrument_that_sees_nothing_reads_null(monkeypatch, spoilt, reason):
    """A profiler that lacks events, or their times or ends, is found out on a known allocation, once."""
    loads = json.loads
    monkeypatch.setattr(
        profiling, "json", SimpleNamespace(loads=lambda text: {"traceEvents": spoilt(loads(text)["traceEvents"])})
    )
    memory.untrustworthy.cache_clear()
    try:
        found = memory.peak_memory(Device(), lambda: torch.ones(1000), None, [])["allocated_peak"]
    finally:
        memory.untrustworthy.cache_clear()

    assert found["value"] is None
    assert found["reason"].startswith(reason)
