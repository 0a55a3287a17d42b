"""How long cases should keep a session busy: for ``--plan``, and for shards that take about as long."""

from collections.abc import Sequence
from dataclasses import replace
from functools import cache

from attnlib.theory.cost import algorithmic_flops, total
from bench.cases import LEARNING, PAIRED, Case
from bench.session.record import Record
from bench.settings import Settings

# As seen on one core of an EPYC. Only the end of a shard that was judged wrong is later.
STEPS = 16  # of a case and its reference together, where no more are needed
BESIDE, A_LAYER = 0.15, 0.02  # seconds of building, checking, weighing and predicting: a case, and each of its layers
PART, USUAL = 1 / 8, 0.02  # of the budget that a short step takes for its rounds, to reach the usual precision
CHECKS = {"rate": 0.4, "profile": 0.5, "collapse": 0.2, "control": 1.7, "flush": 2.5} | dict.fromkeys(LEARNING, 8.0)
OTHERS = 2.0  # of a test without a case
WORKER = 2.0  # more, where a process of its own measures a case
SHARE = 0.5  # of the best rate of products that a step reaches
LAUNCH = 2e-4  # seconds a layer that a step takes however few its tokens are
SLOWEST = 5e9  # FLOPs a second; where a step takes no time at this rate, the machine's own need not be read


def spent(case: Case, settings: Settings, step: float) -> float:
    """Seconds of the session that a case should take.

    Args:
        case: what is timed.
        settings: the run's choices.
        step: seconds of one.
    """
    steps = STEPS if case.phase in PAIRED and settings.reference else STEPS / 2
    rounds = settings.budget * min(1.0, PART * (USUAL / settings.precision) ** 2)
    return max(rounds, steps * step) + BESIDE + A_LAYER * case.depth


def middle(ends: Sequence[float] | None) -> float:
    """The geometric middle of the seconds that a step should take; 0 where they are not known."""
    return float((ends[0] * ends[1]) ** 0.5) if ends else 0.0


def pace(record: Record, case: Case) -> float:
    """Seconds of the session that a case should take, by its FLOPs: in microseconds, unlike a prediction.

    Args:
        record: of the session.
        case: any.
    """
    if case.phase in CHECKS:
        return CHECKS[case.phase]
    flops = flops_of(replace(case, pe="none", causal=False, seed=0))
    fewest = spent(case, record.settings, 0.0)
    if spent(case, record.settings, step_of(case, flops / SLOWEST)) > fewest:
        return spent(case, record.settings, step_of(case, flops / record.instruments(case).rates.flops_per_s))
    return fewest


def step_of(case: Case, products: float) -> float:
    """Seconds of a step, by those that its products take at the best rate."""
    return products / SHARE + LAUNCH * case.depth


@cache
def flops_of(case: Case) -> int:
    """FLOPs of a step; none of an encoding alone."""
    phase = case.phase if case.phase in ("forward", "backward") else "train_step"
    return total(algorithmic_flops(case, case.batch_size), phase) if case.depth else 0
