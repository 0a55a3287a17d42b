"""Estimates how long a session on an H200 should take, by nominal rates: ``python -m attnlib.tests.gpu_preset``.

Nobody has seen it. A step takes as long as its operators at the rates below, or as its launches if these take longer; a
case takes what ``attnlib.plugin.pace`` says for such a step, and the passes that only a card has.
"""

import importlib
import sys
from collections import defaultdict
from dataclasses import dataclass, replace

from attnlib.cases.case import unsupported
from attnlib.cases.grids import grid_of
from attnlib.cases.settings import Settings
from attnlib.plugin.measuring import LAUNCH_BOUND
from attnlib.plugin.pace import CHECKS, WORKER, spent
from attnlib.plugin.record import CEILINGS_EVERY
from attnlib.predict.flops import parameters
from attnlib.predict.peak import need, prediction

FLOPS_PER_S = 0.5 * 989e12  # half of an H200's peak in bfloat16
BYTES_PER_S = 0.8 * 4.8e12  # of its memory
LAUNCH_S = 5e-6
ENERGY_S = 2.0  # the window of a card's energy counter; of steps that need no preparation
HELD_S = 0.3  # the step behind a spin, and its longest spin
PARAMETER_S = 4e-9  # to draw a parameter, on a CPU; models are built there, once a visit and side
CEILINGS_S = 0.5
START_S = 30.0  # imports, the card's context, collecting
SUITE = ("test_forward", "test_backward", "test_train_step", "test_encodings", "test_denormals", "test_gradients")


@dataclass(frozen=True)
class Estimate:
    """Predicted seconds and bytes of one test.

    Args:
        case: what it measures.
        seconds: of the session.
        flops: of a step; None of what runs on the CPU, as all that follow.
        device_s: of a step, by its operators.
        launches_s: of a step.
        peak: bytes of the case and its reference together.
    """

    case: object
    seconds: float
    flops: int | None = None
    device_s: float | None = None
    launches_s: float | None = None
    peak: int | None = None

    @property
    def launch_bound(self):
        """True if its row would have the flag."""
        return self.launches_s > LAUNCH_BOUND * self.device_s


def settings_of(**options):
    """A run's choices on a card that need not be here."""
    found = Settings.from_options({"preset": "gpu", **options})
    return replace(found, threads=None, base=replace(found.base, device="cuda", heap="system"))


def cases(settings, suite=SUITE):
    """Every case that these files of ``bench/`` plan and that can be measured."""
    for name in suite:
        module = importlib.import_module(f"bench.{name}")
        tests = [test for attribute, test in vars(module).items() if attribute.startswith("test_")]
        for test in tests:
            grid = grid_of(test)
            for point in grid.points(settings):
                case = settings.case(**dict(grid.fixed) | point)
                if unsupported(case) is None:
                    yield case


def estimate(case, settings):
    """Return the estimate of a case."""
    if case.kind != "timed":
        return Estimate(case, CHECKS[case.phase])
    if case.device == "cpu":
        return Estimate(case, spent(case, settings, 0.0) + WORKER)
    needed = need(case)
    operators = needed.operators
    device_s = sum(n * max(flops / FLOPS_PER_S, moved / BYTES_PER_S) for (flops, moved), n in operators.items())
    launches_s = LAUNCH_S * sum(operators.values())
    seconds = spent(case, settings, max(device_s, launches_s)) + HELD_S
    seconds += 0.0 if case.phase == "backward" else ENERGY_S
    reference = replace(case, **settings.reference) if case.paired else None
    sides = 1 if reference is None else 2 * settings.visits
    seconds += sides * parameters(case) * PARAMETER_S
    return Estimate(case, seconds, needed.flops, device_s, launches_s, prediction(case, reference)["value"])


def estimates(settings, suite=SUITE):
    """Return the estimate of each of a run's cases."""
    return [estimate(case, settings) for case in cases(settings, suite)]


def session_s(estimated):
    """Seconds of a session with these cases."""
    alone = START_S + sum(one.seconds for one in estimated)
    return alone * (1 + CEILINGS_S / CEILINGS_EVERY)


def not_bound(estimated):
    """The share of the cells on the card that are not bound by launches."""
    on_card = [one for one in estimated if one.device_s is not None]
    return sum(not one.launch_bound for one in on_card) / len(on_card)


def lines(estimated):
    """The estimate as a table in Markdown, a line a phase, and its sum."""
    groups = defaultdict(list)
    for one in estimated:
        groups[one.case.phase if one.device_s is not None else f"{one.case.phase}, on the CPU"].append(one)
    yield "| phase | cases | minutes | not bound by launches | largest peak |"
    yield "|---|---|---|---|---|"
    for name, own in groups.items():
        minutes = sum(one.seconds for one in own) / 60
        card = own[0].device_s is not None
        share = f"{not_bound(own):.0%}" if card else ""
        peak = f"{max(one.peak for one in own) / 2**30:.0f} GiB" if card else ""
        yield f"| {name} | {len(own)} | {minutes:.1f} | {share} | {peak} |"
    minutes, share = session_s(estimated) / 60, not_bound(estimated)
    yield f"| in all, with its start | {len(estimated)} | {minutes:.1f} | {share:.0%} | |"


def main():
    """Print it for the preset, with options of a session as ``pe=none,t5``."""
    settings = settings_of(**dict(word.split("=", 1) for word in sys.argv[1:]))
    print("\n".join(lines(estimates(settings))))


if __name__ == "__main__":
    main()
