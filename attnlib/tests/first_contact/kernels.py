"""Which attention kernel each encoding runs, what it warns of, and how long its first calls take."""

import warnings

from attnlib.cases.settings import ONCE
from attnlib.measure.rounds import timed
from attnlib.measure.sampling import SLOW
from attnlib.predict.peak import kernel_of

CALLS = 8
KNOWN = ("TensorFloat32 tensor cores", "Please use the new API settings to control TF32")
CLAIMS = {
    "kernels": f"the attention kernel is the one that attnlib names, in {2 * len(ONCE)} of {2 * len(ONCE)} cases "
    "(forward and train step of each encoding)",
    "warnings": "0 warnings but those of TF32, which torch 2.9 and its compiler are known for",
    "calls": f"the second call, by which slow cases are told, takes at most {SLOW} times as long as call {CALLS}",
}


def compare(card, found):
    """Run each encoding at T = 512, forward and as a train step."""
    other, slow, said, failed, calls = [], [], [], [], {}
    for pe in ONCE:
        for phase in ("forward", "train_step"):
            name = f"{pe} {phase}"
            try:
                ours = kernel_of(card.case(pe=pe, phase=phase, seq_len=512, depth=2)).kernel
                ran, calls[name], heard = look(card, pe=pe, phase=phase, seq_len=512, depth=2)
            except (RuntimeError, AssertionError, ValueError) as error:
                failed.append(f"{name} failed: {str(error).partition(chr(10))[0]}")
                continue
            said += [f"{name}: {text}" for text in heard]
            other += [f"{name}: {ran}, not {ours}"] if ran != ours else []
            seconds = calls[name]
            slow += [f"{name}: {seconds[1] / seconds[-1]:.1f} times"] if seconds[1] > SLOW * seconds[-1] else []
            found.note(calls=calls, warnings=said, other_kernels=other)
    found.judge("kernels", not other and not failed, "; ".join(failed + other) or "all as named")
    found.judge("warnings", not said and not failed, "; ".join(said[:3]) or "none")
    first = max((seconds[0] for seconds in calls.values()), default=0.0)
    found.judge(
        "calls", not slow and not failed, "; ".join(slow) or f"as assumed; the slowest first call {first:.1f} s"
    )


def look(card, **fields):
    """Return the kernel that ran, the seconds of each call, and the warnings of a case."""
    with warnings.catch_warnings(record=True) as heard:
        warnings.simplefilter("always")
        work = card.workload(**fields)
        seconds = [work.check()]
        seconds += [timed(work.step, work.prepare, work.clock) for _ in range(CALLS - 1)]
        ran = work.attention()["kernel"]
    said = [f"{one.category.__name__}: {str(one.message).partition(chr(10))[0]}" for one in heard]
    return ran, seconds, [text for text in said if not any(known in text for known in KNOWN)]
