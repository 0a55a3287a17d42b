"""Bytes that torch's allocator holds beside our tensors, and predicted peaks against measured ones."""

from attnlib.measure.memory import is_out_of_memory
from attnlib.measure.rounds import timed
from attnlib.predict.peak import prediction

MIB = 2**20
WORKSPACES = 64 * MIB  # of cuBLAS at most: 32 MiB of each handle on sm90, and the backward pass has its own
TENTH, SLACK = 0.1, 2 * MIB  # what a measured peak, which leaves workspaces out, may differ by from the predicted one
CASES = [(pe, phase) for pe in ("none", "rotary", "t5") for phase in ("forward", "train_step")]
LONG = ("alibi", "t5", "shaw", "fire")
CLAIMS = {
    "start": "at the start the allocator has given out 0 bytes",
    "workspaces": f"after a product and its backward pass it has at most {WORKSPACES // MIB} MiB that are no tensor's",
    "cleared": "clearing cuBLAS's workspaces gives all of them back: 0 bytes are no tensor's",
    "peaks": f"measured peaks are within {TENTH:.0%}, or {SLACK // MIB} MiB, of the predicted ones, "
    f"in {len(CASES)} of {len(CASES)} cases",
}
LONG_CLAIMS = {
    "steps": f"of {len(LONG)} train steps at T = 16384, L = 2 each ends, or is predicted not to fit",
    "peaks": f"their peaks are within {TENTH:.0%} of the predicted ones",
}


def weigh(card, found):
    """Read the allocator after each thing that takes a workspace, then the peaks of six cases."""
    start = card.allocated()
    found.judge("start", start == 0, f"{start} bytes")
    held, (x, y) = {}, card.forward()
    held["forward"] = card.beside([x, y])
    card.backward(y)
    held["backward"] = card.beside([x, y, x.grad])
    found.note(beside_tensors=held)
    seen = ", ".join(f"{size / MIB:.0f} MiB after {when}" for when, size in held.items())
    found.judge("workspaces", max(held.values()) <= WORKSPACES, seen)
    card.clear_workspaces()
    held["cleared"] = card.beside([x, y, x.grad])
    found.judge("cleared", held["cleared"] == 0, f"{held['cleared'] / MIB:.1f} MiB are left")
    found.note(beside_tensors=held)
    del x, y
    peaks, far = {}, []
    for pe, phase in CASES:
        far += one_peak(card, peaks, f"{pe} {phase}", pe=pe, phase=phase, seq_len=2048, depth=4)
        found.note(peaks=peaks)
    found.judge("peaks", not far, "; ".join(far) or "all are")


def one_peak(card, peaks, name, **fields):
    """Weigh a case and note both peaks; return what is wrong, nothing if they agree."""
    predicted = prediction(card.case(**fields))["value"]
    work = card.workload(**fields)
    work.check()
    seconds = timed(work.step, work.prepare, work.clock)
    weighed = work.weigh(card.device)
    measured = weighed["allocated_peak"]["value"]
    peaks[name] = {"predicted": predicted, "measured": measured, "seconds": seconds, "all": weighed}
    if predicted is None or measured is None:
        return [f"{name}: predicted {predicted}, measured {measured}"]
    if abs(measured - predicted) <= max(TENTH * predicted, SLACK):
        return []
    return [f"{name}: {measured / MIB:.0f} MiB, predicted {predicted / MIB:.0f}"]


def weigh_long(card, found):
    """Run one long train step of each encoding that makes scores of its own, where it should fit."""
    peaks, far, ends, failed = {}, [], [], []
    for pe in LONG:
        fields = {"pe": pe, "phase": "train_step", "seq_len": 16384, "depth": 2}
        predicted, free = prediction(card.case(**fields))["value"], card.free()
        if predicted is not None and predicted > free:
            ends.append(f"{pe} needs {predicted / 2**30:.0f} GiB of {free / 2**30:.0f}")
            continue
        try:
            far += one_peak(card, peaks, pe, **fields)
            ends.append(f"{pe} {peaks[pe]['seconds']:.2f} s")
        except (RuntimeError, AssertionError) as error:
            kind = "out of memory" if is_out_of_memory(error) else str(error).partition("\n")[0]
            failed.append(f"{pe}: {kind}")
        card.device.release()
        found.note(peaks=peaks)
    found.judge("steps", not failed, "; ".join(failed + ends))
    if peaks:
        found.judge("peaks", not far, "; ".join(far) or "all are")
    else:
        found.leave("peaks", "no step ended")
