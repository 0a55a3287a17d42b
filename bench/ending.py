"""How a session ends: signals on the way, and the exit code that says so."""

import signal
from collections.abc import Generator
from typing import Any

import pytest

from attnlib.measure.limits import Signals, Terminated
from bench.record import Record
from bench.saving import LOST, Saving


class Ending:
    """A pytest plugin: SIGTERM and SIGHUP end a session of the suite as Ctrl-C does, with 128 + signal as exit code.

    Args:
        record: what happens.
        saving: what is kept of it.
    """

    def __init__(self, record: Record, saving: Saving) -> None:
        self.record, self.saving = record, saving
        self.signals: Signals | None = None
        self.signum: int | None = None  # of the signal that ended the session

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtestloop(self) -> None:
        """Heed signals from here on."""
        if self.record.rows:
            self.signals = Signals()

    def pytest_keyboard_interrupt(self, excinfo: pytest.ExceptionInfo[BaseException]) -> None:
        """Which signal it was."""
        if self.signals is not None:
            self.signals.hold()
        if isinstance(excinfo.value, KeyboardInterrupt):
            self.signum = excinfo.value.signum if isinstance(excinfo.value, Terminated) else signal.SIGINT

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_sessionfinish(self, session: pytest.Session) -> Generator[None, Any, Any]:
        """Let nothing interrupt the saving; an error in an earlier process of the run fails this one too."""
        if self.signals is None:
            return (yield)
        self.signals.hold()
        result = yield
        errors = any(row["status"] == "error" for row in self.record.rows.values())
        if self.saving.lost:
            session.exitstatus = LOST
        elif self.signum is not None:
            session.exitstatus = 128 + self.signum
        elif errors and session.exitstatus == pytest.ExitCode.OK:
            session.exitstatus = pytest.ExitCode.TESTS_FAILED
        return result

    def pytest_unconfigure(self) -> None:
        """Signals as they were."""
        if self.signals is not None:
            self.signals.restore()
