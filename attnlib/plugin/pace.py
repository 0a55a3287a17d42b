"""Estimates of the seconds that each case takes, for ``--plan`` and to cut a sweep into shards of equal length."""

from dataclasses import replace

from attnlib.cases.case import Case
from attnlib.cases.settings import Settings
from attnlib.plugin.record import Record
from attnlib.predict.flops import algorithmic_flops, total

# As seen on one core of an EPYC. Only the end of a shard that was judged wrong is later.
STEPS = 12  # of a case and its reference together in a visit, where no more are needed
AGAIN = 0.06  # seconds of building and checking a case in a later visit
BESIDE, A_LAYER = 0.15, 0.02  # seconds of building, checking, weighing and predicting: a case, and each of its layers
CHECKS = {"rate": 0.9, "profile": 0.7, "collapse": 0.4, "control": 1.9, "flush": 2.5, "switch": 2.0, "family": 3.0}
TRAININGS = {"lengths": 25.0}
TRAINING = 8.0  # any other
OTHERS = 2.0  # of a test without a case
WORKER = 2.0  # more, where a process of its own measures a case
SHARE = 0.5  # of the best rate of products that a step reaches
LAUNCH = 2e-4  # seconds a layer that a step takes however few its tokens are
TOLD_BY = ("phase", "seq_len", "depth", "batch_size", "d_model", "head_dim", "ffn_mult", "device", "dtype")
SLOWEST = 5e9  # FLOPs a second; where a step takes no time at this rate, the machine's own need not be read


def spent(case: Case, settings: Settings, step: float) -> float:
    """Return the seconds of the session that a timed case is estimated to take.

    Args:
        case: the timed case.
        settings: the run's choices.
        step: seconds of one step.
    """
    paired = case.paired and settings.reference is not None
    visits = settings.visits if paired else 1
    steps = visits * (STEPS if paired else STEPS / 2)
    again = (visits - 1) * (AGAIN + A_LAYER * case.depth / 2)
    return max(settings.budget, steps * step) + BESIDE + A_LAYER * case.depth + again


class Pace:
    """Estimator of a case's seconds from its FLOPs without the encoding's; microseconds a call, unlike a prediction.

    Args:
        record: the session's.
    """

    def __init__(self, record: Record) -> None:
        self.record = record
        self.known: dict[tuple[object, ...], float] = {}  # by what tells cases apart here

    def __call__(self, case: Case) -> float:
        """Return the seconds of the session that a case is estimated to take."""
        if case.kind != "timed":
            return (CHECKS | TRAININGS).get(case.phase, TRAINING)
        key = tuple(getattr(case, name) for name in TOLD_BY)
        if key not in self.known:
            self.known[key] = self._estimate(case)
        return self.known[key]

    def _estimate(self, case: Case) -> float:
        flops, settings = flops_of(case), self.record.settings
        fewest = spent(case, settings, 0.0)
        if spent(case, settings, step_of(case, flops / SLOWEST)) > fewest:
            return spent(case, settings, step_of(case, flops / self.record.instruments(case).rates.flops_per_s))
        return fewest


def step_of(case: Case, products: float) -> float:
    """Return the estimated seconds of a step, given those that its matrix products take at the best rate."""
    return products / SHARE + LAUNCH * case.depth


def flops_of(case: Case) -> int:
    """Return the FLOPs of a step without an encoding; 0 for a case without layers, such as an encoding alone."""
    phase = case.phase if case.paired else "train_step"
    return total(algorithmic_flops(replace(case, pe="none"), case.batch_size), phase) if case.depth else 0
