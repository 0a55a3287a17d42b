"""Pytest plugin of ``--plan``: lists the planned cases with predicted time and memory, and measures none."""

from dataclasses import asdict
from typing import Any

import pytest

from attnlib.cases.case import Case
from attnlib.cases.text import size
from attnlib.plugin.pace import Pace
from attnlib.plugin.record import Record
from attnlib.predict.peak import outlook, unfit
from attnlib.runs.schema import Floor, label_of
from attnlib.show.table import Column, Table
from attnlib.show.units import duration, seconds


class Preview:
    """Plugin that lists the planned cases instead of running them.

    Args:
        record: the session's.
    """

    def __init__(self, record: Record) -> None:
        self.record, self.pace = record, Pace(record)

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtestloop(self, session: pytest.Session) -> bool | None:
        """Print the list; nothing runs after it."""
        if session.config.getoption("collectonly") or session.testsfailed:
            return None
        self.record.prepare()
        cases = [entry.case for entry in self.record.entries.values() if entry.case is not None]
        timed = sorted((case for case in cases if case.kind == "timed"), key=lambda c: (c.phase, c.depth, c.seq_len))
        rows = [self.row(case) for case in timed]
        total = duration(sum(row["spent"] for row in rows))
        columns = {"case": Column(), "a step, at least": Column(seconds, number=True)}
        columns |= {"peak": Column(size, number=True), "": Column(prose=True)}
        learning = any(case.kind == "trained" for case in cases)
        untimed = "trainings, whose time is not predicted" if learning else "checks of gradients"
        after = [f"{len(rows)} cases in about {total}, then {len(cases) - len(rows)} {untimed}"]
        Table(columns, rows, after=after).print()
        return True

    def row(self, case: Case) -> dict[str, Any]:
        """Return a case's row of the table; ``spent`` is the estimated seconds of the session that it takes."""
        name = label_of(asdict(case))
        if left := unfit(case, self.record.settings, self.record.device):
            return {"case": name, "": f"{left.status}: {left.reason}", "spent": 0.0}
        _, _, rates = self.record.instruments(case)
        found = outlook(case, rates)
        floor = found.get("floor_s")
        row = {"case": name, "peak": found["predicted_peak"]["value"], "spent": self.pace(case)}
        return row | ({"a step, at least": Floor(**floor).seconds} if floor else {})
