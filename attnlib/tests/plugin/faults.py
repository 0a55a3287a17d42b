"""Faults of a session of the suite, by name: each patches this process, which is a fork of its own."""

import errno
import os
import shutil
import signal
import time
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import torch
from pytest_benchmark.fixture import BenchmarkFixture

from attnlib.cases.workload import Workload
from attnlib.measure import clock
from attnlib.measure.device import Device
from attnlib.plugin import keeper, pair, visits
from attnlib.runs.journal import Finish, Journal, Process, Start

SECOND = 2  # the test that is struck


def kill():
    """End the process by a signal that neither Python nor a handler sees."""
    os.kill(os.getpid(), signal.SIGKILL)


def around_write(kind, nth=1, before=None, after=None):
    """Strike before or after the nth event of a kind is written."""
    write, seen = Journal.write, []

    def struck(self, event):
        seen.extend([event] if isinstance(event, kind) else [])
        hit = isinstance(event, kind) and len(seen) == nth
        if hit and before:
            before(self)
        write(self, event)
        if hit and after:
            after(self)

    Journal.write = struck


def around_link(before=None, after=None):
    """Strike before or after the final name appears."""
    link = os.link

    def struck(source, target):
        if before:
            before()
        link(source, target)
        if after:
            after()

    os.link = struck


def in_rounds(strike, nth=SECOND):
    """Strike once, in the third timed round of the nth measured case."""
    pedantic, cases = BenchmarkFixture.pedantic, []

    def struck(self, target, **options):
        cases.append(self)
        rounds = []

        def step():
            rounds.append(1)
            if len(cases) == nth and len(rounds) == 2 * options["iterations"] + 1:
                strike()
            target()

        return pedantic(self, step, **options)

    BenchmarkFixture.pedantic = struck


def cut_short(book):
    """Half a line, as a power cut leaves it, and the end."""
    os.write(book.handle, b'{"event":"finish","test":"bench/te')
    kill()


def signal_in_fsync():
    """SIGTERM while the end of a test is being written."""
    fsync = os.fsync

    def struck(handle):
        fsync(handle)
        os.fsync = fsync
        signal.raise_signal(signal.SIGTERM)

    around_write(Finish, SECOND, before=lambda book: setattr(os, "fsync", struck))


def signal_in_place():
    """SIGTERM in a round, and again while the file is being saved, as an impatient scheduler does it."""
    save = keeper.save_new

    def struck(*args, **kwargs):
        signal.raise_signal(signal.SIGTERM)
        path = save(*args, **kwargs)
        signal.raise_signal(signal.SIGINT)
        return path

    keeper.save_new = struck
    in_rounds(lambda: signal.raise_signal(signal.SIGTERM))


def full(nth):
    """The disk is full from the nth end of a test on: half a line fits."""
    write = os.write

    def half(handle, data):
        write(handle, data[: len(data) // 2])
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    around_write(Finish, nth, before=lambda book: setattr(os, "write", half))


def full_at_the_end():
    """The disk is full once the run is to be saved."""
    save = keeper.save_new

    def no_space(handle):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    def struck(*args, **kwargs):
        os.fsync = no_space
        return save(*args, **kwargs)

    keeper.save_new = struck


def killed_over():
    """The temporary file that would replace a named one is written."""
    Path.replace = lambda self, target: kill()


def then(*faults):
    """Several faults in one session."""
    for fault in faults:
        fault()


def read_only(book):
    """Nobody can create files any more; open ones go on."""
    real = Path.open

    def refused(self, mode="r", *args, **kwargs):
        if mode != "r" and mode != "rb":
            raise OSError(errno.EROFS, os.strerror(errno.EROFS))
        return real(self, mode, *args, **kwargs)

    Path.open = refused


def wrong():
    """Every model gives nonsense."""

    def check(self):
        raise AssertionError("logits are not finite")

    Workload.check = check


def in_visits(strike):
    """Strike in every later visit of a case."""
    visits.revisit = lambda *_: strike()


def refuse():
    """Raise what the correctness gate says of a wrong model."""
    raise AssertionError("logits are not finite")


def lost_device(struck):
    """An illegal memory access on a card: every later call of the process fails, until a new process begins."""
    lost, text = [], "CUDA error: an illegal memory access was encountered"

    def fails(*_):
        if lost:
            raise RuntimeError(text)

    def strike():
        lost.append(True)
        fails()

    Device.lost = lambda self: text if lost else None
    Device.synchronize = Device.release = Device.use = fails
    struck(strike)


def not_a_number():
    """A clock that loses its mind for one reading, in a case that is not measured once more for its disturbances."""
    pair.disturbed = lambda seen, quiet=None: []
    mad, read = [], time.perf_counter
    in_rounds(lambda: mad.append(True))
    clock.time = SimpleNamespace(perf_counter=lambda: float("nan") if mad and mad.pop() else read())


FAULTS = {
    "planned": partial(around_write, Process, before=lambda book: kill()),
    "started": partial(around_write, Start, SECOND, after=lambda book: kill()),
    "measured": partial(around_write, Finish, SECOND, before=lambda book: kill()),
    "cut short": partial(around_write, Finish, SECOND, before=cut_short),
    "journalled": partial(around_write, Finish, SECOND, after=lambda book: kill()),
    "late": partial(around_write, Finish, 12, after=lambda book: kill()),
    "temporary file": partial(around_link, before=kill),
    "temporary written": killed_over,
    "linked": partial(around_link, after=kill),
    "SIGINT": partial(in_rounds, lambda: signal.raise_signal(signal.SIGINT)),
    "SIGTERM": partial(in_rounds, lambda: signal.raise_signal(signal.SIGTERM)),
    "SIGHUP": partial(in_rounds, lambda: signal.raise_signal(signal.SIGHUP)),
    "SIGTERM in fsync": signal_in_fsync,
    "SIGTERM twice": signal_in_place,
    "too long": partial(in_rounds, lambda: time.sleep(600)),
    "out of memory": partial(in_rounds, lambda: torch.empty(2**60)),
    "visit begun": partial(around_write, Start, 5, after=lambda book: kill()),
    "visit finished": partial(around_write, Finish, 5, after=lambda book: kill()),
    "SIGINT in a visit": partial(in_visits, lambda: signal.raise_signal(signal.SIGINT)),
    "visit too long": partial(in_visits, lambda: time.sleep(600)),
    "out of memory in a visit": partial(in_visits, lambda: torch.empty(2**60)),
    "wrong in a visit": partial(in_visits, refuse),
    "device lost": partial(lost_device, in_rounds),
    "device lost in a visit": partial(lost_device, in_visits),
    "wrong": wrong,
    "not a number": not_a_number,
    "not a number, then killed": partial(then, not_a_number, partial(around_link, before=kill)),
    "disk full": partial(full, SECOND),
    "disk full at the end": full_at_the_end,
    "read-only": partial(around_write, Finish, SECOND, after=read_only),
    "folder removed": partial(around_write, Finish, SECOND, after=lambda book: shutil.rmtree(book.path.parent)),
}
