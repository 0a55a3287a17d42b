"""One case, measured: gate, warm-up and pilot, rounds beside its reference's, then memory; into ``extra_info``."""

import traceback
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, NamedTuple, Protocol

from pytest_benchmark.fixture import BenchmarkFixture

from attnlib.measure import sampling
from attnlib.measure.canary import Canary
from attnlib.measure.ceilings import Rates
from attnlib.measure.clock import device_clock
from attnlib.measure.device import Device, reading
from attnlib.measure.memory import Readings, is_out_of_memory
from attnlib.measure.noise import Disturbance, disturbed
from attnlib.measure.rounds import Between, Side, abba, rounds, turn
from attnlib.runs.schema import SCHEMA
from attnlib.theory import cost
from bench import predict
from bench.cases import PAIRED, Case
from bench.predict import reference_of
from bench.settings import Settings
from bench.workload import build

OF_THE_PROCESS = ("cpu_s_per_wall_s", "involuntary_switches", "page_faults")


class Instruments(NamedTuple):
    """Of the device that a case runs on: itself, its canary, and the rates that it reached so far."""

    device: Device
    canary: Canary
    rates: Rates


class Timeable(Side, Protocol):
    """What is measured: a ``bench.workload.Workload`` here, or a ``bench.worker.Remote`` in a child process."""

    def check(self) -> float:
        """Run once, refuse a wrong result, return the seconds of this first call."""

    def attention(self) -> dict[str, Any]:
        """Which attention kernel a step runs."""

    def weigh(self, device: Device) -> Readings:
        """Peak memory of one step."""


@dataclass
class Pair:
    """A case's workload, and its reference's for as long as the rounds last.

    Args:
        work: of the case.
        reference: of its reference, checked; None where the case is measured alone.
        first_s: seconds of the reference's first call.
        alone: why the case is alone.
    """

    work: Timeable
    reference: Timeable | None = None
    first_s: float = 0.0
    alone: str | None = None

    @property
    def sides(self) -> list[Timeable]:
        """Who takes turns: the reference, if there is one, and the case."""
        return [self.work] if self.reference is None else [self.reference, self.work]

    def between(self, pilot: sampling.Pilot) -> Between | None:
        """What runs the reference's rounds between those that pytest-benchmark times."""
        if self.reference is None:
            return None
        return Between(turn(self.reference, pilot.iterations[0]), pilot.rounds // 2)

    def forget_reference(self) -> bool:
        """Let go of the reference, so that it weighs on nothing; whether there was one."""
        paired, self.reference = self.reference is not None, None
        return paired


def paired(case: Case, settings: Settings, device: Device) -> Pair:
    """The case beside its reference, or alone where that does not fit after all.

    Raises:
        AssertionError: the reference failed its correctness gate.
    """
    reference, alone = reference_of(case, settings, device)
    if reference is None:
        return Pair(build(case, settings.num_texts), alone=alone)
    other: Timeable | None = None
    first = 0.0
    try:
        other = build(reference)
        first = other.check()
    except AssertionError as error:
        raise AssertionError(f"its reference: {error}") from None
    except (RuntimeError, MemoryError) as error:
        if not is_out_of_memory(error):
            raise
        traceback.clear_frames(error.__traceback__)  # they hold the reference
        other, alone = None, f"its reference cannot be measured beside it: {str(error).partition(chr(10))[0]}"
    return Pair(build(case, settings.num_texts), other, first, alone)


def identity(case: Case) -> dict[str, Any]:
    """What identifies a saved row: the schema's version, the case and its hash."""
    return {"schema": SCHEMA, "case": asdict(case), "case_id": case.id}


def cost_of(case: Case, attention: dict[str, Any], rates: Rates) -> dict[str, Any]:
    """The ``cost`` of a row: by formula, and by prediction.

    Args:
        case: what was measured.
        attention: which kernel ran, see ``Timeable.attention``; where none was looked for, the one that should.
        rates: that the machine reached in this run.
    """
    found = {"params": cost.parameters(case), "flops": None, "flops_algorithmic": None}
    if case.phase in PAIRED:
        executed = cost.executed_flops(case, case.batch_size, attention["kernel"] or predict.kernel_of(case))
        needed = cost.algorithmic_flops(case, case.batch_size)
        found |= {"flops": cost.total(executed, case.phase), "flops_algorithmic": cost.total(needed, case.phase)}
    return found | predict.outlook(case, rates)


def measure_case(
    benchmark: BenchmarkFixture, pair: Pair, case: Case, settings: Settings, instruments: Instruments
) -> float:
    """Time a case, beside its reference if it has one, weigh it, and save it all in ``benchmark.extra_info``.

    Returns:
        the seconds that went into rounds of either side, pilot and set-ups included.

    Raises:
        AssertionError: the correctness gate failed; nothing was timed.
    """
    info, work = benchmark.extra_info, pair.work
    device, canary, rates = instruments
    first, local = work.check(), work.clock is device_clock
    info["time"] = {"first_call_s": first}  # what there is, should the case end early
    watch = Disturbance(device)
    firsts = [pair.first_s, first][-len(pair.sides) :]
    pilot = sampling.pilot(pair.sides, firsts, precision=settings.precision, budget=settings.budget)
    info["time"] |= pilot.as_json()
    # the counters of a child process are not ours, and those of no time at all say nothing
    quiet = watch.read() if local and pilot.warmup_calls else None
    watch = Disturbance(device, canary)
    samples = rounds_of(benchmark, pair, pilot)
    seen = watch.read()
    if not samples:
        return 0.0
    seen, replaced = once_more(samples, pair, pilot, quiet, seen, canary)
    beside, attention = pair.forget_reference(), work.attention()
    alone = local and work.prepare is None
    events = device.event_seconds(work.step) if alone else reading(None, "device events", "not timed in this phase")
    info |= identity(case) | {
        "time": info["time"]
        | sampling.summary(samples[-1])
        | over_reference(samples, case, settings.reference if beside else None, pair.alone)
        | {
            "device_event_s": events,
            **(seen if local else seen | dict.fromkeys(OF_THE_PROCESS)),  # this process only waited for a child
            "disturbed": disturbed(seen, quiet),
            "replaced": replaced,
        },
        "attention": attention,
        "memory": work.weigh(device),
        "cost": cost_of(case, attention, rates),
    }
    return pilot.spent_s + float(seen["wall_s"])


def rounds_of(benchmark: BenchmarkFixture, pair: Pair, pilot: sampling.Pilot) -> list[list[float]]:
    """Seconds of each side's rounds, the case's being pytest-benchmark's own; none where it is disabled."""
    work, between = pair.work, pair.between(pilot)
    if between is not None:
        between()
    benchmark.pedantic(
        work.step, setup=work.prepare, teardown=between, rounds=pilot.rounds, iterations=pilot.iterations[-1]
    )
    if benchmark.stats is None:  # --benchmark-disable: the gate and one call were all
        return []
    samples: list[float] = benchmark.stats.stats.data
    return [samples] if between is None else [between.samples, samples]


def over_reference(
    samples: list[list[float]], case: Case, reference: Mapping[str, Any] | None, alone: str | None
) -> dict[str, Any]:
    """What is saved of the reference: its raw seconds, and the case's ratio over it; nothing of an unpaired phase.

    Args:
        samples: seconds of the rounds of the reference, if there are, and of the case.
        case: what was measured.
        reference: fields in which it differs; None where the case was alone.
        alone: why it was.
    """
    if case.phase not in PAIRED:
        return {}
    if reference is None:
        return {"over_reference": {"value": None, "reason": alone}, "reference_s": None}
    value, low, high = sampling.over(*samples)
    blocks = len(samples[0]) // 2
    found = {"value": value, "low": low, "high": high, "blocks": blocks, "reference": dict(reference)}
    return {"over_reference": found, "reference_s": samples[0]}


def once_more(
    samples: list[list[float]],
    pair: Pair,
    pilot: sampling.Pilot,
    quiet: dict[str, Any] | None,
    seen: dict[str, Any],
    canary: Canary,
) -> tuple[dict[str, Any], dict[str, Any] | None]:
    """Measure a disturbed case once more, and let the counters, never the times, decide which attempt counts.

    Args:
        samples: of each side in the first attempt; where the second one counts they are replaced in place, before
            pytest-benchmark has computed anything from them.
        pair: the case, and its reference if it has one.
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
    turns = [turn(side, n) for side, n in zip(pair.sides, pilot.iterations, strict=True)]
    rounds(turns, range(len(turns)))  # untimed: waiting let them go cold
    watch = Disturbance(canary.device, canary)
    again = rounds(turns, abba(pilot.rounds // 2) if len(turns) > 1 else [0] * pilot.rounds)
    seen_again = watch.read()
    why_again = disturbed(seen_again, quiet)
    counts = len(why_again) < len(why)
    left = [list(own) for own in (samples if counts else again)]
    if counts:
        for own, new in zip(samples, again, strict=True):
            own[:] = new
    other = {"samples": left[-1], "reference_s": left[0] if len(left) > 1 else None}
    return (seen_again, other | {"disturbed": why}) if counts else (seen, other | {"disturbed": why_again})
