"""One case, measured: gate, warm-up and pilot, rounds beside its reference's, then memory; into ``extra_info``."""

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
from pytest_benchmark.fixture import BenchmarkFixture

from attnlib.measure import sampling
from attnlib.measure.canary import Canary
from attnlib.measure.ceilings import Rates
from attnlib.measure.clock import device_clock
from attnlib.measure.device import Device, reading
from attnlib.measure.energy import energy
from attnlib.measure.memory import out_of_order
from attnlib.measure.noise import Disturbance, disturbed
from attnlib.runs.schema import SCHEMA
from attnlib.theory import cost
from bench import predict
from bench.cases import PAIRED, Case
from bench.pair import Attempt, Pair, Timeable, once_more, rounds_of
from bench.settings import Settings

LAUNCH_BOUND = 1.2  # times what the device works on a step
OF_THE_PROCESS = ("cpu_s_per_wall_s", "involuntary_switches", "page_faults")


class Instruments(NamedTuple):
    """Of the device that a case runs on: itself, its canary, and the rates that it reached so far."""

    device: Device
    canary: Canary
    rates: Rates


def identity(case: Case) -> dict[str, Any]:
    """What identifies a saved row: the schema's version, the case and its hash."""
    return {"schema": SCHEMA, "case": case.values, "case_id": case.id}


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
    tried = Attempt.of(pair, pilot, canary, lambda: rounds_of(benchmark, pair, pilot))
    if not tried.samples:
        return 0.0
    tried, replaced = once_more(tried, pair, pilot, quiet, canary)
    beside, attention, seen = pair.forget_reference(), work.attention(), tried.seen
    median = float(np.median(tried.samples[-1]))
    info |= identity(case) | {
        "time": info["time"]
        | sampling.summary(tried.samples[-1])
        | over_reference(tried.samples, case, settings.reference if beside else None, pair.alone)
        | on_the_device(tried, work, device, local=local)
        | {
            "cache": {"asked": case.cache, "cold": tried.cold},
            **(seen if local else seen | dict.fromkeys(OF_THE_PROCESS)),  # this process only waited for a child
            "disturbed": disturbed(seen, quiet),
            "replaced": replaced,
        },
        "attention": attention,
        "compiled": work.compiled(),
        "energy": energy_of(work, device, median, local=local),
        "memory": work.weigh(device),
        "cost": cost_of(case, attention, rates),
    }
    info["flags"] = flags(info, median)
    return pilot.spent_s + float(seen["wall_s"])


def on_the_device(tried: Attempt, work: Timeable, device: Device, *, local: bool) -> dict[str, Any]:
    """What is saved of the device's own clock: every round of both sides, and a step that no launch holds up."""
    method, own = "device events around every round", tried.by_device
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
    """Joules of a step, in a pass of its own; null where the step cannot be repeated alone."""
    if local and work.prepare is None:
        return energy(device, work.step, seconds)
    why = "what prepares the step would count too" if local else "the step runs in a child process"
    return {"joules": reading(None, "none", why), "window_s": None, "steps": 0, "power_w": None}


def flags(info: dict[str, Any], seconds: float) -> list[str]:
    """What a reader of a case's numbers has to know, in words.

    Args:
        info: its ``extra_info``.
        seconds: the host's median of a step.
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
