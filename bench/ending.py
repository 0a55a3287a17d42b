"""How a session ends: signals on the way, and the exit code that says so."""

import signal

import pytest

from attnlib.measure.limits import Signals, Terminated
from bench.record import Record


class Ending:
    """A pytest plugin: SIGTERM and SIGHUP end a session of the suite as Ctrl-C does, with 128 + signal as exit code.

    Args:
        record: what happens.
    """

    def __init__(self, record: Record) -> None:
        self.record = record
        self.signals: Signals | None = None
        self.signum: int | None = None  # of the signal that ended the session

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtestloop(self) -> None:
        """Heed signals from here on."""
        if self.record.rows:
            self.signals = Signals()

    def pytest_keyboard_interrupt(self, excinfo: pytest.ExceptionInfo[BaseException]) -> None:
        """Which signal it was."""
        if isinstance(excinfo.value, KeyboardInterrupt):
            self.signum = excinfo.value.signum if isinstance(excinfo.value, Terminated) else signal.SIGINT

    @pytest.hookimpl(tryfirst=True)
    def pytest_sessionfinish(self, session: pytest.Session) -> None:
        """Let nothing interrupt the saving; an error in an earlier process of the run fails this one too."""
        if self.signals is None:
            return
        self.signals.hold()
        errors = any(row["status"] == "error" for row in self.record.rows.values())
        if self.signum is not None:
            session.exitstatus = 128 + self.signum
        elif errors and session.exitstatus == pytest.ExitCode.OK:
            session.exitstatus = pytest.ExitCode.TESTS_FAILED

    def pytest_unconfigure(self) -> None:
        """Signals as they were."""
        if self.signals is not None:
            self.signals.restore()
