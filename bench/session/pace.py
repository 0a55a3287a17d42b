"""How long cases should keep a session busy, from predicted steps: for ``--plan``, and for shards that take as long."""

from collections.abc import Mapping, Sequence
from dataclasses import astuple, replace

import numpy as np

from bench.cases import LEARNING, PAIRED, Case, unsupported
from bench.frontier import seconds_of
from bench.predict import STRAIGHT, outlook
from bench.session.record import Record
from bench.settings import Settings

LEAST = 12  # rounds of a case and its reference together
BESIDE = 0.2  # seconds a case of building, checking, weighing and predicting
# seconds of a check of gradients, of a training and of another test, as seen on one core of a Xeon: they are dealt out
# by these, and a shard that was judged wrong only ends later
CHECKS = {"rate": 1.0, "profile": 1.2, "collapse": 0.6, "control": 3.5, "flush": 2.8} | dict.fromkeys(LEARNING, 8.0)
OTHERS = 2.0
Group = tuple[object, ...]  # what is left of a case without length, depth and batch


def spent(case: Case, settings: Settings, step: float) -> float:
    """Seconds of the session that a case should take.

    Args:
        case: what is timed.
        settings: the run's choices.
        step: seconds of one.
    """
    sides = LEAST if case.phase in PAIRED and settings.reference else LEAST / 2
    return max(settings.budget, sides * step) + BESIDE


def middle(ends: Sequence[float] | None) -> float:
    """The geometric middle of the seconds that a step should take; 0 where they are not known."""
    return float((ends[0] * ends[1]) ** 0.5) if ends else 0.0


class Pace:
    """Estimates many cases from few predictions.

    A step's time is taken for straight in depth, and drawn through the least, the middle and the greatest of the
    lengths, or through the greatest alone where even that takes no time.

    Args:
        record: of the session.
        cases: that are to be estimated.
    """

    def __init__(self, record: Record, cases: Sequence[Case]) -> None:
        self.record = record
        groups: dict[Group, dict[int, Case]] = {}
        self.deepest: dict[Group, int] = {}
        for case in cases:
            if case.phase not in CHECKS:
                key = group_of(case)
                groups.setdefault(key, {})[case.seq_len] = case
                self.deepest[key] = max(case.depth, self.deepest.get(key, 0))
        self.lines = {key: self._lines(lengths, self.deepest[key]) for key, lengths in groups.items()}

    def __call__(self, case: Case) -> float:
        """Seconds of the session that a case should take."""
        if case.phase in CHECKS:
            return CHECKS[case.phase]
        line = self.lines[group_of(case)]
        step = np.interp(case.seq_len, [T for T, _, _ in line], [a + b * case.depth for _, a, b in line])
        return spent(case, self.record.settings, float(step))

    def _lines(self, lengths: Mapping[int, Case], deepest: int) -> list[tuple[int, float, float]]:
        """Length, and the time of a step as ``a + b`` times depth, in order of length."""
        order = sorted(lengths)
        last = self._line(lengths[order[-1]])
        (_, a, b), case = last, lengths[order[-1]]
        if len(order) == 1 or spent(case, self.record.settings, a + b * deepest) <= spent(
            case, self.record.settings, 0
        ):
            return [last]
        return [self._line(lengths[T]) for T in dict.fromkeys((order[0], order[len(order) // 2]))] + [last]

    def _line(self, case: Case) -> tuple[int, float, float]:
        if unsupported(case):
            return case.seq_len, 0.0, 0.0
        rates = self.record.instruments(case).rates
        first, second = (
            middle(seconds_of(outlook(replace(case, depth=depth), rates))) for depth in (STRAIGHT, STRAIGHT + 1)
        )
        return case.seq_len, first - STRAIGHT * (second - first), second - first


def group_of(case: Case) -> Group:
    """What cases have in common whose times lie on one curve."""
    return astuple(replace(case, seq_len=1, depth=1, batch_size=1))
