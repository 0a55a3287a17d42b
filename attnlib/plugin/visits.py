"""Pytest plugin that measures each paired case again, in random order, once every test has run."""

import random
import traceback
import warnings
from collections.abc import Iterator
from typing import Any

import pytest
from pytest_benchmark.stats import Stats

from attnlib.errors import message
from attnlib.measure.device import Unavailable
from attnlib.measure.limits import TimeIsUp, time_limit
from attnlib.plugin.measuring import Times, revisit
from attnlib.plugin.pair import paired
from attnlib.plugin.record import Entry, Left, Record, checked
from attnlib.plugin.saving import Saving
from attnlib.plugin.screen import Screen, name_of, visit_line
from attnlib.predict.peak import reference_of


class Visits:
    """Plugin that makes the later visits of each case, since pytest runs a test only once.

    Args:
        record: the session's.
        screen: prints a line per visit.
        saving: writes each visit to the journal.
    """

    def __init__(self, record: Record, screen: Screen, saving: Saving) -> None:
        self.record, self.screen, self.saving = record, screen, saving

    @pytest.hookimpl(wrapper=True)
    def pytest_runtestloop(self, session: pytest.Session) -> Iterator[None]:
        """After all tests, visit each case as often as planned, and more often if its visits disagree."""
        result = yield
        if session.config.getoption("collectonly"):
            return result
        while left := self.record.visits_left():
            most = max(left.values())  # a pass over those that have the most to come
            tests = [test for test, count in left.items() if count == most]
            random.Random(f"{self.record.settings.order_seed} {most}").shuffle(tests)
            for test in tests:
                self.once_more(session, test)
        return result

    def once_more(self, session: pytest.Session, test: str) -> None:
        """Visit a case once more, within the limits of time and memory of a test; a failure is reported as its test's.

        Raises:
            session.Failed: the number of failures has reached ``--maxfail``.
            session.Interrupted: the session is to stop, as ``--stepwise`` does after a failure.
        """
        item, entry = self.record.items[test], self.record.entries[test]
        number = self.record.made(test) + 1
        self.saving.begin(test, number)
        call = pytest.CallInfo.from_call(
            lambda: self.visit(session, entry), "call", reraise=(pytest.exit.Exception, KeyboardInterrupt)
        )
        entry.spent_s += call.duration
        if call.excinfo is not None:
            item.ihook.pytest_runtest_logreport(report=pytest.TestReport.from_item_and_call(item, call))
            forget(session.config, test)
            self.record.make_room(session)
        elif entry.benchmark is not None:
            settled = self.record.settled(test)
            line = visit_line(settled["extra_info"]["time"], number, self.record.time_so_far(test, settled))
            self.screen.announce(item, f"{name_of(item)}  {line}")
            tell_pytest_benchmark(session.config, test, settled)
        self.saving.end_test()
        if session.shouldfail:
            raise session.Failed(session.shouldfail)
        if session.shouldstop:
            raise session.Interrupted(session.shouldstop)

    def visit(self, session: pytest.Session, entry: Entry) -> None:
        """Measure a case once more; a visit that ends for lack of memory or time is noted as lost, with its reason."""
        known = dict(entry.benchmark or {})
        earlier = Times.saved(known["stats"]["data"], known["extra_info"]["time"])
        try:
            with time_limit(self.record.settings.case_timeout), warnings.catch_warnings():
                warnings.simplefilter("ignore")  # pytest has shown them in the first visit
                later, timed_s = self.measured(entry, known["extra_info"]["time"])
            times = earlier.and_then(later)
            entry.timed_s += timed_s
            entry.disturbed = list(times.as_json()["disturbed"])
        except (Left, Unavailable, TimeIsUp, MemoryError, RuntimeError) as error:
            if (ended := self.record.how(error)) is None:
                raise
            traceback.clear_frames(error.__traceback__)  # they hold the workload
            times = earlier.without(f"{ended['status']}: {ended['reason']}")
            self.record.make_room(session)
        entry.benchmark = checked(with_times(known, times))

    def measured(self, entry: Entry, time: dict[str, Any]) -> tuple[Times, float]:
        """Measure a case once more; return the visit's times and the seconds spent in rounds."""
        if entry.case is None:
            raise ValueError(message("a visit of a test without a case"))
        record = self.record
        instruments = record.instruments(entry.case)
        reference, alone = reference_of(entry.case, record.settings, instruments.device)
        if reference is None:  # less memory is free than in the first visit
            raise Left("oom", str(alone))
        pair = paired(entry.case, record.settings, instruments.device)
        if pair.reference is None:
            raise Left("unsupported", str(pair.alone))
        return revisit(pair, entry.case, time, record.settings, instruments)


def with_times(benchmark: dict[str, Any], times: Times) -> dict[str, Any]:
    """Return a saved benchmark with the times of all visits and pytest-benchmark's statistics recomputed from them."""
    info = benchmark["extra_info"]
    stats = benchmark["stats"] | statistics_of(times.samples).as_dict() | {"data": list(times.samples)}
    made = times.as_json()
    disturbed = sum(bool(visit["disturbed"]) for visit in made["visits"])
    flags = [flag for flag in info["flags"] if not flag.startswith("disturbed in")]
    if disturbed and not made["disturbed"]:
        flags.append(f"disturbed in {disturbed} of {len(made['visits'])} visits")
    return benchmark | {"stats": stats, "extra_info": info | {"time": info["time"] | made, "flags": flags}}


def statistics_of(samples: Any) -> Stats:
    """Return pytest-benchmark's statistics of these seconds."""
    stats = Stats()
    stats.data = list(samples)
    return stats


def tell_pytest_benchmark(config: pytest.Config, test: str, benchmark: dict[str, Any]) -> None:
    """Let pytest-benchmark's own tables and comparisons of this session see all visits of a test."""
    for own in told(config, test):
        own.stats = statistics_of(benchmark["stats"]["data"])
        own.extra_info.update(benchmark["extra_info"])


def forget(config: pytest.Config, test: str) -> None:
    """Empty pytest-benchmark's results of a test that failed in a later visit, so that it leaves the test out."""
    for own in told(config, test):
        own.stats = statistics_of([])


def told(config: pytest.Config, test: str) -> list[Any]:
    """Return pytest-benchmark's results of a test in this session; empty if an earlier process ran the test."""
    plugin: Any = config.pluginmanager.get_plugin("pytest-benchmark")
    return [own for own in plugin.benchmarks if own.fullname == test]
