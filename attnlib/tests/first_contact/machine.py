"""Which card, driver and versions these are, and what NVML and torch say of them."""

import sys

import torch

from attnlib.measure import environment

CLAIMS = {
    "found": "NVML finds the card by the UUID that torch prints",
    "listed": "NVML's list of processes has this one, with its bytes",
    "state": "all 7 readings of the card's state have a value: clocks, limits, temperature, power, processes",
    "energy": "NVML counts the joules of the card",
    "order": "the order of attention kernels that a run saves is that after the first attention",
}


def look(card, found):
    """Read everything that names the machine."""
    saved = card.device.attention_order()
    card.attend()
    found.judge("order", saved == order(), f"{saved}, and {order()} after it")
    found.note(python=sys.version, torch=torch.__version__, device=card.device.describe(), order=order())
    with card.nvml() as seen:
        found.judge("found", seen.reason is None, seen.reason or "found")
        process, joules, state = seen.memory()["nvml_process"], seen.joules(), seen.state()
        found.note(identity=seen.identity(), memory=seen.memory(), joules=joules, state=state)
    found.judge("listed", process["value"] is not None, process["reason"] or f"{process['value']} bytes")
    found.judge("energy", joules["value"] is not None, joules["reason"] or f"{joules['value']:.0f} J")
    missing = [f"{name}: {one['reason']}" for name, one in state.items() if one["value"] is None]
    found.judge("state", not missing and len(state) == 7, "; ".join(missing) or f"{len(state)} values")
    found.note(environment=environment.describe(card.device))


def order():
    """Return torch's numbers of attention kernels in the order in which it tries them; None if it does not say."""
    say = getattr(torch._C, "_get_sdp_priority_order", None)
    return None if say is None else [int(kernel) for kernel in say()]
