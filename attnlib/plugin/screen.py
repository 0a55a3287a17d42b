"""Pytest plugin that prints a line per test, with the time left, and a summary."""

from __future__ import annotations

import contextlib
import math
import time
from collections.abc import Generator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from attnlib.cases.settings import Settings
from attnlib.cases.text import size
from attnlib.compare import speed
from attnlib.compare.cells import Cells
from attnlib.compare.intervals import Estimate
from attnlib.compare.pairs import fields_in_words, kernels_apart, over_reference
from attnlib.measure.cores import usable_cores
from attnlib.model.positional import POSITIONAL
from attnlib.plugin.plan import machine_info
from attnlib.plugin.record import Record
from attnlib.runs.find import results
from attnlib.runs.journal import NOT_YET, differences
from attnlib.runs.load import Cell, Run, machine_of
from attnlib.runs.schema import Floor
from attnlib.runs.text import forgive, printable
from attnlib.show.beside import beside_tables
from attnlib.show.ceilings import near, summary
from attnlib.show.costs import costs
from attnlib.show.units import digits, duration, joules, seconds, with_interval

WIDE = 2.0  # times the asked half-width, from which on the typical interval is called wide


class Screen:
    """Plugin that prints progress and results of ``record`` to the terminal.

    Args:
        record: the session's.
        compared: machines of the saved runs that the session is compared with.
    """

    def __init__(self, record: Record, compared: Sequence[dict[str, Any]] = ()) -> None:
        self.record, self.compared = record, compared
        self.announced: set[str] = set()
        self.first: tuple[int, float] | None = None  # test with a line, and when it ended

    def pytest_runtestloop(self, session: pytest.Session) -> None:
        """Print the conditions of the session, and how the machine differs from those of compared runs."""
        reporter = session.config.pluginmanager.get_plugin("terminalreporter")
        if not self.record.entries or self.record.guest or reporter is None:
            return
        reporter.showfspath = False  # in random order the module's name would stand before every line
        plugin: Any = session.config.pluginmanager.get_plugin("pytest-benchmark")
        if not session.config.getoption("collectonly") and not plugin.disabled:
            reporter.write_line(f"attnlib: {conditions(self.record)}")
        if self.compared:
            here = machine_of(machine_info(session.config))
            differ = [line for saved in self.compared for line in differences(machine_of(saved), here)]
            for line in dict.fromkeys(differ):
                reporter.write_line(printable(f"attnlib: compared with another machine or settings: {line}"))

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_runtest_call(self, item: pytest.Item) -> Generator[None, Any, Any]:
        """Print the status and reason of a case that is left without a time."""
        try:
            return (yield)
        except pytest.skip.Exception:
            entry = self.record.entries.get(item.nodeid)
            if entry is not None and entry.status != NOT_YET["status"]:
                self.announce(item, f"{name_of(item)}  {entry.status}: {entry.row['reason']}")
            raise

    def announce(self, item: pytest.Item, text: str) -> None:
        """Print a progress line for a test, in place of pytest's letter."""
        find = item.config.pluginmanager.get_plugin
        reporter: Any = find("terminalreporter")
        capture: Any = find("capturemanager")
        if reporter is None:
            return
        self.announced.add(item.nodeid)
        uncaptured = contextlib.nullcontext() if capture is None else capture.global_and_fixture_disabled()
        with contextlib.suppress(OSError), uncaptured:  # a terminal that is gone
            reporter.ensure_newline()
            reporter.write_line(self.line(item.nodeid, text))

    def line(self, test: str, text: str) -> str:
        """Return a progress line: which test of how many, ``text``, and the time left at the mean pace so far."""
        entries = self.record.entries
        if test not in entries or not any(entry.case for entry in entries.values()):
            return text
        running = entries[test].status == NOT_YET["status"]  # and not through yet
        done, planned = self.record.through() + running, self.record.to_do()
        start = f"[{done:>{len(str(planned))}}/{planned}] {text}"
        now = time.perf_counter()
        if self.first is None:  # which pays for what is made once, and says nothing of the others
            self.first = done, now
            return start
        before, since = self.first
        left = (now - since) / max(1, done - before) * (planned - done)
        return f"{start}  {duration(left)} left"

    def pytest_report_teststatus(self, report: pytest.TestReport) -> tuple[str, str, str] | None:
        """Return no letter for a test that did not fail and has a progress line; None for any other."""
        if report.when == "call" and not report.failed and report.nodeid in self.announced:
            return report.outcome, "", report.outcome.upper()
        return None

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        """Print tables of costs, cases per status, the time spent, and what was disturbed or failed."""
        cases = [entry for entry in self.record.entries.values() if entry.case is not None]
        for table in beside_tables(Cells([Run(Path(), {}, (), self.record.beside())])):
            print()
            table.print()
        if not cases or terminalreporter.config.getoption("collectonly"):
            return
        forgive()
        cells = self.record.cells()
        labels = dict.fromkeys([*POSITIONAL, *(cell.case.pe for cell in cells)])
        run = Run(Path(), {"attnlib": {"axes": {"pe": list(labels)}}}, cells)
        for table in costs(Cells([run])):
            print()
            table.print()
        for line in summary(run.cells, self.record.readings):
            terminalreporter.write_line(f"attnlib: {line}")
        statuses = [entry.status for entry in cases]
        counts = ", ".join(f"{statuses.count(s)} {s}" for s in dict.fromkeys(statuses))
        spent = sum(entry.spent_s for entry in cases)
        timed = sum(entry.timed_s for entry in cases if entry.spent_s)
        share = f"; {timed / spent:.0%} of the cases' time went into rounds" if spent else ""
        taken = duration(time.perf_counter() - self.record.started)
        terminalreporter.write_line(f"attnlib: {counts} in {taken}{share}")
        config = terminalreporter.config
        for found in (wide_intervals(run.cells, self.record.settings), changed_speed(config, self.record)):
            if found is not None:
                terminalreporter.write_line(f"attnlib: {found}")
        for test, entry in self.record.entries.items():
            if entry.disturbed:
                terminalreporter.write_line(f"  disturbed, twice: {test}: {'; '.join(entry.disturbed)}")
        for test, entry in self.record.entries.items():
            if entry.status not in ("ok", "unsupported") and entry.row["reason"] != NOT_YET["reason"]:
                terminalreporter.write_line(f"  {entry.status}: {test}: {entry.row['reason']}")


def name_of(item: pytest.Item) -> str:
    """Return a test's name without the prefix ``test_``."""
    return item.name.removeprefix("test_")


def conditions(record: Record) -> str:
    """Return the line that names device, threads, heap and visits."""
    settings, device = record.settings, record.device
    words = [str(device.torch_device)]
    if settings.threads is not None:
        cores = usable_cores()
        more = "" if settings.threads >= cores else " (--threads all takes every core)"
        words.append(
            f"{settings.threads} thread{'s' * (settings.threads > 1)} on {cores} core{'s' * (cores > 1)}{more}"
        )
    if device.kind == "cpu":
        why = f": {settings.heap_reason}" if settings.heap_reason else ""
        words.append("freed memory is kept" if settings.base.heap == "kept" else f"freed memory may be given back{why}")
    if settings.reference is not None:
        words.append(f"each case is visited {settings.visits} times")
    return ", ".join(words)


def wide_intervals(cells: Sequence[Cell], settings: Settings) -> str | None:
    """Return a line if intervals are much wider than asked for, with the budget that would do; None if they are not.

    It assumes that half-widths fall as the root of the time, which holds as long as visits differ by the noise of their
    rounds: where they were 8.8 % at a budget of 1 s, they were 1.9 % at 8 s.
    """
    halves = [math.log(ratio.high / ratio.low) / 2 for cell in cells if (ratio := over_reference(cell))]
    if not halves or settings.preset == "smoke" or (typical := float(np.median(halves))) < WIDE * settings.precision:
        return None
    factor = (typical / settings.precision) ** 2
    wish = f"about --budget {settings.budget * factor:.2g} would do, and take up to {factor:.0f} times as long"
    return f"half of the ratios' intervals are wider than ±{typical:.1%}; for ±{settings.precision:.0%} {wish}"


def changed_speed(config: pytest.Config, record: Record) -> str | None:
    """Return a line if the machine was not as fast as in saved runs on machines of this kind; None if it was.

    Within a run nothing shows that, since every visit meets the same speed.
    """
    own = speed.of_readings(record.readings, record.device.kind)
    if not own:
        return None
    folder = Path(config.option.benchmark_storage.removeprefix("file://"))
    saving: Any = config.pluginmanager.get_plugin("attnlib-saving")
    token = saving.keeper.plan.run if saving is not None and saving.keeper is not None else None
    references = results(config.rootpath) / "reference"
    earlier = speed.earlier(folder, references, machine_info(config), record.device.kind, token)
    if (changed := speed.change(earlier, [own])) is None:
        return None
    runs = f"{len(earlier)} saved run{'s' * (len(earlier) > 1)}"
    more = "ratios may differ from theirs by more than the intervals say"
    return f"the machine had another speed than in {runs}: {changed}; {more}"


def result_line(name: str, median: float, info: dict[str, Any]) -> str:
    """Return a case's result as a line: time, ratio over the reference, memory, energy, ceiling, kernels, warnings."""
    time, peak = info["time"], info["memory"]["allocated_peak"]["value"]
    found = format_ratio(time.get("over_reference"), time)
    noise = f"  disturbed: {'; '.join(time['disturbed'])}" if time["disturbed"] else ""
    noise = "".join(f"  {flag}" for flag in info["flags"]) + noise
    weight = f"  {size(peak)}" if peak is not None else ""
    floor = info["cost"].get("floor_s")
    share = near(Floor(**floor), median) if floor else ""
    spent = info["energy"]["joules"]["value"]
    weight += f"  {joules(spent)}" if spent is not None else ""
    return f"{name}  {seconds(median)}{found}{weight}{share}{kernels(info)}{noise}"


def kernels(info: dict[str, Any]) -> str:
    """Return the attention kernels if the reference ran another one, and the reason if the case's is not fused."""
    attention, over = info["attention"], info["time"].get("over_reference") or {}
    apart = kernels_apart(attention["kernel"], attention["reference_kernel"], over.get("reference", {}))
    if attention["fused"] is False:
        return f"  {apart or attention['kernel']}: {attention['reason']}"
    return f"  {apart}" if apart else ""


def beside_line(name: str, found: dict[str, Any]) -> str:
    """Return the line of a call that was measured beside another one: ratio, verdict, time and bytes that it adds.

    Args:
        name: the test's name.
        found: its saved fields, see ``attnlib.runs.schema.Beside``.
    """
    ratio = with_interval(digits(3))(Estimate(**found["ratio"]))
    peaks = [found[key]["value"] for key in ("peak", "reference_peak")]
    weight = f"  {size(peaks[0])}, the reference {size(peaks[1])}" if None not in peaks else ""
    return f"{name}  {seconds(found['seconds'])}  {ratio} x its reference: {found['verdict']}{weight}"


def format_ratio(found: dict[str, Any] | None, time: dict[str, Any]) -> str:
    """Return a case's ratio as text, or the reason why it has none; an empty text in phases without a reference.

    Args:
        found: the ratio.
        time: ``time`` of the saved row.
    """
    if found is None:
        return ""
    if found["value"] is None:
        return f"  alone: {found['reason']}"
    return f"{' in this visit' if time['visits_planned'] > 1 else ''}  {visit_line(time, 1)}"


def visit_line(time: dict[str, Any], number: int, so_far: float | None = None) -> str:
    """Return a case's ratio after a visit as text, with interval and time once there are as many visits as planned.

    Args:
        time: ``time`` of the saved row.
        number: the visit's number.
        so_far: seconds of the case as the tables will show them.
    """
    found, planned = time["over_reference"], time["visits_planned"]
    name = fields_in_words(found["reference"])
    if (lost := time["visits_lost"]) and lost[-1]["visit"] == number:
        return f"visit {number} of {planned} came to nothing: {lost[-1]['reason']}"
    if number < planned:
        return f"{digits(2)(found['value'])} x {name} after {number} of {planned} visits"
    noise = f"  disturbed: {'; '.join(time['disturbed'])}" if time["disturbed"] and number > 1 else ""
    more = f"  {number} visits, since they disagreed" if number > planned else ""
    start = "" if so_far is None else f"{seconds(so_far)}  "
    ratio = with_interval(digits(2))(Estimate(found["value"], found["low"], found["high"]))
    return f"{start}{ratio} x {name}{more}{noise}"
