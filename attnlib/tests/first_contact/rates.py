"""Ceilings against the card's own rates, and how its clock falls when it rests and rises when it is held."""

from attnlib.measure.noise import CARD_WORKS, SM_CLOCK

NEAR = 0.1
COPIED, SIZE = 2**33, 8192
RESTS = (0.0, 0.02, 0.1, 1.0)  # seconds after the work
CLAIMS = {
    "copies": f"the ceiling of the largest copies is that of copies of 8 GiB between events, within {NEAR:.0%}",
    "products": f"the ceiling of products is that of [8192, 8192] between events, within {NEAR:.0%}",
    "clock": f"after a second of rest, behind a spin of {CARD_WORKS * 1e3:.0f} ms, the SM clock reads at least "
    f"{SM_CLOCK:.0%} of that right after work",
}


def compare(card, found):
    """Read the ceilings as a session does, and large copies and products between events."""
    rates = card.rates()
    size = min(COPIED, card.free() // 4)
    copied = 2 * size / card.event_seconds(card.copy(size), 5)  # read and written
    product = 2 * SIZE**3 / card.event_seconds(card.product(SIZE), 20)
    found.note(ceilings={"flops_per_s": rates.flops_per_s, "copies": rates.copies, "operator_s": rates.operator_s})
    found.note(between_events={"bytes_per_s": copied, "flops_per_s": product, "copied": size})
    moved, seconds = rates.copies[-1]  # the largest, as a smaller one may stay in the cache
    judge(found, "copies", moved / seconds, copied, 1e9, "GB/s")
    judge(found, "products", rates.flops_per_s, product, 1e12, "TFLOP/s")
    clocks = {}
    card.work(1.0)
    for rest, before in zip(RESTS, (0.0, *RESTS), strict=False):
        card.sleep(rest - before)
        clocks[rest] = sm_mhz(card)
    card.device.hold(CARD_WORKS)
    held = sm_mhz(card)
    found.note(clocks=clocks, held=held)
    if held is None or clocks[0.0] is None:
        found.leave("clock", "NVML does not tell the SM clock")
        return
    seen = ", ".join(f"{mhz} MHz after {rest * 1e3:.0f} ms" for rest, mhz in clocks.items())
    found.judge("clock", held >= SM_CLOCK * clocks[0.0], f"{held} MHz; {seen} of rest")


def sm_mhz(card):
    """Return NVML's reading of the SM clock; None if it does not tell."""
    with card.nvml() as seen:
        return seen.state()["sm_mhz"]["value"]


def judge(found, name, ours, theirs, unit, shown):
    """Judge a ceiling by the rate between events."""
    found.judge(name, abs(ours / theirs - 1) <= NEAR, f"{ours / unit:.0f} {shown}, between events {theirs / unit:.0f}")
