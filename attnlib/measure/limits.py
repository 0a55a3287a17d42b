"""Interrupts of a measurement: a time limit, and signals that end the process."""

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

AGAIN = 1.0  # seconds until the alarm is repeated: an exception that is raised in a finaliser is swallowed
ENDING = tuple(getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name))
HAVE_ALARM = hasattr(signal, "setitimer")


class TimeIsUp(BaseException):
    """A measurement exceeded its time limit; not an ``Exception``, so that no ``except Exception`` catches it."""


class Terminated(KeyboardInterrupt):
    """A signal asked the process to end."""

    def __init__(self, signum: int) -> None:
        super().__init__(signal.Signals(signum).name)
        self.signum = signum


@contextmanager
def time_limit(seconds: float | None) -> Iterator[None]:
    """Raise ``TimeIsUp`` in the block after ``seconds``; None is no limit. Works in the main thread only.

    A single operator is not interrupted: the exception comes after it.
    """
    if seconds is None:
        yield
        return
    armed = [True]

    def ring(*_: Any) -> None:
        if armed:
            raise TimeIsUp

    before = signal.signal(signal.SIGALRM, ring)
    try:
        signal.setitimer(signal.ITIMER_REAL, seconds, AGAIN)
        yield
    finally:
        try:
            armed.clear()
        finally:  # repeated, since the alarm may interrupt the first call, but not again within AGAIN seconds
            armed.clear()
            signal.setitimer(signal.ITIMER_REAL, 0)
            signal.signal(signal.SIGALRM, before)


class Signals:
    """Turns SIGTERM and SIGHUP into ``Terminated`` until ``restore``; ignored signals stay ignored (nohup)."""

    def __init__(self) -> None:
        self.before: dict[int, Any] = {signum: signal.getsignal(signum) for signum in ENDING}
        for signum in ENDING:
            if self.before[signum] == signal.SIG_DFL:  # SIGINT has Python's own handler
                signal.signal(signum, self._raise)

    def _raise(self, signum: int, _: FrameType | None) -> None:
        raise Terminated(signum)

    def hold(self) -> None:
        """Ignore these signals from now on, until ``restore``."""
        for signum in ENDING:
            signal.signal(signum, signal.SIG_IGN)

    def restore(self) -> None:
        """Restore the earlier handlers."""
        for signum, handler in self.before.items():
            signal.signal(signum, handler)
