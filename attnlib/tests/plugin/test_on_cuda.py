"""A whole case on the asynchronous fake: what its row says of launches, caches, throttling and the card."""

from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch

from attnlib.cases.case import Case, unsupported
from attnlib.cases.settings import Settings
from attnlib.cases.workload import Workload, fresh_start
from attnlib.measure import clock
from attnlib.measure.ceilings import Rates
from attnlib.measure.device import Device, Unavailable, reading
from attnlib.measure.noise import Disturbance
from attnlib.plugin.measuring import Instruments, time_case
from attnlib.plugin.pair import Pair
from attnlib.plugin.record import Record
from attnlib.plugin.screen import result_line
from attnlib.predict.peak import prediction
from attnlib.runs.schema import examine_benchmark
from attnlib.tests.measure.fake_cuda import open_fake

CASE = {"seq_len": 8, "depth": 1, "d_model": 8, "n_heads": 2, "device": "cuda", "phase": "train_step"}
RATES = Rates(1e12, ((8192, 1e-6), (2**25, 1e-4)), 1e-6)
COUNTERS = ("cpu", "pressure", "steal", "involuntary_switches", "page_faults")  # of a machine with nothing else to do
STATE = {"sm_mhz": {"value": 1500}, "event_reasons": {"value": []}, "other_processes": {"value": 0}}


class Benchmark:
    """Takes rounds as pytest-benchmark's ``pedantic`` does."""

    def __init__(self):
        self.extra_info, self.stats = {}, SimpleNamespace(stats=SimpleNamespace(data=[]))

    def pedantic(self, step, setup, teardown, rounds, iterations):
        for _ in range(rounds):
            if setup:
                setup()
            start = clock.device_clock()
            for _ in range(iterations):
                step()
            self.stats.stats.data.append((clock.device_clock() - start) / iterations)
            if teardown:
                teardown()


class Canary:
    """One that never changes."""

    change, at_s = 1.0, 0.0

    def __init__(self, device):
        self.device = device

    def listen(self):
        return 1.0

    def wait(self):
        pass


class Work:
    """A workload of known length."""

    clock = staticmethod(clock.device_clock)
    flushes = 0

    def __init__(self, device, seconds, pieces=1, cold=False, kernel="flash_attention"):
        self.device, self.seconds, self.pieces, self.cold, self.kernel = device, seconds, pieces, cold, kernel
        self.case = object()

    @property
    def prepare(self):
        return self.cool if self.cold else None

    def cool(self):
        self.flushes += self.device.flush() > 0

    def step(self):
        for _ in range(self.pieces):
            self.device.fake.launch(self.seconds / self.pieces)

    def check(self):
        self.step()
        return 0.01

    def attention(self):
        fused = self.kernel != "attention_math"
        return {"kernel": self.kernel, "fused": fused, "reason": None if fused else "a reason", "method": "said"}

    def compiled(self):
        return None

    def weigh(self, device):
        return {"allocated_peak": reading(9, "said"), "reserved_peak": reading(8, "said")}


@pytest.fixture(name="measured")
def _measured(monkeypatch):
    """Return what the row of a case says that was measured on the fake, beside a reference or alone."""
    fake, device = open_fake(monkeypatch)
    monkeypatch.setattr(Disturbance, "_card", lambda self: next(states, STATE))
    monkeypatch.setattr(Disturbance, "_counters", lambda self: dict.fromkeys(COUNTERS, 0.0) | {"wall": fake.now()})
    states = iter(())

    def measure(work, reference=None, cards=(), over=None, **fields):
        nonlocal states
        states = iter(cards)
        benchmark, case = Benchmark(), Case(**CASE | fields)
        settings = Settings("smoke", case, (8,), (1,), ("none",), 1, 8, budget=0.5)
        settings = settings if over is None else replace(settings, reference=over)
        pair = Pair(work(device), None if reference is None else reference(device), 0.01, "not asked for")
        time_case(benchmark, pair, case, settings, Instruments(device, Canary(device), RATES))
        return benchmark.extra_info, benchmark.stats.stats.data

    yield measure
    monkeypatch.undo()
    clock.bind(Device())


def test_every_round_has_both_times(measured):
    """The case and its reference each have their own, by the host and by events."""
    info, samples = measured(lambda device: Work(device, 2e-3), lambda device: Work(device, 1e-3))
    time = info["time"]

    assert len(time["device_event_samples"]) == len(time["reference_event_samples"]) == len(samples)
    assert samples == pytest.approx([2e-3] * len(samples), rel=0.01)
    assert time["device_event_samples"] == pytest.approx([2e-3] * len(samples), rel=0.01)
    assert time["reference_event_samples"] == pytest.approx([1e-3] * len(samples), rel=0.01)
    assert time["over_reference"]["value"] == pytest.approx(2.0, rel=0.01)
    row = {"fullname": "x", "extra_info": info, "stats": {"data": samples}}
    assert examine_benchmark(row)[1] == []


@pytest.mark.parametrize(
    ("kernels", "over", "said"),
    [
        (("cudnn_attention", "efficient_attention"), None, ["cudnn over efficient"]),
        (("attention_math", "flash_attention_for_cpu"), None, ["math over flash_for_cpu: a reason"]),
        (("attention_math", "attention_math"), None, ["attention_math: a reason"]),
        (("flash_attention", "attention_math"), {"attention": "math"}, []),
        (("flash_attention", "flash_attention"), None, []),
        (("flash_attention", None), None, []),
    ],
)
def test_a_row_names_the_kernels_of_both_sides(measured, kernels, over, said):
    """If they differ for another reason than the fields that are compared, the line says so, once."""
    own, other = kernels
    info, _ = measured(
        lambda device: Work(device, 1e-3, kernel=own), lambda device: Work(device, 1e-3, kernel=other), over=over
    )
    parts = result_line("a case", 1e-3, info).split("  ")

    assert (info["attention"]["kernel"], info["attention"]["reference_kernel"]) == kernels
    assert [part for part in parts if "flash" in part or "efficient" in part or "attention_" in part] == said


def test_a_case_without_a_reference_has_no_kernel_of_one(measured):
    """Null, and the line says nothing of it."""
    info, _ = measured(lambda device: Work(device, 1e-3))

    assert info["attention"]["reference_kernel"] is None
    assert "flash" not in result_line("a case", 1e-3, info)


@pytest.mark.parametrize(("pieces", "bound"), [(1, False), (400, True)])
def test_a_launch_bound_case_says_so(measured, pieces, bound):
    """400 kernels of 1 us take the 2 ms of their launches; one of 400 us does not."""
    info, _ = measured(lambda device: Work(device, 4e-4, pieces))

    assert any(flag.startswith("launch-bound: a step takes 5.0 times") for flag in info["flags"]) == bound
    assert info["time"]["device_busy_s"]["value"] == pytest.approx(4e-4)


def test_parts_larger_than_their_whole_are_flagged(measured):
    """The fake's allocator says 9 bytes allocated of 8 reserved."""
    info, _ = measured(lambda device: Work(device, 1e-3))

    assert "allocated_peak of 9 bytes is more than reserved_peak of 8" in info["flags"]


@pytest.mark.parametrize(("rewrites", "cold"), [(True, True), (False, False)])
def test_cold_is_what_was_rewritten(measured, rewrites, cold):
    """Asked for cold, a row is so where the cache was rewritten before every round; the rewriting is not timed."""
    info, samples = measured(lambda device: Work(device, 1e-3, cold=rewrites), cache="cold")

    assert info["time"]["cache"] == {"asked": "cold", "cold": cold}
    assert any("asked for a cold cache" in flag for flag in info["flags"]) != cold
    assert samples == pytest.approx([1e-3] * len(samples), rel=0.01, abs=5e-5)


def test_a_card_that_throttles_is_measured_once_more(measured):
    """Hot after the first attempt, cool after the second: the second counts, the first is kept beside it."""
    hot = STATE | {"event_reasons": {"value": ["HwThermalSlowdown"]}}
    info, _ = measured(lambda device: Work(device, 1e-3), cards=[STATE, STATE, STATE, hot])

    assert info["time"]["disturbed"] == []
    assert info["time"]["visits"][0]["left"][0]["disturbed"] == ["the card slowed down: HwThermalSlowdown"]


def test_others_on_the_card_are_flagged(measured):
    """Two processes that compute there too are named in the row."""
    busy = STATE | {"other_processes": {"value": 2}}
    info, _ = measured(lambda device: Work(device, 1e-3), cards=[STATE, STATE, STATE, busy])

    assert "2 other processes compute on the card" in info["flags"]


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"device": "cpu", "launch": "graph"}, "cpu has no CUDA graphs"),
        ({"launch": "graph", "phase": "backward"}, "only forward and train_step are captured as a graph"),
        ({"device": "cpu", "attention": "flex"}, "FlexAttention has no backward pass on a CPU"),
        ({"attention": "flex", "pe": "fire"}, "what fire adds to the scores is no function of the distance"),
        ({"attention": "flex", "pe": "shaw"}, "what shaw adds to the scores is no function of the distance"),
        ({"attention": "flex", "pe": "t5"}, None),
        ({"launch": "graph"}, None),
    ],
)
def test_what_cannot_run_says_why(fields, reason):
    """Before any clock."""
    found = unsupported(Case(**CASE | fields))

    assert (found is None) == (reason is None)
    assert reason is None or found.startswith(reason)


def test_the_kernel_of_a_reference_is_looked_up_once(measured):
    """Many cases share a reference, and looking takes a pass of its own."""
    looks, shared = [], object()

    def reference(device):
        work = Work(device, 1e-3)
        work.case, work.attention = shared, lambda: looks.append(1) or {"kernel": "efficient_attention"}
        return work

    rows = [measured(lambda device: Work(device, 2e-3), reference)[0] for _ in range(3)]

    assert [row["attention"]["reference_kernel"] for row in rows] == ["efficient_attention"] * 3
    assert len(looks) == 1


def test_a_graph_keeps_what_its_step_takes():
    """Beside a reference that is replayed too, both peaks are in memory at once."""
    eager = Case(**CASE | {"device": "cpu"})
    graph = replace(eager, launch="graph")
    alone, beside, both = (prediction(*cases)["value"] for cases in ((eager,), (eager, eager), (graph, graph)))

    assert both == 2 * alone > beside


def test_what_is_compiled_is_not_predicted():
    """Neither alone nor as the reference of another case."""
    case = Case(**CASE | {"device": "cpu", "phase": "forward"})
    flex = Case(**CASE | {"device": "cpu", "phase": "forward"}, attention="flex")

    for own, reference in ((flex, None), (case, flex)):
        assert "compiled steps cannot be traced" in prediction(own, reference)["reason"]


@pytest.mark.parametrize("phase", ["forward", "backward"])
def test_a_cold_step_is_prepared_and_rewrites_the_cache(monkeypatch, phase):
    """The cache has 4 MiB: the graph is made before, the rewriting comes last and is not weighed."""
    monkeypatch.setattr(Device, "cache_bytes", lambda self: 2**22)
    fields = CASE | {"device": "cpu", "phase": phase}
    cold, hot = Workload(Case(**fields, cache="cold")), Workload(Case(**fields))
    for work in (cold, hot):
        work.check()

    assert cold.flushes == 1
    assert cold.weigh(Device())["allocated_peak"]["value"] == hot.weigh(Device())["allocated_peak"]["value"]


def test_a_compiler_that_is_switched_off_is_unsupported():
    """Torch runs the step uncompiled and says nothing; its time would be taken for a compiled one's."""
    import torch._dynamo

    case = Case(**CASE | {"device": "cpu", "phase": "forward"}, compile=True)
    fresh_start(case)
    with torch._dynamo.config.patch(disable=True), pytest.raises(Unavailable, match="uncompiled") as raised:
        Workload(case).check()

    assert Record(Settings.from_options({}), Device()).how(raised.value)["status"] == "unsupported"
    assert unsupported(replace(case, phase="encoding", pe="learned")) is not None


def test_what_runs_uncompiled_is_counted():
    """Ten shapes are more than torch compiles a function for: it runs uncompiled from then on, and the row says so."""
    work = Workload(Case(**CASE | {"device": "cpu", "phase": "forward"}, compile=True))
    work.network = torch.compile(work.model, backend="eager", dynamic=False)
    tokens, _ = work.texts(10)
    fresh_start(work.case)
    with torch.no_grad():
        for n_texts in range(1, 11):
            work.network(tokens[:n_texts])
    found = work.compiled()
    fresh_start(work.case)

    assert found["graphs"] == 8
    assert found["eager"] > 0
    assert work.compiled() == {"graphs": 0, "graph_breaks": 0, "recompiles": 0, "eager": 0}
