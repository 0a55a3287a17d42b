"""Measurement of one case: correctness check, warm-up, plan of rounds, rounds beside its reference's, then memory.

The results go into pytest-benchmark's ``extra_info``. A paired case is visited several times in a run: ``time_case``
makes the first visit, ``revisit`` each later one, with a newly built pair.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from pytest_benchmark.fixture import BenchmarkFixture

from attnlib.cases.case import Case, origins
from attnlib.cases.settings import Settings
from attnlib.measure import sampling
from attnlib.measure.canary import Canary
from attnlib.measure.ceilings import Rates
from attnlib.measure.clock import device_clock
from attnlib.measure.device import Device, reading
from attnlib.measure.energy import energy
from attnlib.measure.memory import out_of_order
from attnlib.measure.noise import Disturbance
from attnlib.plugin.pair import Pair, Timeable, Visit, own_rounds, rounds_of, visit
from attnlib.predict.flops import parameters
from attnlib.predict.peak import kernel_of, outlook, step_flops
from attnlib.runs.schema import SCHEMA

LAUNCH_BOUND = 1.2  # times what the device works on a step
OF_THE_PROCESS = ("cpu_s_per_wall_s", "involuntary_switches", "page_faults")


class Instruments(NamedTuple):
    """Device that a case runs on, its canary, and the rates that it has reached in this run so far."""

    device: Device
    canary: Canary
    rates: Rates


def identity(case: Case) -> dict[str, Any]:
    """Return the fields that identify a saved row: schema version, case, its hash, and parts that are not attnlib's."""
    parts = origins(case)
    return {"schema": SCHEMA, "case": case.values, "case_id": case.id} | ({"parts": parts} if parts else {})


def cost_of(case: Case, work: Timeable, attention: dict[str, Any], rates: Rates) -> dict[str, Any]:
    """Return the ``cost`` of a row: number of parameters, FLOPs of a step, and predicted memory and least time.

    Args:
        case: the measured case.
        work: the case's workload.
        attention: the kernel that ran, see ``Timeable.attention``; if its ``kernel`` is null the expected one counts.
        rates: rates that the machine reached in this run.
    """
    flops = step_flops(case, attention["kernel"] or kernel_of(case).kernel, work.step, work.prepare)
    return {"params": parameters(case)} | flops | outlook(case, rates)


def time_case(
    benchmark: BenchmarkFixture, pair: Pair, case: Case, settings: Settings, instruments: Instruments
) -> float:
    """Time a case, beside its reference if it has one, measure its memory, and save all in ``benchmark.extra_info``.

    Returns:
        seconds spent in rounds of the case and of its reference, set-up included.

    Raises:
        AssertionError: the correctness gate failed; nothing was timed.
    """
    info, work = benchmark.extra_info, pair.work
    device, canary, rates = instruments
    began = canary.at_s
    first, local = work.check(), work.clock is device_clock
    info["time"] = {"first_call_s": first}  # what there is, should the case end early
    pilot, quiet = warmed_up(pair, first, settings, device, cold=case.cache == "cold")
    info["time"] |= pilot.as_json()
    made = visit(pair, pilot, canary, lambda: rounds_of(benchmark, pair, pilot), quiet if local else None)
    if benchmark.stats is None:
        return 0.0
    benchmark.stats.stats.data[:] = made.samples[-1]  # a second attempt is in, nothing was computed yet
    attention = work.attention() | {"reference_kernel": pair.reference_kernel()}
    beside = pair.forget_reference()
    reference = settings.reference if beside else None
    times = Times.of(made, began, local=local, planned=settings.visits if beside else 1)
    info |= identity(case) | {
        "time": info["time"]
        | times.as_json()
        | over_reference(times.visits[0], case, reference, pair.alone)
        | on_the_device(made, work, device, local=local)
        | {"cache": {"asked": case.cache, "cold": all(one.cold for one in made.counting)}},
        "attention": attention,
        **({} if case.model == "stack" else {"gradients": work.gradient_ends}),
        "compiled": work.compiled(),
        "energy": energy_of(work, device, float(np.median(made.samples[-1])), local=local),
        "memory": work.weigh(device),
        "cost": cost_of(case, work, attention, rates),
    }
    info["flags"] = flags(info, float(np.median(made.samples[-1])))
    return made.wall_s


def warmed_up(
    pair: Pair, first: float, settings: Settings, device: Device, *, cold: bool
) -> tuple[sampling.Pilot, dict[str, Any] | None]:
    """Warm a pair up; return the plan of its rounds, and the counters during warm-up, None if there was none.

    Args:
        pair: the case, checked, and its reference if it has one.
        first: seconds of the case's first call.
        settings: the run's choices.
        device: device whose counters are read.
        cold: whether the cache is rewritten before every step, so that no side meets the other's data in it.
    """
    watch = Disturbance(device)
    firsts = [pair.first_s, first][-len(pair.sides) :]
    budget = settings.budget / (settings.visits if pair.reference is not None else 1)
    pilot = sampling.pilot(pair.sides, firsts, precision=settings.precision, budget=budget, settled=not cold)
    return pilot, watch.read() if pilot.warmup_calls else None


def revisit(
    pair: Pair, case: Case, earlier: Mapping[str, Any], settings: Settings, instruments: Instruments
) -> tuple["Times", float]:
    """Measure a newly built pair in a later visit, with as many steps a round as in the first visit.

    Args:
        pair: the case and its reference.
        case: the measured case.
        earlier: ``time`` of the saved row.
        settings: the run's choices.
        instruments: device, canary and rates.

    Returns:
        the times of this visit, and the seconds spent in rounds.

    Raises:
        AssertionError: the correctness gate failed.
    """
    device, canary, _ = instruments
    began = canary.at_s
    pilot, quiet = warmed_up(pair, pair.work.check(), settings, device, cold=case.cache == "cold")
    pilot = pilot.with_iterations((earlier["reference_iterations"], earlier["iterations"]))
    made = visit(pair, pilot, canary, lambda: own_rounds(pair, pilot), quiet)
    return Times.of(made, began, local=True, planned=settings.visits), made.wall_s


@dataclass(frozen=True)
class Times:
    """Step times of one or several visits, and the saved fields of each visit.

    Args:
        samples: seconds of a step of the case, one a round.
        reference: seconds of a step of its reference, one a round; None without a reference.
        visits: saved fields of each visit, see ``attnlib.plugin.pair.Visit``.
        planned: number of visits that each case should have.
        lost: number and reason of each visit that gave no times.
    """

    samples: Sequence[float]
    reference: Sequence[float] | None
    visits: Sequence[Mapping[str, Any]]
    planned: int
    lost: Sequence[Mapping[str, Any]] = ()

    @classmethod
    def of(cls, made: Visit, began: float, *, local: bool, planned: int) -> "Times":
        """Return the times of one visit; counters of this process are null if the steps ran in another one.

        Args:
            made: the visit.
            began: seconds since the device's canary was made.
            local: whether the steps ran in this process.
            planned: number of visits that each case should have.
        """
        saved = made.as_json(began)
        if not local:
            saved["seen"] |= dict.fromkeys(OF_THE_PROCESS)
        reference = made.samples[0] if len(made.samples) > 1 else None
        return cls(made.samples[-1], reference, [saved], planned)

    @classmethod
    def saved(cls, samples: Sequence[float], time: Mapping[str, Any]) -> "Times":
        """Return the times of a saved row, from its samples and its ``time``."""
        return cls(samples, time["reference_s"], time["visits"], time["visits_planned"], time["visits_lost"])

    def and_then(self, later: "Times") -> "Times":
        """Return these times followed by those of a later visit."""
        reference = [*(self.reference or ()), *(later.reference or ())]
        return Times([*self.samples, *later.samples], reference, [*self.visits, *later.visits], self.planned, self.lost)

    def without(self, reason: str) -> "Times":
        """Return these times with one more lost visit, for this reason."""
        lost = [*self.lost, {"visit": len(self.visits) + len(self.lost) + 1, "reason": reason}]
        return Times(self.samples, self.reference, self.visits, self.planned, lost)

    def as_json(self) -> dict[str, Any]:
        """Return the fields to save: counters summed over the visits; disturbed if most of the visits were."""
        seen = [visit["seen"] for visit in self.visits]
        reasons = [reason for visit in self.visits for reason in visit["disturbed"]]
        most = sum(bool(visit["disturbed"]) for visit in self.visits) * 2 > len(self.visits)
        return sampling.summary(self.samples) | {
            "visits": list(self.visits),
            "visits_planned": self.planned,
            "visits_lost": list(self.lost),
            "disturbed": reasons if most else [],
            "canary_s": [seconds for one in seen for seconds in one.get("canary_s", ())],
            "page_faults": added(one["page_faults"] for one in seen),
            "involuntary_switches": added(one["involuntary_switches"] for one in seen),
            "card": seen[0]["card"],
            "reference_s": None if self.reference is None else list(self.reference),
        }


def added(counts: Iterable[int | None]) -> int | None:
    """Return the sum of counts; None if one is missing."""
    found = list(counts)
    return None if None in found else sum(count for count in found if count is not None)


def on_the_device(made: Visit, work: Timeable, device: Device, *, local: bool) -> dict[str, Any]:
    """Return times by the device's clock: each round of both sides, and a step that waits for no launch."""
    method, own = "device events around every round of the first visit", made.by_device
    if own is None:
        median = reading(None, method, f"{device.kind} has no event clock" if local else "timed in a child process")
    else:
        median = reading(float(np.median(own[-1])), method)
    busy = reading(None, "device events", "timed in a child process")
    return {
        "device_event_s": median,
        "device_event_samples": None if own is None else own[-1],
        "reference_event_samples": own[0] if own is not None and len(own) > 1 else None,
        "device_busy_s": device.busy_seconds(work.step, work.prepare) if local else busy,
    }


def energy_of(work: Timeable, device: Device, seconds: float, *, local: bool) -> dict[str, Any]:
    """Return the energy of a step in joules, from a separate pass; null if the step cannot be repeated by itself."""
    if local and work.prepare is None:
        return energy(device, work.step, seconds)
    why = "what prepares the step would count too" if local else "the step runs in a child process"
    return {"joules": reading(None, "none", why), "window_s": None, "steps": 0, "power_w": None}


def flags(info: dict[str, Any], seconds: float) -> list[str]:
    """Return warnings about a case's numbers, in words.

    Args:
        info: the case's ``extra_info``.
        seconds: median seconds of a step by the host's clock.
    """
    time, found = info["time"], out_of_order(info["memory"])
    busy = time["device_busy_s"]["value"]
    if busy and seconds / busy > LAUNCH_BOUND:
        found.append(f"launch-bound: a step takes {seconds / busy:.1f} times what the device works on it")
    if time["cache"]["asked"] == "cold" and not time["cache"]["cold"]:
        found.append("asked for a cold cache, which was not rewritten before every round")
    others = ((time["card"] or {}).get("after") or {}).get("other_processes") or {}
    if others.get("value"):
        found.append(f"{others['value']} other processes compute on the card")
    if (compiled := info["compiled"]) and compiled["eager"]:
        found.append(f"{compiled['eager']} functions ran without the compiler, which gave them up")
    return found


def over_reference(
    made: Mapping[str, Any], case: Case, reference: Mapping[str, Any] | None, alone: str | None
) -> dict[str, Any]:
    """Return a case's ratio over its reference as saved after the first visit; empty in an unpaired phase.

    ``attnlib.runs.visits.settle`` replaces it with the ratio from all visits.

    Args:
        made: saved fields of the visit.
        case: the measured case.
        reference: fields in which the reference differs from the case; None if the case was measured alone.
        alone: reason why it was measured alone.
    """
    if not case.paired:
        return {}
    if reference is None:
        return {"over_reference": {"value": None, "reason": alone}}
    low, high = made["interval"]
    value = float(np.exp(made["log_ratio"]))
    found = {"value": value, "low": min(low, value), "high": max(high, value)}
    found |= {"blocks": made["blocks"], "visits": 1}
    return {"over_reference": found | {"interval": "pairs of one visit", "reference": dict(reference)}}
