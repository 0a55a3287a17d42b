"""A case beside its reference, and their rounds: taken, and taken once more where something disturbed them."""

import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import chain
from typing import Any, Protocol

import numpy as np
from pytest_benchmark.fixture import BenchmarkFixture

from attnlib.cases.case import Case
from attnlib.cases.settings import Settings
from attnlib.cases.workload import build, fresh_start
from attnlib.errors import message
from attnlib.measure import sampling
from attnlib.measure.canary import Canary
from attnlib.measure.clock import device_times
from attnlib.measure.device import Device, Unavailable
from attnlib.measure.memory import Readings, is_out_of_memory
from attnlib.measure.noise import Disturbance, disturbed
from attnlib.measure.rounds import Between, Side, rounds
from attnlib.predict.peak import reference_of

KERNELS: dict[Case, str | None] = {}  # of the references so far
SHORTEST = 1e-9  # seconds of a step at least, whatever the kernel's clock and ours make of it


class Sides(Protocol):
    """Sides that take turns in rounds; the case is the last."""

    @property
    def sides(self) -> Sequence[Side]:
        """Sides that take turns: the reference, if there is one, and the case."""

    @property
    def flushes(self) -> int:
        """Number of times that the whole cache was rewritten before a step of the case, so far."""

    def waited(self, pilot: sampling.Pilot) -> list[list[float]] | None:
        """Return the seconds in which a step waited for a CPU, for each of the last rounds; None if not counted."""


class Timeable(Side, Protocol):
    """A workload that is measured: a ``cases.workload.Workload``, or a ``live.remote.Remote`` in a child process."""

    case: Case

    @property
    def flushes(self) -> int:
        """Number of times that the whole cache was rewritten before a step, so far."""

    def check(self) -> float:
        """Run once, refuse a wrong result, return the seconds of this first call."""

    def attention(self) -> dict[str, Any]:
        """Return the attention kernel that a step runs, with the reason if it is not a fused one."""

    @property
    def gradient_ends(self) -> dict[str, dict[str, Any]]:
        """Gradient norms of the first and last parameter of somebody else's model, at initialisation."""

    def compiled(self) -> dict[str, int] | None:
        """Return counts of the compiler's work on the step; None if it is not compiled."""

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
        """Sides that take turns: the reference, if there is one, and the case."""
        return [self.work] if self.reference is None else [self.reference, self.work]

    @property
    def flushes(self) -> int:
        """Number of times that the whole cache was rewritten before a step of the case, so far."""
        return self.work.flushes

    def waited(self, pilot: sampling.Pilot) -> None:
        """Return None: pytest-benchmark's rounds are not looked into."""

    def between(self, pilot: sampling.Pilot) -> Between | None:
        """Return the object that runs the reference's turns between the rounds that pytest-benchmark times."""
        if self.reference is None:
            return None
        return Between(pilot.turns(self.sides)[0], partial(pilot.settle, self.work), pilot.order())

    def reference_kernel(self) -> str | None:
        """Return the attention kernel that the reference runs; None without a reference, or where it is not known."""
        if self.reference is None:
            return None
        case = self.reference.case
        if case not in KERNELS:  # looking takes a pass in torch's profiler, and many cases share a reference
            KERNELS[case] = self.reference.attention()["kernel"]
        return KERNELS[case]

    def forget_reference(self) -> bool:
        """Let go of the reference, so that it weighs on nothing; whether there was one."""
        paired, self.reference = self.reference is not None, None
        return paired


def paired(case: Case, settings: Settings, device: Device) -> Pair:
    """The case beside its reference, or alone where that does not fit after all.

    Raises:
        AssertionError: the reference failed its correctness gate.
    """
    fresh_start(case)
    reference, alone = reference_of(case, settings, device)
    if reference is None:
        return Pair(build(case, settings.num_texts), alone=alone)
    other: Timeable | None = None
    first = 0.0
    try:
        other = build(reference)
        first = other.check()
    except AssertionError as error:
        raise AssertionError(message(f"its reference: {error}")) from None
    except (RuntimeError, MemoryError) as error:
        if not is_out_of_memory(error) and not isinstance(error, Unavailable):
            raise
        traceback.clear_frames(error.__traceback__)  # they hold the reference
        other, alone = None, f"its reference cannot be measured beside it: {str(error).partition(chr(10))[0]}"
    return Pair(build(case, settings.num_texts), other, first, alone)


@dataclass
class Attempt:
    """The rounds of a pair, measured once.

    Args:
        samples: seconds of each side's rounds, the case's last.
        by_device: the same as the device's own clock has them; None where it has none.
        cold: whether the whole cache was rewritten before every round of the case.
        seen: the counters meanwhile, see ``Disturbance.read``.
        disturbed: why it cannot be trusted; empty if it can.
        waited: seconds of a step of each round in which its thread waited for a CPU that others had, the case's last;
            None where they are not counted.
    """

    samples: list[list[float]]
    by_device: list[list[float]] | None
    cold: bool
    seen: dict[str, Any]
    disturbed: list[str]
    waited: list[list[float]] | None = None

    @property
    def own(self) -> list[list[float]]:
        """Seconds of each side's rounds without those in which they waited for a CPU, where these are counted."""
        waited = self.waited or [[0.0] * len(side) for side in self.samples]
        return [
            [max(total - wait, SHORTEST) for total, wait in zip(*side, strict=True)]
            for side in zip(self.samples, waited, strict=True)
        ]

    @property
    def log_ratio(self) -> float | None:
        """Log of the case's time over its reference's, see ``sampling.log_ratio``; None without a reference."""
        return sampling.log_ratio(*self.own) if len(self.samples) > 1 else None


def attempt(
    pair: Sides,
    pilot: sampling.Pilot,
    canary: Canary,
    take: Callable[[], list[list[float]]],
    quiet: dict[str, Any] | None = None,
) -> Attempt:
    """Take the rounds of a pair between two looks at the machine.

    Args:
        pair: the case, and its reference if it has one.
        pilot: its rounds.
        canary: of the device.
        take: runs the rounds; returns the seconds of each side's.
        quiet: counters while it was warmed up.
    """
    flushes = pair.flushes
    watch = Disturbance(canary.device, canary)
    with device_times() as times:
        samples = take()
    seen = watch.read()
    # at least one rewriting of the cache a round; there may be more, before untimed steps
    cold = bool(samples) and pair.flushes - flushes >= len(samples[-1])
    by_device = by_side(times.rounds, pilot)
    return Attempt(samples, by_device, cold, seen, disturbed(seen, quiet), pair.waited(pilot))


def by_side(seconds: Sequence[float], pilot: sampling.Pilot) -> list[list[float]] | None:
    """Return the seconds of a step in each side's rounds from the device's seconds of all rounds; None without any."""
    if not seconds:
        return None
    sides: list[list[float]] = [[] for _ in pilot.iterations]
    for (side, _), span in zip(pilot.order(), seconds, strict=False):
        sides[side].append(span / pilot.iterations[side])  # the device's clock ran over all steps of the round
    return sides


def rounds_of(benchmark: BenchmarkFixture, pair: Pair, pilot: sampling.Pilot) -> list[list[float]]:
    """Run the rounds, the case's in pytest-benchmark; return the seconds of each side's; none where it is disabled."""
    work, between = pair.work, pair.between(pilot)
    if between is not None:
        between()  # the reference's turn before the case's first round
    # teardown follows each round outside of its time, so that the reference's rounds lie between the case's
    benchmark.pedantic(
        work.step, setup=work.prepare, teardown=between, rounds=pilot.rounds, iterations=pilot.iterations[-1]
    )
    if benchmark.stats is None:  # --benchmark-disable: the gate and one call were all
        return []
    samples = list(benchmark.stats.stats.data)
    return [samples] if between is None else [between.samples, samples]


@dataclass
class Visit:
    """The attempts of one visit: one, or two where something disturbed the first.

    An undisturbed attempt counts alone; two disturbed ones count both, since nothing says which is better.

    Args:
        attempts: in order.
        blocks: of turns in each.
    """

    attempts: list[Attempt]
    blocks: int

    @property
    def counting(self) -> list[Attempt]:
        """The undisturbed attempts, or all where there are none."""
        return [one for one in self.attempts if not one.disturbed] or self.attempts

    @property
    def disturbed(self) -> list[str]:
        """Reasons why every attempt was disturbed; empty if one was not."""
        return self.counting[-1].disturbed

    @property
    def samples(self) -> list[list[float]]:
        """Seconds of each side's rounds that count, the case's last."""
        return joined([one.samples for one in self.counting])

    @property
    def own(self) -> list[list[float]]:
        """Seconds of each side's rounds that count, without waiting for a CPU, see ``Attempt.own``."""
        return joined([one.own for one in self.counting])

    @property
    def by_device(self) -> list[list[float]] | None:
        """Seconds of each side's rounds that count, by the device's own clock; None where it has none."""
        own = [one.by_device for one in self.counting if one.by_device is not None]
        return joined(own) if own else None

    @property
    def wall_s(self) -> float:
        """Seconds that all attempts took."""
        return sum(float(one.seen["wall_s"]) for one in self.attempts)

    def as_json(self, at_s: float) -> dict[str, Any]:
        """Return what is saved of it.

        Args:
            at_s: when it began, in seconds since the device's canary was made.
        """
        logs = [log for one in self.counting if (log := one.log_ratio) is not None]
        pairs = sampling.ratio_over(*self.own) if logs else None
        # an attempt that does not count is saved all the same: no sample is dropped
        left = [one for one in self.attempts if one not in self.counting]
        return {
            "at_s": at_s,
            "log_ratio": float(np.mean(logs)) if logs else None,
            "interval": None if pairs is None else list(pairs[1:]),  # of its pairs of rounds, within the visit
            "rounds": sum(len(one.samples[-1]) for one in self.counting),
            "blocks": self.blocks * len(self.counting),
            "disturbed": self.disturbed,
            "seen": self.counting[-1].seen,
            "left": [
                {
                    "samples": one.samples[-1],
                    "reference_s": one.samples[0] if len(one.samples) > 1 else None,
                    "disturbed": one.disturbed,
                }
                for one in left
            ],
        }


def joined(samples: Sequence[list[list[float]]]) -> list[list[float]]:
    """Concatenate the samples of several attempts, side by side."""
    return [list(chain.from_iterable(side)) for side in zip(*samples, strict=True)]


def visit(
    pair: Sides,
    pilot: sampling.Pilot,
    canary: Canary,
    take: Callable[[], list[list[float]]],
    quiet: dict[str, Any] | None = None,
) -> Visit:
    """Measure a pair, and once more where something disturbed it; arguments as of ``attempt``."""
    first = attempt(pair, pilot, canary, take, quiet)
    if not first.samples or not first.disturbed:
        return Visit([first], pilot.blocks)
    canary.wait()  # for the machine to become as it usually is, a second at most
    return Visit([first, attempt(pair, pilot, canary, partial(own_rounds, pair, pilot), quiet)], pilot.blocks)


def own_rounds(pair: Sides, pilot: sampling.Pilot) -> list[list[float]]:
    """Take the rounds of a pair in a loop of our own; seconds of each side's."""
    return rounds(pilot.turns(pair.sides), pilot.order())
