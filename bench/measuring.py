"""One case, measured: gate, warm-up and pilot, timed rounds, then memory; all of it into ``extra_info``."""

from dataclasses import asdict
from functools import partial
from typing import Any, Protocol

from pytest_benchmark.fixture import BenchmarkFixture

from attnlib.measure import sampling
from attnlib.measure.canary import Canary
from attnlib.measure.clock import device_clock
from attnlib.measure.device import Device, reading
from attnlib.measure.memory import Readings
from attnlib.measure.noise import Disturbance, disturbed
from attnlib.measure.rounds import Step, rounds, timed
from attnlib.runs.schema import SCHEMA
from attnlib.theory import cost
from bench import predict
from bench.cases import Case
from bench.settings import Settings

OF_THE_PROCESS = ("cpu_s_per_wall_s", "involuntary_switches", "page_faults")


class Timeable(Protocol):
    """What is measured: a ``bench.workload.Workload`` here, or a ``bench.worker.Remote`` in a child process."""

    @property
    def prepare(self) -> Step | None:
        """What is called untimed before every step, or None."""

    @property
    def step(self) -> Step:
        """What is timed."""

    def clock(self) -> float:
        """The clock that the rounds are timed by."""

    def check(self) -> float:
        """Run once, refuse a wrong result, return the seconds of this first call."""

    def attention(self) -> dict[str, Any]:
        """Which attention kernel a step runs."""

    def weigh(self, device: Device) -> Readings:
        """Peak memory of one step."""


def identity(case: Case) -> dict[str, Any]:
    """What identifies a saved row: the schema's version, the case and its hash."""
    return {"schema": SCHEMA, "case": asdict(case), "case_id": case.id}


def cost_of(case: Case, attention: dict[str, Any]) -> dict[str, Any]:
    """The ``cost`` of a row: parameters, FLOPs where the phase has a formula, and the predicted peak.

    Args:
        case: what was measured.
        attention: which kernel ran, see ``Timeable.attention``.
    """
    flops = None
    if case.phase == "forward":
        flops = cost.forward_flops(case, case.batch_size)
    elif case.phase == "train_step":
        flops = cost.train_flops(case, case.batch_size, fused=bool(attention["fused"]))
    return {
        "params": cost.parameters(case),
        "flops": flops,
        "predicted_peak": predict.prediction(case),
    }


def measure_case(
    benchmark: BenchmarkFixture, work: Timeable, case: Case, settings: Settings, device: Device, canary: Canary
) -> float:
    """Time and weigh ``work``, between two readings of the canary, and save everything in ``benchmark.extra_info``.

    Returns:
        the seconds that went into first call, warm-up, pilot and rounds.

    Raises:
        AssertionError: the correctness gate failed; nothing was timed.
    """
    first = work.check()
    benchmark.extra_info["time"] = {"first_call_s": first}  # what there is, should the case end early
    watch = Disturbance(device)
    pilot = sampling.pilot(
        work.step, work.prepare, precision=settings.precision, budget=settings.budget, clock=work.clock
    )
    benchmark.extra_info["time"] |= asdict(pilot)
    local = work.clock is device_clock
    quiet = watch.read() if local else None  # the counters of a child process are not ours
    watch = Disturbance(device, canary)
    benchmark.pedantic(work.step, setup=work.prepare, rounds=pilot.rounds, iterations=pilot.iterations)
    seen = watch.read()
    if benchmark.stats is None:  # --benchmark-disable: the gate and one call were all
        return 0.0
    samples: list[float] = benchmark.stats.stats.data
    seen, replaced = once_more(samples, work, pilot, quiet, seen, canary)
    alone, attention = local and work.prepare is None, work.attention()
    events = device.event_seconds(work.step) if alone else reading(None, "device events", "not timed in this phase")
    benchmark.extra_info |= identity(case) | {
        "time": {
            "first_call_s": first,
            **asdict(pilot),
            "pilot_s": list(pilot.pilot_s),
            **sampling.summary(samples),
            "device_event_s": events,
            **(seen if local else seen | dict.fromkeys(OF_THE_PROCESS)),  # this process only waited for a child
            "disturbed": disturbed(seen, quiet),
            "replaced": replaced,
        },
        "attention": attention,
        "memory": work.weigh(device),
        "cost": cost_of(case, attention),
    }
    return first + pilot.warmup_s + pilot.iterations * (sum(pilot.pilot_s) + sum(samples))


def once_more(
    samples: list[float],
    work: Timeable,
    pilot: sampling.Pilot,
    quiet: dict[str, Any] | None,
    seen: dict[str, Any],
    canary: Canary,
) -> tuple[dict[str, Any], dict[str, Any] | None]:
    """Measure a disturbed case once more, and let the counters, never the times, decide which attempt counts.

    Args:
        samples: of the first attempt; where the second one counts they are replaced in place, before pytest-benchmark
            has computed anything from them.
        work: the case.
        pilot: its rounds, the same in both attempts.
        quiet: counters while it was warmed up.
        seen: counters of the first attempt.
        canary: waited for, at most a while, before the second attempt.

    Returns:
        the counters of the attempt that counts, and the other attempt, if there were two: its samples and why it was
        disturbed.
    """
    why = disturbed(seen, quiet)
    if not why:
        return seen, None
    canary.wait()
    timed(work.step, work.prepare, work.clock)  # untimed: waiting let it go cold
    watch = Disturbance(canary.device, canary)
    (again,) = rounds([partial(timed, work.step, work.prepare, work.clock, pilot.iterations)], [0] * pilot.rounds)
    seen_again = watch.read()
    why_again = disturbed(seen_again, quiet)
    if len(why_again) >= len(why):
        return seen, {"samples": again, "disturbed": why_again}
    first, samples[:] = list(samples), again
    return seen_again, {"samples": first, "disturbed": why}
