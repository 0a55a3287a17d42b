"""Journal of an unfinished run: one JSON line per event, appended and fsynced; it can be loaded like a saved run."""

import contextlib
import os
import time
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Annotated, Any

import msgspec
from msgspec import Meta, Struct

from attnlib.errors import message
from attnlib.runs import visits
from attnlib.runs.save import sync

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

SUFFIX = ".journal"
NOT_YET = {"status": "interrupted", "reason": "the run ended before it"}  # measured when the run is resumed
CRASHED = {"status": "crashed", "reason": "the process died in it"}
Object = dict[str, Any]


class Planned(Struct, kw_only=True):
    """A planned test; ``case`` has the fields that identify its row, None for a test without a case.

    ``beside`` are the parameters of a test that measures a call beside another one.
    """

    test: str
    case: Object | None = None
    beside: Object | None = None


class Plan(Struct, tag="plan", tag_field="event", kw_only=True):
    """First line of a journal: the head of the final file, and the fields that must agree to resume the run."""

    run: Annotated[str, Meta(pattern="^[0-9a-f]{1,64}$")]  # the run's own token
    name: Annotated[str, Meta(pattern=r"^[^/\\\x00-\x1f]{1,200}$")]  # that it will be saved under
    fingerprint: Object  # machine, versions and code
    settings: Object
    head: Object  # of the final file
    ours: Object  # its section ``attnlib``
    tests: list[Planned]  # in order


class Process(Struct, tag="process", tag_field="event", kw_only=True):
    """Event: a process begins to work on the run."""

    about: Object


class Start(Struct, tag="start", tag_field="event", kw_only=True):
    """Event: a test or a later visit of its case begins, ``at_s`` seconds after the start of its process."""

    test: str
    at_s: float
    visit: int = 1


class Finish(Struct, tag="finish", tag_field="event", kw_only=True):
    """Event: a test or a later visit of its case has ended; the row and benchmark cover all visits so far."""

    test: str
    at_s: float
    row: Object  # status, reason and what else is known of it
    benchmark: Object | None = None  # as pytest-benchmark saves it, where there is a time
    canary: list[Object] = []  # readings since the last event
    spent_s: float = 0.0
    timed_s: float = 0.0
    visit: int = 1


class Save(Struct, tag="save", tag_field="event", kw_only=True):
    """Event: a final file of this name is about to be saved, or has been saved."""

    file: str
    at_s: float


Event = Plan | Process | Start | Finish | Save
Events = list[Event]
_decoder = msgspec.json.Decoder(Event)


class Busy(OSError):
    """Another process is writing this journal."""


class Journal:
    """A journal opened for writing; it is locked against other writers until it is closed or this process dies.

    Args:
        path: an existing journal; an incomplete last line is removed from it.

    Raises:
        Busy: another process writes it.
        OSError: the file cannot be opened.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.handle = os.open(path, os.O_RDWR | os.O_APPEND)
        try:
            if not claimed(self.handle):
                raise Busy(message(f"{path} is being written by another process", do="wait until it has ended"))
            whole = self._bytes()
            if not whole.endswith(b"\n"):
                self.cut(whole.rfind(b"\n") + 1)
        except BaseException:
            self.close()
            raise

    @classmethod
    def create(cls, path: Path, plan: Plan) -> "Journal":
        """Create a journal and open it; the file gets its name once its plan is written.

        Raises:
            OSError: the journal cannot be written; nothing is left behind.
        """
        new = path.with_suffix(f"{SUFFIX}.new")
        new.touch()
        book = cls(new)
        try:
            book.write(plan)
            book.path = new.rename(path)
            sync(path.parent)
        except BaseException:
            book.close()
            book.path.unlink()
            raise
        return book

    def _bytes(self) -> bytes:
        with open(self.handle, "rb", closefd=False) as file:
            file.seek(0)
            return file.read()

    def write(self, event: Event) -> None:
        """Append one event, fsynced.

        Raises:
            OSError: the event could not be written; the journal is as it was before.
            ValueError: the event could not be read back; it was not written.
        """
        left = msgspec.json.encode(event) + b"\n"
        try:
            _decoder.decode(left)
        except msgspec.MsgspecError as error:
            raise ValueError(str(error)) from None
        before = self.size
        try:
            while left:
                left = left[os.write(self.handle, left) :]
            os.fsync(self.handle)
        except BaseException:  # an interrupt too: it is written whole or not at all
            self.cut(before)
            raise

    @property
    def size(self) -> int:
        """Size of the file in bytes."""
        return os.fstat(self.handle).st_size

    def cut(self, size: int) -> None:
        """Truncate the file to ``size`` bytes, which works on a full disk too."""
        os.ftruncate(self.handle, size)

    def events(self) -> Events:
        """Return all events written so far, even if the file has been deleted meanwhile.

        Raises:
            ValueError: the file is no journal, see ``events``.
        """
        return events(self._bytes())

    def close(self) -> None:
        """Close the file, which releases its lock."""
        os.close(self.handle)


def is_live(path: Path) -> bool:
    """Return True if a process holds this journal open for writing; False where files cannot be locked."""
    with path.open("rb") as file:
        return not _locked(file.fileno(), shared=True)


def claimed(handle: int) -> bool:
    """Lock an open file for this process, waiting for a reader's short lock; return False if another one keeps it."""
    return _locked(handle) or _locked(handle, after=0.05)


def _locked(handle: int, *, shared: bool = False, after: float = 0.0) -> bool:
    """Lock an open file and return True, also where files cannot be locked; False if another process has a lock."""
    time.sleep(after)
    if fcntl is None:
        return True
    try:
        fcntl.flock(handle, fcntl.LOCK_NB | (fcntl.LOCK_SH if shared else fcntl.LOCK_EX))
    except OSError as error:
        return not isinstance(error, BlockingIOError)
    return True


def events(data: bytes) -> Events:
    """Return the events of a journal, without an incomplete last line.

    Raises:
        ValueError: a line is no event, **or** the first, and only the first, is no plan; the message says where.
    """
    found: Events = []
    for number, line in enumerate(data.split(b"\n")[:-1], 1):
        try:
            found.append(_decoder.decode(line))
        except (msgspec.DecodeError, RecursionError, UnicodeDecodeError) as error:
            raise ValueError(message(f"line {number}: {error}")) from None
        if isinstance(found[-1], Plan) != (number == 1):
            raise ValueError(message(f"line {number}: a journal has one plan, in its first line"))
    if not found:
        raise ValueError(message("the journal is empty"))
    return found


def plan_of(found: Events) -> Plan:
    """Return the plan of a journal, which is its first event."""
    (plan,) = (event for event in found[:1] if isinstance(event, Plan))
    return plan


def last_events(found: Events) -> dict[str, Start | Finish]:
    """Return the last ``Start`` or ``Finish`` event of each test that has one."""
    return {event.test: event for event in found if isinstance(event, (Start, Finish))}


def ends(found: Events) -> dict[str, Finish]:
    """Return the last ``Finish`` event of each test, also while a later visit is running; none while it is run anew."""
    last: dict[str, Finish] = {}
    for event in found:
        if isinstance(event, Finish):
            last[event.test] = event
        elif isinstance(event, Start) and event.visit == 1:  # measured again
            last.pop(event.test, None)
    return last


def finished(found: Events, retry: Collection[Any] = ("interrupted",)) -> dict[str, Finish]:
    """Return the last ``Finish`` event of each test that has ended with a status not in ``retry``."""
    return {test: event for test, event in ends(found).items() if event.row.get("status") not in retry}


def visits_left(found: Events) -> dict[str, int]:
    """Return how many more visits each timed case needs, see ``attnlib.runs.visits.left``."""
    return visits.left({test: event.benchmark for test, event in ends(found).items() if event.benchmark is not None})


def assemble(found: Events, *, live: bool = False) -> Object:
    """Return the run that a journal holds so far, in the form of its final file.

    Args:
        found: events of the journal, see ``events``.
        live: whether a process is still writing the journal; a test without an end is then being measured.
    """
    plan, over = plan_of(found), ends(found)
    begun = {event.test for event in found if isinstance(event, Start)}
    order = [planned.test for planned in plan.tests]
    became = {test: over[test].row if test in over else _unfinished(started=test in begun, live=live) for test in order}
    rows = [p.case | {"test": p.test} | became[p.test] for p in plan.tests if p.case is not None]
    beside = [{"test": p.test, "params": p.beside} | became[p.test] for p in plan.tests if p.beside is not None]
    timed, spent = (sum(getattr(event, name) for event in over.values()) for name in ("timed_s", "spent_s"))
    about = processes(found)
    ours = (
        plan.ours
        | {
            "run": plan.run,
            "wall_s": sum(process["wall_s"] for process in about),
            "timed_share": timed / spent if spent else None,
            "canary": [heard for event in found if isinstance(event, Finish) for heard in event.canary],
            "processes": about,
            "cases": rows,
        }
        | ({"beside": beside} if beside else {})
    )
    benchmarks = [made for test in order if test in over and (made := over[test].benchmark) is not None]
    return plan.head | {"benchmarks": visits.settle(benchmarks), "attnlib": ours}


def processes(found: Events) -> list[Object]:
    """Return the facts about each process that worked on the run, and the seconds until its last event."""
    about: list[Object] = []
    for event in found:
        if isinstance(event, Process):
            about.append(event.about | {"wall_s": 0.0})
        elif about and not isinstance(event, Plan):
            about[-1]["wall_s"] = event.at_s
    return about


def _unfinished(*, started: bool, live: bool) -> Object:
    if started:
        return NOT_YET | {"reason": "it is being measured"} if live else dict(CRASHED)
    return dict(NOT_YET)


def journals(folder: Path) -> list[Path]:
    """Return the journals in a folder, the one written last first."""
    times = {}
    for path in folder.glob(f"*{SUFFIX}"):
        with contextlib.suppress(FileNotFoundError):  # a run that has just been finished
            times[path] = path.stat().st_mtime
    return sorted(times, key=lambda path: times[path], reverse=True)


def differences(theirs: Any, mine: Any, path: str = "") -> list[str]:
    """Return the differences of two JSON objects, a line each, as ``versions.torch: 2.12.0 | 2.13.0``."""
    if isinstance(theirs, Mapping) and isinstance(mine, Mapping):
        keys = dict.fromkeys([*theirs, *mine])
        pairs = [(theirs.get(key, "absent"), mine.get(key, "absent"), f"{path}.{key}".strip(".")) for key in keys]
        return [line for pair in pairs for line in differences(*pair)]
    return [] if theirs == mine else [f"{path}: {theirs} | {mine}"]
