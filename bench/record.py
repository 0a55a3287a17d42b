"""The run's book-keeping, as a pytest plugin: every planned test with its status, a line each, and a summary."""

import contextlib
import gc
import math
import random
import re
import time
import traceback
from collections.abc import Generator
from pathlib import Path
from typing import Any

import pytest
import torch

from attnlib.measure import clock, environment
from attnlib.measure.canary import Canary
from attnlib.measure.device import Device
from attnlib.measure.limits import TimeIsUp, time_limit
from attnlib.measure.memory import is_out_of_memory
from attnlib.runs.journal import NOT_YET
from attnlib.runs.save import plain
from attnlib.runs.schema import benchmark_problems
from attnlib.runs.text import duration, seconds, size
from bench.cases import PROBES, Case, Settings

BENCH = Path(__file__).parent
FOLDERS = re.compile(r"(?<![\w.])/(?:[^/\s'\":]+/)+")  # of an absolute path in a message: nobody's business


class Left(Exception):
    """A case is left without a time, for a reason that is no failure.

    Args:
        status: of its row.
        reason: in words.
        more: further fields of its row.
    """

    def __init__(self, status: str, reason: str, **more: Any) -> None:
        super().__init__(reason)
        self.row = {"status": status, "reason": reason, **more}


class Record:
    """Plans, orders and follows the tests of one session.

    Args:
        settings: the run's choices.
        device: what is measured.
    """

    def __init__(self, settings: Settings, device: Device) -> None:
        self.settings, self.device = settings, device
        self.cases: dict[str, Case] = {}  # of planned tests
        self.rows: dict[str, dict[str, Any]] = {}  # of every planned test, a case or not: what became of it
        self.benchmarks: dict[str, dict[str, Any]] = {}  # of tests that passed, until they are saved
        self.timed_s: dict[str, float] = {}
        self.spent_s: dict[str, float] = {}
        self.disturbed: dict[str, list[str]] = {}
        self.announced: set[str] = set()
        self.done = self.earlier = 0
        self.started = time.perf_counter()
        self.canary: Canary | None = None

    def case_of(self, item: pytest.Item) -> Case | None:
        """The case of a bench item, from its test's ``fixed`` fields and its parameters; None for other tests."""
        if not isinstance(item, pytest.Function) or not hasattr(item.function, "rows"):
            return None
        return self.settings.case(**(item.function.fixed | item.callspec.params))

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> Generator[None, Any, Any]:
        """Visit timed cases in a seeded random order, so that drift is not mistaken for scaling; give all our clock.

        What is left when others (``-k``) have chosen is the plan.
        """
        cases = {item: case for item in items if (case := self.case_of(item)) is not None}
        timed = list(cases)
        random.Random(self.settings.order_seed).shuffle(timed)
        timed.sort(key=lambda item: cases[item].phase in PROBES)  # times first: no check between them
        items[:] = timed + [item for item in items if item not in cases]
        for item in items:
            if item.path.parent == BENCH and not any(item.iter_markers("benchmark")):
                group = cases[item].phase if item in cases else None
                item.add_marker(pytest.mark.benchmark(timer=clock.device_clock, group=group))
        result = yield
        self.rows = {item.nodeid: dict(NOT_YET) for item in items if item.path.parent == BENCH}
        self.cases = {item.nodeid: cases[item] for item in items if item in cases}
        return result

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtestloop(self, session: pytest.Session) -> None:
        """Set what must precede the first torch operation."""
        if not self.rows or session.config.getoption("collectonly"):
            return
        torch.set_flush_denormal(self.settings.base.denormals == "flush")
        if self.settings.threads is not None:
            torch.set_num_threads(self.settings.threads)
        clock.bind(self.device)
        # in random order the module's name would stand before every line
        if reporter := session.config.pluginmanager.get_plugin("terminalreporter"):
            reporter.showfspath = False
        self.started = time.perf_counter()
        self.canary = Canary(self.device)

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_call(self, item: pytest.Item) -> Generator[None, Any, Any]:
        """Hold a test to its time; where it ends early its row says how, and nothing of it counts as a time."""
        row = self.rows.get(item.nodeid)
        if row is None:
            return (yield)
        try:
            with time_limit(self.settings.case_timeout):
                result = yield
            if (benchmark := benchmark_of(item)) is not None:
                self.benchmarks[item.nodeid] = benchmark
            return result
        except BaseException as error:
            row.update(taken_back(item))
            if (ended := self.how(error)) is None:
                raise
            row.update(ended)
            if isinstance(error, (KeyboardInterrupt, pytest.exit.Exception)):
                raise
            traceback.clear_frames(error.__traceback__)  # they hold the workload
        gc.collect()
        self.device.release()
        self.announce(item, f"{item.name.removeprefix('test_')}  {row['status']}: {row['reason']}")
        pytest.skip(row["reason"])

    def how(self, error: BaseException) -> dict[str, Any] | None:
        """Status and reason of a test that ended so; None for a failure."""
        if isinstance(error, Left):
            return error.row
        if isinstance(error, TimeIsUp):
            return {"status": "timeout", "reason": f"it took longer than {self.settings.case_timeout:g} s"}
        if isinstance(error, (KeyboardInterrupt, pytest.exit.Exception)):
            return {"status": "interrupted", "reason": f"the run ended in it: {str(error) or type(error).__name__}"}
        if is_out_of_memory(error):
            return {"status": "oom", "reason": first_line(str(error) or type(error).__name__)}
        return None

    @pytest.hookimpl(trylast=True)
    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Note what became of a test."""
        row = self.rows.get(report.nodeid)
        if row is None or (report.when != "call" and report.passed):
            return
        if report.passed:
            row.update(status="ok", reason=None)
            if report.nodeid in self.timed_s:
                self.spent_s[report.nodeid] = report.duration
        elif report.skipped:
            if row["status"] == NOT_YET["status"]:  # by the test itself
                reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else str(report.longrepr)
                row.update(status="unsupported", reason=reason)
        else:
            self.benchmarks.pop(report.nodeid, None)
            crash = getattr(report.longrepr, "reprcrash", None)
            message = str(report.longrepr) if crash is None else crash.message
            row.update(status="error", reason=first_line(message))
        self.done += report.when == "call" or not report.passed

    def announce(self, item: pytest.Item, text: str) -> None:
        """Write a progress line for a test, which then needs no letter."""
        find = item.config.pluginmanager.get_plugin
        reporter: Any = find("terminalreporter")
        capture: Any = find("capturemanager")
        self.announced.add(item.nodeid)
        with contextlib.suppress(OSError), capture.global_and_fixture_disabled():  # a terminal that is gone
            reporter.ensure_newline()
            reporter.write_line(self.line(text))

    def line(self, text: str) -> str:
        """A progress line: how many tests are done, ``text``, and the time left at the mean pace so far."""
        if not self.cases:
            return text
        done, planned = self.done + 1, len(self.rows)
        left = (time.perf_counter() - self.started) / done * (planned - self.earlier - done)
        return f"[{self.earlier + done:>{len(str(planned))}}/{planned}] {text}  {duration(left)} left"

    def pytest_report_teststatus(self, report: pytest.TestReport) -> tuple[str, str, str] | None:
        """A test that wrote a line of its own gets no letter."""
        if report.when == "call" and not report.failed and report.nodeid in self.announced:
            return report.outcome, "", report.outcome.upper()
        return None

    def pytest_benchmark_update_machine_info(self, machine_info: dict[str, Any]) -> None:
        """Add the device, threads, versions and settings."""
        machine_info["attnlib"] = environment.describe(self.device)

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        """Say how many cases have which status and how the time was spent."""
        if not self.cases or terminalreporter.config.getoption("collectonly"):
            return
        statuses = [self.rows[test]["status"] for test in self.cases]
        counts = ", ".join(f"{statuses.count(s)} {s}" for s in dict.fromkeys(statuses))
        timed, spent = sum(self.timed_s[test] for test in self.spent_s), sum(self.spent_s.values())
        share = f"; {timed / spent:.0%} of the timing cases was timed" if spent else ""
        share += "; brackets: 95 % interval within this run" if spent else ""
        terminalreporter.write_line(f"attnlib: {counts} in {duration(time.perf_counter() - self.started)}{share}")
        for test, why in self.disturbed.items():
            terminalreporter.write_line(f"  disturbed, twice: {test}: {'; '.join(why)}")
        for test, row in self.rows.items():
            if row["status"] not in ("ok", "unsupported") and row["reason"] != NOT_YET["reason"]:
                terminalreporter.write_line(f"  {row['status']}: {test}: {row['reason']}")


def benchmark_of(item: pytest.Item) -> dict[str, Any] | None:
    """What pytest-benchmark saves of a test that ended well; None where it measured nothing.

    Raises:
        AssertionError: a sample is not finite, **or** what should be saved would break the results contract.
    """
    fixture = getattr(item, "funcargs", {}).get("benchmark")
    if fixture is None or not fixture.stats:
        return None
    samples = fixture.stats.stats.data
    if wrong := sum(not math.isfinite(sample) for sample in samples):
        raise AssertionError(f"{wrong} of {len(samples)} samples are not finite")
    nulled: list[str] = []
    saved: dict[str, Any] = plain(fixture.stats.as_dict(include_data=True), nulled=nulled)
    saved.pop("cprofile", None)  # it names folders
    if nulled:
        saved["extra_info"]["not_finite"] = nulled
    if found := benchmark_problems(saved):
        raise AssertionError(f"{found[0]}" + (f"; {'; '.join(nulled)}" if nulled else ""))
    return saved


def first_line(message: str) -> str:
    """What a row says of an exception: its first line, without folders."""
    return FOLDERS.sub("", message.strip().partition("\n")[0]) or "no message"


def taken_back(item: pytest.Item) -> dict[str, Any]:
    """The rounds so far of a test that did not end well, for its row: pytest-benchmark would take them for a result."""
    fixture = getattr(item, "funcargs", {}).get("benchmark")
    if fixture is None:
        return {}
    samples: list[float] = fixture.stats.stats.data if fixture.stats else []
    had = plain({"samples": samples, "extra_info": fixture.extra_info})
    samples.clear()
    return {"partial": had} if any(had.values()) else {}


def figure(name: str, median: float, info: dict[str, Any]) -> str:
    """A case's result in a line: time with its interval within this run, memory, an unfused attention, disturbances."""
    interval, peak, attention = info["time"]["interval"], info["memory"]["allocated_peak"]["value"], info["attention"]
    bounds = f" [{seconds(interval[0])}, {seconds(interval[1])}]" if interval else ""
    unfused = f"  {attention['kernel']}: {attention['reason']}" if attention["fused"] is False else ""
    noise = f"  disturbed: {'; '.join(info['time']['disturbed'])}" if info["time"]["disturbed"] else ""
    return f"{name}  {seconds(median)}{bounds}" + (f"  {size(peak)}" if peak is not None else "") + unfused + noise
