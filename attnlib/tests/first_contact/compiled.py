"""FlexAttention, which is compiled: whether it compiles whole, and how long it takes."""

import numpy as np

from attnlib.measure.rounds import timed
from attnlib.measure.sampling import SLOW

CLAIMS = {
    "compiled": "FlexAttention compiles a train step of t5 with 0 pieces left uncompiled",
    "second": f"the second call compiles nothing more: it takes at most {SLOW} times as long as those after it",
}


def run_flex(card, found):
    """Compile and run a train step at T = 2048, beside the same with torch's own kernels."""
    fields = {"pe": "t5", "phase": "train_step", "seq_len": 2048, "depth": 2}
    work = card.workload(**fields, attention="flex")
    first = work.check()
    counted = work.compiled()
    found.note(first_call_s=first, compiled=counted)
    found.judge("compiled", counted["graphs"] > 0 and counted["eager"] == 0, f"{counted}, first call {first:.1f} s")
    second, *later = [timed(work.step, work.prepare, work.clock) for _ in range(10)]
    other = card.workload(**fields)
    other.check()
    usual = float(np.median([timed(other.step, other.prepare, other.clock) for _ in range(10)]))
    own = float(np.median(later))
    found.note(second_call_s=second, later_calls_s=own, sdpa_s=usual)
    seen = f"{second * 1e3:.2f} ms, then {own * 1e3:.2f} ms; with sdpa {usual * 1e3:.2f} ms"
    found.judge("second", second <= SLOW * own, seen)
