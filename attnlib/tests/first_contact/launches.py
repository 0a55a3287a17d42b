"""How many launches a queue holds, whether a step's work is read without its launches, and graphs."""

import time

import numpy as np

from attnlib.measure.clock import device_times
from attnlib.measure.device import Unavailable
from attnlib.measure.rounds import timed

LAUNCHES, HELD, WAITED = 4096, 0.5, 0.01  # launches behind a spin, its seconds, and those of one that had to wait
FEWEST, MOST = 512, 2048  # about a thousand, as attnlib.measure.device says
SAME, NO_LONGER = 0.1, 1.1
CELLS = [(pe, L, T) for pe in ("none", "rotary") for L in (2, 32) for T in (512, 4096)]
CLAIMS = {
    "queue": f"a stream takes about a thousand launches ({FEWEST} to {MOST}) before the host has to wait",
    "busy": f"busy_seconds has a value in {len(CELLS)} of {len(CELLS)} cases, of up to 1,600 launches",
    "least": "it is at most the time between events around the step, and 5 %",
    "replay": f"it is the time of the step's graph within {SAME:.0%}",
}
GRAPH_CLAIMS = {
    "replayed": f"replaying a graph takes at most {NO_LONGER:g} times as long as every launch, in 2 of 2 cases",
    "refused": "a step that waits for its result is refused as a graph",
    "spoiled": "after a refused capture random numbers can be drawn, memory is given back, another step captured",
}


def hold(card, found):
    """Read the queue's depth, then steps of few and many launches in three ways."""
    depth = queue_depth(card)
    found.judge("queue", FEWEST <= (depth or 0) <= MOST, f"{depth or f'more than {LAUNCHES}'} launches")
    read, missing, more, other = {}, [], [], []
    for pe, L, T in CELLS:
        name = f"{pe} L={L} T={T}"
        try:
            one = three_times(card, pe=pe, depth=L, seq_len=T, phase="forward")
        except (RuntimeError, AssertionError) as error:
            missing.append(f"{name} failed: {str(error).partition(chr(10))[0]}")
            continue
        read[name] = one
        found.note(queue=depth, seconds=read)
        if one["busy"] is None:
            missing.append(f"{name}: {one['busy_reason']}")
            continue
        more += [f"{name}: {one['busy'] / one['events']:.2f}"] if one["busy"] > 1.05 * one["events"] else []
        if one["replay"] is None or abs(one["busy"] / one["replay"] - 1) > SAME:
            other.append(f"{name}: {one['busy']:.2e} s, replay {one['replay']} s")
    found.judge("busy", not missing, "; ".join(missing) or "all have")
    found.judge("least", not more and not missing, "; ".join(more) or "all are")
    found.judge("replay", not other and not missing, "; ".join(other) or "all are")


def queue_depth(card):
    """Return the number of launches before the first that had to wait; None if none had."""
    launch = card.small_work()
    launch()
    card.device.synchronize()
    card.device.hold(HELD)
    depth, before = None, time.perf_counter()
    for number in range(LAUNCHES):
        launch()
        now = time.perf_counter()
        if now - before > WAITED:
            depth = number
            break
        before = now
    card.device.synchronize()
    return depth


def three_times(card, **fields):
    """Return the seconds of a step by ``busy_seconds``, between events around it, and of its graph."""
    work = card.workload(**fields)
    work.check()
    with device_times() as times:
        host = [timed(work.step, work.prepare, work.clock) for _ in range(10)]
    busy = card.device.busy_seconds(work.step, work.prepare)
    try:
        replay = card.device.capture(work.step)
        replayed = card.event_seconds(replay, 10)
    except Unavailable:
        replayed = None
    return {
        "host": float(np.median(host)),
        "events": float(np.median(times.rounds)),
        "busy": busy["value"],
        "busy_reason": busy["reason"],
        "busy_method": busy["method"],
        "replay": replayed,
    }


def capture(card, found):
    """Replay two train steps, then have a capture refused and look what it left."""
    longer, ratios, took = [], {}, {}
    for pe in ("none", "rotary"):
        seconds = {}
        for launch in ("eager", "graph"):
            work = card.workload(pe=pe, launch=launch, depth=8, seq_len=512, phase="train_step")
            work.check()
            seconds[launch] = float(np.median([timed(work.step, None, work.clock) for _ in range(20)]))
        ratios[pe] = seconds["graph"] / seconds["eager"]
        longer += [f"{pe}: {ratios[pe]:.2f}"] if ratios[pe] > NO_LONGER else []
        took[pe] = seconds
        found.note(seconds=took)
    shown = ", ".join(f"{pe} {ratio:.2f}" for pe, ratio in ratios.items())
    found.judge("replayed", not longer, f"{shown} times")
    try:
        card.device.capture(card.waiting_step())
        found.judge("refused", False, "it was captured")
    except Unavailable as error:
        found.judge("refused", True, str(error))
    lost = card.device.lost()
    if lost is None:
        try:
            card.device.capture(card.small_work())
        except (RuntimeError, Unavailable) as error:
            lost = str(error).partition("\n")[0]
    found.judge("spoiled", lost is None, lost or "all of it")
