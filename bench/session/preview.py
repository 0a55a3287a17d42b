"""``--plan``: what a session would measure, with predicted time and memory; a pytest plugin that measures no case."""

from dataclasses import asdict
from typing import Any

import pytest

from attnlib.cases.case import LEARNING, PROBES, Case
from attnlib.predict.frontier import seconds_of
from attnlib.predict.peak import outlook, unfit
from attnlib.runs.load import Cell
from attnlib.show import units
from attnlib.show.table import Column, Table
from bench.session.pace import middle, spent
from bench.session.record import Record


class Preview:
    """Lists the planned cases in place of running them.

    Args:
        record: of the session.
    """

    def __init__(self, record: Record) -> None:
        self.record = record

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtestloop(self, session: pytest.Session) -> bool | None:
        """Print the list; nothing runs after it."""
        if session.config.getoption("collectonly") or session.testsfailed:
            return None
        self.record.prepare()
        cases = [entry.case for entry in self.record.entries.values() if entry.case is not None]
        timed = sorted(
            (case for case in cases if case.phase not in PROBES), key=lambda c: (c.phase, c.depth, c.seq_len)
        )
        rows = [self.row(case) for case in timed]
        total = units.duration(sum(row["spent"] for row in rows))
        time = Column(lambda ends: f"{units.seconds(ends[0])} to {units.seconds(ends[1])}", number=True)
        columns = {"case": Column(), "a step": time, "peak": Column(units.size, number=True), "": Column()}
        learning = any(case.phase in LEARNING for case in cases)
        untimed = "trainings, whose time is not predicted" if learning else "checks of gradients"
        after = [f"{len(rows)} cases in about {total}, then {len(cases) - len(rows)} {untimed}"]
        Table(columns, rows, after=after).print()
        return True

    def row(self, case: Case) -> dict[str, Any]:
        """A case's line; ``spent`` is the seconds of the session that it should take."""
        name = Cell.label_of(asdict(case))
        if left := unfit(case, self.record.settings, self.record.device):
            return {"case": name, "": f"{left.status}: {left.reason}", "spent": 0.0}
        _, _, rates = self.record.instruments(case)
        found = outlook(case, rates)
        ends = seconds_of(found)
        seconds = spent(case, self.record.settings, middle(ends))
        return {"case": name, "a step": ends, "peak": found["predicted_peak"]["value"], "spent": seconds}
