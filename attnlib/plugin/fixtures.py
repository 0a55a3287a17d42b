"""Fixtures of the suite's tests: a test's case, and functions that measure, check or train it."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

import pytest

from attnlib.errors import message
from attnlib.plugin.stash import RECORD, SCREEN

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from attnlib.cases.case import Case
    from attnlib.cases.settings import Settings
    from attnlib.measure.device import Device
    from attnlib.plugin.trainings import Study

AXES = ("seq_len", "depth", "pe")  # which every timed row has among its params, to be grouped by


def refuse_wrong(case: Case, benchmark: Any = None) -> None:
    """Fail the test, without a traceback, if a part of its case that is not attnlib's fails an essential check."""
    from attnlib.cases.conformance import problem_of

    if problem := problem_of(case):
        if benchmark is not None:
            benchmark._mode = "measure_case()"  # else pytest-benchmark warns that it was not used
        pytest.fail(problem, pytrace=False)


@pytest.fixture(scope="session")
def settings(request: pytest.FixtureRequest) -> Settings:
    """Return the settings of the run."""
    return request.config.stash[RECORD].settings


@pytest.fixture
def device(request: pytest.FixtureRequest) -> Device:
    """Return the device that is measured."""
    return request.config.stash[RECORD].device


@pytest.fixture
def case(request: pytest.FixtureRequest) -> Case:
    """Return the case of this test."""
    own = request.config.stash[RECORD].case_of(request.node)
    if own is None:
        advice = "spread it with attnlib.cases.grids.over"
        raise pytest.UsageError(message(f"{request.node.nodeid} has no case", do=advice))
    return own


@pytest.fixture
def announce(request: pytest.FixtureRequest) -> Callable[[str], None]:
    """Return a function that writes a progress line for this test."""
    return partial(request.config.stash[SCREEN].announce, request.node)


@pytest.fixture
def ratio(benchmark: Any, announce: Callable[[str], None]) -> Callable[..., None]:
    """Return a function that times two steps in interleaved rounds, saves the ratio of their times and prints it."""
    from attnlib.measure.sampling import MIN_ROUNDS
    from attnlib.plugin.interleaved import ratio

    def run(title: str, a: Callable[[], None], b: Callable[[], None]) -> None:
        value, low, high, blocks = ratio(a, b)
        benchmark.params = {"seq_len": None, "depth": 1, "pe": "none"} | benchmark.params
        benchmark.extra_info["ratio"] = {"of": title, "value": value, "low": low, "high": high, "blocks": blocks}
        benchmark.pedantic(a, rounds=MIN_ROUNDS)
        announce(f"{title} {value:.3f} [{low:.3f}, {high:.3f}]")

    return run


@pytest.fixture
def check_case(case: Case, announce: Any, request: pytest.FixtureRequest) -> Callable[[], None]:
    """Return a function that checks this case's gradients, saves the finding as the row's ``probe``, and asserts it."""
    from attnlib.gradients.registry import CHECKS
    from attnlib.plugin.screen import name_of

    def run() -> None:
        refuse_wrong(case)
        finding = CHECKS[case.phase](case)
        request.config.stash[RECORD].read(request.node.nodeid, finding.as_json())
        if finding.problems:  # no assert statement: python -O leaves those out
            raise AssertionError("; ".join(finding.problems))
        held = any(claim.least is not None or claim.most is not None for claim in finding.claims)
        announce(f"{name_of(request.node)}  {'holds' if held else 'read'}: {finding}")

    return run


@pytest.fixture(scope="session")
def study(request: pytest.FixtureRequest) -> Iterator[Study]:
    """Yield the ``Study`` that trains cases, and end its processes when the session ends."""
    from attnlib.plugin.trainings import Study

    own = Study(request.config.stash[RECORD])
    yield own
    own.trainers.close()


@pytest.fixture
def train_case(case: Case, study: Study, announce: Any, request: pytest.FixtureRequest) -> Callable[[], None]:
    """Return a function that trains this test's case and saves the result as the row's ``probe``."""
    from attnlib.plugin.screen import name_of
    from attnlib.plugin.trainings import in_words

    def run() -> None:
        refuse_wrong(case)
        probe = study.probe(case)
        request.config.stash[RECORD].read(request.node.nodeid, probe)
        announce(f"{name_of(request.node)}  {in_words(probe)}")

    return run


@pytest.fixture
def measure_case(
    request: pytest.FixtureRequest, benchmark: Any, case: Case, settings: Settings, announce: Any
) -> Callable[..., None]:
    """Return a function that measures this test's case if it is supported and should fit into memory.

    ``measure_case()``, in a test that ``over`` spreads over cases, times the case beside its reference, measures its
    memory, and saves both as the test's row. ``measure_case(build)`` measures, without a reference, the object that
    ``build(case)`` returns, see ``attnlib.plugin.pair.Timeable``. A case that cannot run is skipped with its reason.
    """
    from attnlib.plugin.measuring import time_case
    from attnlib.plugin.pair import Pair, paired
    from attnlib.plugin.record import Left
    from attnlib.plugin.screen import name_of, result_line
    from attnlib.predict.peak import unfit

    record = request.config.stash[RECORD]

    def run(build: Callable[[Case], Any] | None = None) -> None:
        instruments = record.instruments(case)
        if reason := unfit(case, settings, instruments.device):
            raise Left(**reason.row())
        refuse_wrong(case, benchmark)
        if benchmark.cprofile and case.phase == "backward":
            wrong = "pytest-benchmark profiles a step without its set-up, which makes the graph"
            raise Left("unsupported", message(wrong, do="leave out --benchmark-cprofile"))
        benchmark.params = {name: getattr(case, name) for name in AXES} | benchmark.params
        pair = (
            paired(case, settings, instruments.device)
            if build is None
            else Pair(build(case), alone="it was measured in a process of its own, without a reference")
        )
        timed = time_case(benchmark, pair, case, settings, instruments)
        if benchmark.stats is not None:
            record.note_time(request.node.nodeid, timed, benchmark.extra_info["time"]["disturbed"])
            announce(result_line(name_of(request.node), benchmark.stats.stats.median, benchmark.extra_info))

    return run
