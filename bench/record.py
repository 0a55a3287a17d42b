"""The run's book-keeping, as a pytest plugin: every planned case with its status, a line each, and what is saved."""

import random
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import torch

from attnlib.attention import ATTENTION, INITS
from attnlib.blocks import BLOCKS
from attnlib.measure import clock, environment
from attnlib.measure.canary import Canary
from attnlib.measure.device import Device
from attnlib.positional import POSITIONAL
from attnlib.runs.schema import SCHEMA
from attnlib.runs.text import duration, seconds, size
from attnlib.theory import decay_rate
from bench.cases import PROBES, Case, Settings
from bench.measure import identity

BENCH = Path(__file__).parent


class Record:
    """Plans, orders and follows the cases of one session.

    Args:
        settings: the run's choices.
        device: what is measured.
    """

    def __init__(self, settings: Settings, device: Device) -> None:
        self.settings, self.device = settings, device
        self.rows: dict[str, dict[str, Any]] = {}
        self.done = 0
        self.started = time.perf_counter()
        self.timed_s = self.spent_s = 0.0
        self.disturbed: dict[str, list[str]] = {}
        self.canary: Canary | None = None

    def case_of(self, item: pytest.Item) -> Case | None:
        """The case of a bench item, from its test's ``fixed`` fields and its parameters; None for other tests."""
        if not isinstance(item, pytest.Function) or not hasattr(item.function, "rows"):
            return None
        return self.settings.case(**(item.function.fixed | item.callspec.params))

    @pytest.hookimpl(tryfirst=True)
    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        """Visit timed cases in a seeded random order, so that drift is not mistaken for scaling; give all our clock."""
        cases = {item: case for item in items if (case := self.case_of(item)) is not None}
        timed = list(cases)
        random.Random(self.settings.order_seed).shuffle(timed)
        timed.sort(key=lambda item: cases[item].phase in PROBES)  # times first: no check between them
        items[:] = timed + [item for item in items if item not in cases]
        for item in items:
            if item.path.parent == BENCH and not any(item.iter_markers("benchmark")):
                group = cases[item].phase if item in cases else None
                item.add_marker(pytest.mark.benchmark(timer=clock.device_clock, group=group))

    def pytest_collection_finish(self, session: pytest.Session) -> None:
        """Write down the plan, then set what must precede the first torch operation."""
        for item in session.items:
            if (case := self.case_of(item)) is not None:
                self.rows[item.nodeid] = identity(case) | {
                    "test": item.nodeid,
                    "status": "interrupted",
                    "reason": "the session ended before it",
                }
        ours = any(item.path.parent == BENCH for item in session.items)
        if ours and not session.config.getoption("collectonly"):
            torch.set_flush_denormal(self.settings.base.denormals == "flush")
            if self.settings.threads is not None:
                torch.set_num_threads(self.settings.threads)
            clock.bind(self.device)
            # in random order the module's name would stand before every line
            if reporter := session.config.pluginmanager.get_plugin("terminalreporter"):
                reporter.showfspath = False
            self.started = time.perf_counter()
            self.canary = Canary(self.device)

    def timed(self, test: str) -> bool:
        """Whether a row is a timed case and no check of gradients."""
        return self.rows[test]["case"]["phase"] not in PROBES

    @pytest.hookimpl(trylast=True)
    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Note what became of a case."""
        row = self.rows.get(report.nodeid)
        if row is None or (report.when != "call" and report.passed):
            return
        noted: dict[str, Any] = dict(report.user_properties)
        if report.passed:
            row.update(status="ok", reason=None)
            if self.timed(report.nodeid):
                self.spent_s += report.duration
                self.timed_s += noted.get("timed_s", 0.0)
                if noted.get("disturbed"):
                    self.disturbed[report.nodeid] = noted["disturbed"]
        elif report.skipped:
            row.update(status=noted.get("status", "unsupported"), reason=noted.get("reason", "skipped"))
        else:
            crash = getattr(report.longrepr, "reprcrash", None)
            message = str(report.longrepr) if crash is None else crash.message
            row.update(status="error", reason=message.strip().splitlines()[0])
        self.done += report.when == "call" or not report.passed

    def line(self, text: str) -> str:
        """A progress line: how many cases are done, ``text``, and the time left at the mean pace so far."""
        if not self.rows:
            return text
        done = self.done + 1
        left = (time.perf_counter() - self.started) / done * (len(self.rows) - done)
        return f"[{done:>{len(str(len(self.rows)))}}/{len(self.rows)}] {text}  {duration(left)} left"

    def pytest_benchmark_update_machine_info(self, machine_info: dict[str, Any]) -> None:
        """Add the device, threads, versions and settings."""
        machine_info["attnlib"] = environment.describe(self.device)

    def pytest_benchmark_update_json(self, output_json: dict[str, Any]) -> None:
        """Add the plan with its statuses, and what plots need without torch."""
        base = self.settings.base
        inner = base.n_heads * base.head_width
        output_json["attnlib"] = {
            "schema": SCHEMA,
            "command": [without_folders(arg) for arg in sys.argv],
            "preset": self.settings.preset,
            "order_seed": self.settings.order_seed,
            "wall_s": time.perf_counter() - self.started,
            "timed_share": self.timed_s / self.spent_s if self.spent_s else None,
            "canary": [] if self.canary is None else self.canary.readings,
            "cases": list(self.rows.values()),
            "axes": {
                "pe": list(POSITIONAL),
                "block": list(BLOCKS),
                "attention": list(ATTENTION),
                "init": list(INITS),
            },
            "theory": {init: decay_rate(init, d_model=base.d_model, inner=inner) for init in INITS},
        }

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        """Say how many cases have which status and how the time was spent."""
        if not self.rows or terminalreporter.config.getoption("collectonly"):
            return
        statuses = [row["status"] for row in self.rows.values()]
        counts = ", ".join(f"{statuses.count(s)} {s}" for s in dict.fromkeys(statuses))
        share = f"; {self.timed_s / self.spent_s:.0%} of the timing cases was timed" if self.timed_s else ""
        share += "; brackets: 95 % interval within this run" if self.timed_s else ""
        terminalreporter.write_line(f"attnlib: {counts} in {duration(time.perf_counter() - self.started)}{share}")
        for test, why in self.disturbed.items():
            terminalreporter.write_line(f"  disturbed, twice: {test}: {'; '.join(why)}")
        for row in self.rows.values():
            if row["status"] not in ("ok", "unsupported"):
                terminalreporter.write_line(f"  {row['status']}: {row['test']}: {row['reason']}")


def without_folders(argument: str) -> str:
    """A command-line argument with absolute paths cut to their last part: a saved run tells nobody's folders."""
    parts = argument.replace("file://", "").split("=")
    return "=".join(Path(part).name if Path(part).is_absolute() else part for part in parts)


def figure(name: str, median: float, info: dict[str, Any]) -> str:
    """A case's result in a line: time with its interval within this run, memory, an unfused attention, disturbances."""
    interval, peak, attention = info["time"]["interval"], info["memory"]["allocated_peak"]["value"], info["attention"]
    bounds = f" [{seconds(interval[0])}, {seconds(interval[1])}]" if interval else ""
    unfused = f"  {attention['kernel']}: {attention['reason']}" if attention["fused"] is False else ""
    noise = f"  disturbed: {'; '.join(info['time']['disturbed'])}" if info["time"]["disturbed"] else ""
    return f"{name}  {seconds(median)}{bounds}" + (f"  {size(peak)}" if peak is not None else "") + unfused + noise
