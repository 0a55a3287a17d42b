"""What ends a measurement from outside: its time, or a signal."""

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

AGAIN = 1.0  # seconds until an unheard alarm rings again: raised in a finaliser, an exception is swallowed
ENDING = tuple(getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name))
HAVE_ALARM = hasattr(signal, "setitimer")


class TimeIsUp(BaseException):
    """A measurement took longer than it may; no ``Exception``, so that nothing on the way takes it for its own."""


class Terminated(KeyboardInterrupt):
    """A signal asked the process to end.

    Args:
        signum: which one.
    """

    def __init__(self, signum: int) -> None:
        super().__init__(signal.Signals(signum).name)
        self.signum = signum


@contextmanager
def time_limit(seconds: float | None) -> Iterator[None]:
    """Raise ``TimeIsUp`` in the block once it has taken so many seconds; None is no limit. In the main thread only.

    A single operator is not interrupted: it ends first.
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
        finally:  # said twice: it may ring just before it is disarmed, but not again so soon
            armed.clear()
            signal.setitimer(signal.ITIMER_REAL, 0)
            signal.signal(signal.SIGALRM, before)


class Signals:
    """Turns SIGTERM and SIGHUP into ``Terminated`` until ``restore``; a signal that is ignored stays so (nohup)."""

    def __init__(self) -> None:
        self.before: dict[int, Any] = {signum: signal.getsignal(signum) for signum in ENDING}
        for signum in ENDING:
            if self.before[signum] == signal.SIG_DFL:  # SIGINT has Python's own handler
                signal.signal(signum, self._raise)

    def _raise(self, signum: int, _: FrameType | None) -> None:
        raise Terminated(signum)

    def hold(self) -> None:
        """Let no signal interrupt what follows."""
        for signum in ENDING:
            signal.signal(signum, signal.SIG_IGN)

    def restore(self) -> None:
        """As it was."""
        for signum, handler in self.before.items():
            signal.signal(signum, handler)
