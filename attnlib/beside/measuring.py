"""The fixture's callable: two functions measured beside each other, as visits of rounds that take turns."""

import os
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import pytest
from pytest_benchmark.fixture import BenchmarkFixture, PauseInstrumentation

from attnlib.beside.call import Call
from attnlib.beside.cost import THRESHOLD, Cost, verdict_of
from attnlib.compare.intervals import Estimate, t_interval
from attnlib.errors import message
from attnlib.measure import clock
from attnlib.measure.canary import Canary
from attnlib.measure.conditions import set_for_rounds
from attnlib.measure.device import Device
from attnlib.measure.memory import added_peak
from attnlib.measure.noise import CpuWait, Disturbance
from attnlib.measure.sampling import MIN_ROUNDS, SLOW, Pilot, pilot
from attnlib.plugin.pair import Visit, attempt, joined, own_rounds
from attnlib.plugin.screen import beside_line, name_of
from attnlib.plugin.stash import RECORD, SCREEN
from attnlib.runs.schema import SCHEMA

SERVER: pytest.StashKey[Callable[[pytest.Item, "Two"], None]] = pytest.StashKey()  # what takes a pair over instead
VISITS, FEWEST = 8, 3  # of a pair; of slow ones
BUDGET = 2.0  # seconds of warm-up and rounds of a pair
PRECISION = 0.005  # wished half-width of a visit's ratio
OFF = "pytest-benchmark is switched off (xdist, --benchmark-disable): each side ran once, nothing was measured"


@dataclass
class Two:
    """A reference and the callable that is measured beside it, see ``attnlib.plugin.pair.Sides``."""

    reference: Call
    call: Call
    flushes: int = 0  # of the cache before a step: none

    @property
    def sides(self) -> list[Call]:
        """Sides that take turns."""
        return [self.reference, self.call]

    def check(self) -> list[float]:
        """Run each side once; return the seconds. Raises as ``Call.check``."""
        __tracebackhide__ = True
        firsts = []
        for side in self.sides:
            firsts.append(side.check())  # no comprehension, whose frame pytest would show
        return firsts

    def count_waits(self, cpu_wait: CpuWait) -> None:
        """Have every round of either side look how long its thread waited for a CPU."""
        for side in self.sides:
            side.cpu_wait = cpu_wait

    def take(self, own: Pilot) -> list[list[float]]:
        """Take the rounds of both sides; return the seconds of a step in each."""
        for side in self.sides:
            side.waits.clear()
        return own_rounds(self, own)

    def waited(self, own: Pilot) -> list[list[float]] | None:
        """Return the seconds of a step, in each of the last rounds, in which its thread waited for a CPU.

        None where the kernel does not count them, and on an accelerator, which goes on meanwhile.
        """
        found = []
        for side, steps in zip(self.sides, own.iterations, strict=True):
            # the clock is read, and with it the wait so far, at the start and at the end of each round
            known = [seconds for seconds in side.waits if seconds is not None]
            if not known or len(known) < len(side.waits):
                return None
            found.append([(end - start) / steps for start, end in zip(known[::2], known[1::2], strict=True)])
        return found

    def restore(self) -> None:
        """Give all tensors the gradients back that they had before."""
        for side in reversed(self.sides):  # the second one found the first one's
            side.restore()


@dataclass(frozen=True)
class Found:
    """The visits of a pair, and what a call of either side adds to memory at its peak, as readings."""

    visits: Sequence[Visit]
    began: Sequence[float]  # seconds since the canary was made
    iterations: tuple[int, ...]
    peaks: tuple[dict[str, Any], dict[str, Any]]
    notes: tuple[str, ...]

    @property
    def samples(self) -> list[list[float]]:
        """Seconds of a call in each round that counts, of the reference and of the callable."""
        return joined([one.samples for one in self.visits])

    @property
    def own(self) -> list[list[float]]:
        """Seconds of each side's rounds without those in which they waited for a CPU."""
        return joined([one.own for one in self.visits])

    def rounds(self) -> dict[str, Any]:
        """Return what is saved of the rounds beside the seconds of the call's own, and of the visits."""
        waited = [one.waited for visit in self.visits for one in visit.counting]
        reference, call = joined([sides for sides in waited if sides]) if all(waited) else (None, None)
        return {
            "reference_s": self.samples[0],
            "waited_s": call,
            "reference_waited_s": reference,
            "reference_iterations": self.iterations[0],
            "visits": [one.as_json(at) for one, at in zip(self.visits, self.began, strict=True)],
        }

    def as_json(self, cost: Cost) -> dict[str, Any]:
        """Return what is saved as the row's finding, see ``attnlib.runs.schema.Beside``."""
        reference_peak, peak = self.peaks
        return {
            "ratio": cost.ratio._asdict(),
            "seconds": cost.seconds,
            "reference_seconds": cost.reference_seconds,
            "verdict": cost.verdict,
            "threshold": cost.threshold,
            "peak": peak,
            "reference_peak": reference_peak,
            "log_ratios": [one.as_json(0.0)["log_ratio"] for one in self.visits],
            "disturbed": cost.disturbed,
            "notes": list(cost.notes),
        }

    def cost(self, threshold: float) -> Cost:
        """Return what the test gets."""
        saved = [one.as_json(0.0) for one in self.visits]
        ratio = interval_of([float(one["log_ratio"]) for one in saved])
        seconds = float(np.median(self.own[0]))
        reference_peak, peak = (reading["value"] for reading in self.peaks)
        reasons = dict.fromkeys(f"bytes: {one['reason']}" for one in self.peaks if one["reason"])
        return Cost(
            ratio=ratio,
            seconds=ratio.value * seconds,  # not the median of its own rounds: a ratio drifts less than a time
            reference_seconds=seconds,
            verdict=verdict_of(ratio, threshold),
            threshold=threshold,
            peak_bytes=peak,
            reference_peak_bytes=reference_peak,
            visits=len(self.visits),
            disturbed=sum(bool(one.disturbed) for one in self.visits),
            notes=(*self.notes, *reasons),
        )


def interval_of(logs: Sequence[float]) -> Estimate:
    """Return the geometric mean of the visits' ratios, given their logarithms, with Student's 95 % interval."""
    return t_interval(logs).exp()


class Beside:
    """Measures a callable beside another one, once in a test.

    Args:
        request: pytest's, of the test.
        benchmark: pytest-benchmark's fixture, which gets the seconds of every round.
    """

    def __init__(self, request: pytest.FixtureRequest, benchmark: BenchmarkFixture) -> None:
        self.config, self.item, self.benchmark = request.config, request.node, benchmark
        self.called = False

    def __call__(
        self,
        call: Callable[[], Any],
        *,
        reference: Callable[[], Any],
        backward: bool = False,
        threshold: float | None = None,
        decided: bool = False,
    ) -> Cost:
        """Measure ``call`` beside ``reference``, both called without arguments, and return the cost.

        Rounds of the one lie between rounds of the other, in the order 0110 1001; visits of such rounds follow one
        another, each warmed up anew, and the ratio is the geometric mean over them.

        Args:
            call: what is measured; inputs are made before.
            reference: what it is measured beside.
            backward: both return a tensor, or a tuple of tensors, that needs a gradient: the graph is made untimed, and
                the backward pass from ones is timed. Gradients that the tensors had are put back.
            threshold: the largest change that is the same; ``--beside-threshold`` or 0.05.
            decided: fail the test where the verdict is ``undecided``.

        Raises:
            TypeError: an argument is no callable.
            ValueError: the threshold is no positive number, **or** it was called before in this test.
            AssertionError: see ``attnlib.beside.call.Call.check``.
            pytest.fail.Exception: undecided, and ``decided``.
            pytest.skip.Exception: pytest-benchmark is switched off; each side ran once.
        """
        __tracebackhide__ = True
        limit = self.threshold(threshold)
        for name, given in (("call", call), ("reference", reference)):
            if not callable(given):
                raise TypeError(message(f"beside takes a callable as {name}, as in lambda: f(x)", type(given)))
        if self.called:
            wrong = "beside was called before in this test, which has one row"
            raise ValueError(message(wrong, do="parametrize it"))
        self.called = True
        pair = Two(Call("the reference", reference, backward=backward), Call("the call", call, backward=backward))
        if (serve := self.config.stash.get(SERVER, None)) is not None:
            serve(self.item, pair)
        if self.benchmark.disabled:
            pair.check()
            pair.restore()
            pytest.skip(OFF)
        found = self.measured(pair)
        cost = found.cost(limit)
        self.keep(pair, found, cost)
        if decided and cost.verdict == "undecided":
            text = message(f"{cost} at a threshold of {limit:g}", do="allow more with --beside-budget")
            pytest.fail(text, pytrace=False)
        return cost

    def threshold(self, given: float | None) -> float:
        """Return the threshold that counts.

        Raises:
            ValueError: it is no positive number.
        """
        __tracebackhide__ = True
        chosen = given if given is not None else self.config.option.beside_threshold
        if chosen is None:
            return THRESHOLD
        if not isinstance(chosen, (int, float)) or not 0 < chosen < float("inf"):
            raise ValueError(message("beside takes a positive number as threshold, as in 0.05", chosen))
        return float(chosen)

    def measured(self, pair: Two) -> Found:
        """Check both sides, then time and weigh them."""
        __tracebackhide__ = True
        record = self.config.stash.get(RECORD, None)
        if record is None:
            advice = "name it among the test's arguments"
            raise RuntimeError(message("the session is not prepared for beside", do=advice))
        clock.bind(record.device)
        with PauseInstrumentation(), set_for_rounds(record.settings.threads) as notes:
            canary, cpu_wait = record.canary(record.device), CpuWait()
            try:
                firsts = pair.check()
                if record.device.kind == "cpu":
                    pair.count_waits(cpu_wait)
                options = self.config.option
                visits = options.beside_visits or VISITS
                made, began, iterations = visited(pair, firsts, canary, visits, options.beside_budget or BUDGET)
                with quiet_errors():
                    peaks = weighed(pair, record.device)
            except BaseException:
                # else pytest-benchmark warns, beside the failure, that nobody used its fixture
                self.benchmark._mode = "beside(...)"
                raise
            finally:
                pair.restore()
                cpu_wait.close()
            return Found(made, began, iterations, peaks, tuple(notes))

    def keep(self, pair: Two, found: Found, cost: Cost) -> None:
        """Give the row of this test its finding, and pytest-benchmark the seconds of every round as its own."""
        record, screen = self.config.stash[RECORD], self.config.stash[SCREEN]
        threads = record.settings.threads
        row = found.as_json(cost) | {"device": str(record.device.torch_device), "threads": threads}
        record.found_beside(self.item.nodeid, row | {"backward": pair.call.backward})
        # one round is all that pytest-benchmark runs itself; its time is replaced by those of our rounds
        self.benchmark.pedantic(pair.call.step, setup=pair.call.prepare, iterations=found.iterations[-1])
        pair.restore()
        if self.benchmark.stats is not None:
            self.benchmark.stats.stats.data[:] = found.samples[-1]
        self.benchmark.extra_info |= {"schema": SCHEMA, "beside": found.rounds()}
        screen.announce(self.item, beside_line(name_of(self.item), row))


def visited(
    pair: Two, firsts: Sequence[float], canary: Canary, count: int, budget: float
) -> tuple[list[Visit], list[float], tuple[int, ...]]:
    """Visit a pair several times; return the visits, when each began, and the steps in a round of each side.

    Args:
        pair: checked.
        firsts: seconds of each side's first call.
        canary: of the device.
        count: visits; of slow pairs ``FEWEST``.
        budget: seconds of all visits together; slow steps exceed it by the least number of rounds.
    """
    # where even the least number of rounds exceeds the budget several times, fewer visits are made instead
    if MIN_ROUNDS * sum(firsts) * count > SLOW * budget:
        count = min(count, FEWEST)
    made: list[Visit] = []
    began: list[float] = []
    fixed: Pilot | None = None
    for _ in range(count):
        began.append(canary.at_s)
        watch = Disturbance(canary.device)
        # warming up anew makes each visit a measurement of its own, whose spread the interval can rest on
        own = pilot(pair.sides, firsts, precision=PRECISION, budget=budget / count)
        quiet = watch.read() if own.warmup_calls else None  # of the warm-up, to compare the rounds with
        # pytest-benchmark saves one number of steps in a round, so all visits have that of the first
        own = own if fixed is None else own.with_iterations(fixed.iterations)
        fixed = fixed or own
        made.append(Visit([attempt(pair, own, canary, partial(pair.take, own), quiet)], own.blocks))
    return made, began, fixed.iterations if fixed else (1, 1)


@contextmanager
def quiet_errors() -> Iterator[None]:
    """Send what libraries write to standard error nowhere: torch's profiler announces itself there."""
    sys.stderr.flush()
    kept, nowhere = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 2)
    try:
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
        os.close(nowhere)


def weighed(pair: Two, device: Device) -> tuple[dict[str, Any], dict[str, Any]]:
    """Read what a call of the reference, and of the callable, adds to memory at its peak."""
    readings = []
    for side in pair.sides:
        for each in pair.sides:  # gradients of either side, freed within the call, would lower its peak
            each.forget()
        readings.append(added_peak(device, side.step, side.prepare))
    return readings[0], readings[1]
