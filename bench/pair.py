"""A case beside its reference, and their rounds: taken, and taken once more where something disturbed them."""

import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from pytest_benchmark.fixture import BenchmarkFixture

from attnlib.measure import sampling
from attnlib.measure.canary import Canary
from attnlib.measure.clock import device_times
from attnlib.measure.device import CaptureFailed, Device
from attnlib.measure.memory import Readings, is_out_of_memory
from attnlib.measure.noise import Disturbance, disturbed
from attnlib.measure.rounds import Between, Side, abba, rounds, turn
from bench.cases import Case
from bench.predict import reference_of
from bench.settings import Settings
from bench.workload import build, fresh_compiler


class Timeable(Side, Protocol):
    """What is measured: a ``bench.workload.Workload`` here, or a ``bench.worker.Remote`` in a child process."""

    @property
    def flushes(self) -> int:
        """How often the whole cache was rewritten before a step so far."""

    def check(self) -> float:
        """Run once, refuse a wrong result, return the seconds of this first call."""

    def attention(self) -> dict[str, Any]:
        """Which attention kernel a step runs."""

    def compiled(self) -> dict[str, int] | None:
        """What a compiler made of it, None where none was asked."""

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
    fresh_compiler()
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
        if not is_out_of_memory(error) and not isinstance(error, CaptureFailed):
            raise
        traceback.clear_frames(error.__traceback__)  # they hold the reference
        other, alone = None, f"its reference cannot be measured beside it: {str(error).partition(chr(10))[0]}"
    return Pair(build(case, settings.num_texts), other, first, alone)


@dataclass
class Attempt:
    """The rounds of a pair, measured once.

    Args:
        samples: seconds of each side's rounds, the case's last; pytest-benchmark's own list in the first attempt.
        by_device: the same as the device's own clock has them; None where it has none.
        cold: whether the whole cache was rewritten before every round of the case.
        seen: the counters meanwhile, see ``Disturbance.read``.
    """

    samples: list[list[float]]
    by_device: list[list[float]] | None
    cold: bool
    seen: dict[str, Any]

    @classmethod
    def of(
        cls,
        pair: Pair,
        pilot: sampling.Pilot,
        canary: Canary,
        take: Callable[[], list[list[float]]],
    ) -> "Attempt":
        """Take the rounds between two looks at the machine."""
        flushes = pair.work.flushes
        watch = Disturbance(canary.device, canary)
        with device_times() as times:
            samples = take()
        seen = watch.read()
        cold = bool(samples) and pair.work.flushes - flushes >= len(samples[-1])
        return cls(samples, by_side(times.rounds, pilot.iterations), cold, seen)


def by_side(seconds: Sequence[float], iterations: Sequence[int]) -> list[list[float]] | None:
    """The device's seconds of rounds that took turns, as those of a step of each side; None of no rounds at all."""
    if not seconds:
        return None
    sides: list[list[float]] = [[] for _ in iterations]
    order = abba(len(seconds) // 4 + 1) if len(sides) > 1 else [0] * len(seconds)
    for side, span in zip(order, seconds, strict=False):
        sides[side].append(span / iterations[side])
    return sides


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


def once_more(
    first: Attempt, pair: Pair, pilot: sampling.Pilot, quiet: dict[str, Any] | None, canary: Canary
) -> tuple[Attempt, dict[str, Any] | None]:
    """Measure a disturbed case once more, and let the counters, never the times, decide which attempt counts.

    Args:
        first: where the second one counts its samples are replaced in place, before pytest-benchmark has computed
            anything from them.
        pair: the case, and its reference if it has one.
        pilot: its rounds, the same in both attempts.
        quiet: counters while it was warmed up.
        canary: waited for, at most a while, before the second attempt.

    Returns:
        the attempt that counts, and of the other, if there were two, its samples and why it was disturbed.
    """
    why = disturbed(first.seen, quiet)
    if not why:
        return first, None
    canary.wait()
    turns = [turn(side, n) for side, n in zip(pair.sides, pilot.iterations, strict=True)]
    rounds(turns, range(len(turns)))  # untimed: waiting let them go cold
    order = list(abba(pilot.rounds // 2)) if len(turns) > 1 else [0] * pilot.rounds
    again = Attempt.of(pair, pilot, canary, lambda: rounds(turns, order))
    why_again = disturbed(again.seen, quiet)
    counts = len(why_again) < len(why)
    if counts:
        own = [list(side) for side in first.samples]
        for side, new in zip(first.samples, again.samples, strict=True):
            side[:] = new
        again.samples, first.samples = first.samples, own
    left = first if counts else again
    other = {"samples": left.samples[-1], "reference_s": left.samples[0] if len(left.samples) > 1 else None}
    return (again, other | {"disturbed": why}) if counts else (first, other | {"disturbed": why_again})
