"""The folder of a sweep and its files.

``sweep.json`` holds the options of the sweep, ``plan.json`` its shards, ``shards-TOKEN/0001.json`` the tests of a
shard, and ``run-1/0001.json`` their results in the first run, with a journal beside it until all are finished.
"""

import secrets
import time
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import msgspec
from msgspec import Struct

from attnlib.errors import message
from attnlib.runs import journal
from attnlib.runs.save import save_once, save_over

Kind = TypeVar("Kind")


class Asked(Struct, kw_only=True, frozen=True):
    """The options of a sweep."""

    token: str
    name: str  # of the merged runs
    place: str  # local or slurm
    options: list[str]  # of pytest
    shards: int
    runs: int
    order_seed: int  # of the first run
    where: str  # working directory of pytest
    sbatch: dict[str, str] = {}
    max_parallel: int | None = None


class Outline(Struct, kw_only=True, frozen=True):
    """The plan of one run as pytest makes it, before it is cut into shards."""

    kind: dict[str, Any]  # of machine, versions and code
    platform: str  # subfolder of results/ for merged runs
    tests: list[journal.Planned]
    blocks: list[str]  # block name of each test; tests of a block stay in one shard
    seconds: list[float]  # expected, of each test


class Shard(Struct, kw_only=True, frozen=True):
    """The tests of a shard, and the kind of machine that must measure them."""

    kind: dict[str, Any]
    tests: list[journal.Planned]
    numbers: list[int]  # index of each test in the plan


class SweepPlan(Struct, kw_only=True, frozen=True):
    """The shards of a sweep."""

    kind: dict[str, Any]
    platform: str
    shards: str  # their folder
    tests: list[int]  # number in each shard
    seconds: list[float]  # expected, of each shard


@dataclass(frozen=True)
class Task:
    """One shard of one run: a unit of work."""

    folder: Path  # of the sweep
    run: int  # from 1
    shard: int  # from 1

    def __str__(self) -> str:
        return f"run {self.run}, shard {self.shard}"

    @property
    def final(self) -> Path:
        """The file with the task's results."""
        return self.folder / f"run-{self.run}" / f"{self.shard:04}.json"

    @property
    def book(self) -> Path | None:
        """The task's journal; None before it begins and once all tests are finished."""
        return next(iter(self.final.parent.glob(f"{self.final.stem}.*{journal.SUFFIX}")), None)

    def events(self) -> journal.Events:
        """Return the events of the task's journal; none without a journal."""
        if (path := self.book) is None:
            return []
        try:
            return journal.events(path.read_bytes())
        except FileNotFoundError:  # finished in this moment
            return []
        except ValueError as error:
            raise ValueError(message(f"{path}: {error}")) from None

    @property
    def done(self) -> bool:
        """True once all tests of the task are finished."""
        return self.final.exists() and self.book is None

    def alone(self, patience: float) -> AbstractContextManager[int | None]:
        """Lock the task against other processes, see ``alone``."""
        self.final.parent.mkdir(exist_ok=True)
        return alone(self.final.with_suffix(".lock"), patience)

    @property
    def live(self) -> bool:
        """True while a process works on the task, on any machine that shares file locks with this one."""
        path = self.final.with_suffix(".lock")
        return path.exists() and journal.is_live(path)


@contextmanager
def alone(path: Path, patience: float = 0.0) -> Iterator[int | None]:
    """Lock a file against other processes, as a context manager that waits up to ``patience`` seconds for the lock.

    Yields:
        the file handle, which child processes may inherit; None if another process still has the lock.
    """
    deadline = time.monotonic() + patience
    with path.open("a") as file:
        while not (locked := journal.claimed(file.fileno())) and time.monotonic() < deadline:
            time.sleep(0.5)
        yield file.fileno() if locked else None


class Sweep:
    """A sweep, read from its folder.

    Raises:
        ValueError: the folder holds no sweep.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder.resolve()  # pytest may be started in another one
        self.asked = read(self.folder / "sweep.json", Asked)

    @classmethod
    def create(cls, folder: Path, **asked: Any) -> "Sweep":
        """Create a sweep with these options, the fields of ``Asked``.

        Raises:
            ValueError: the folder holds a sweep already, **or** cannot be written.
        """
        new = Asked(token=secrets.token_hex(6), **asked)
        try:
            folder.mkdir(parents=True, exist_ok=True)
            save_once(folder / "sweep.json", _readable(new), new.token)
        except FileExistsError:
            advice = f"resume it with --resume {folder}, or choose another --folder"
            raise ValueError(message(f"{folder} holds a sweep already", do=advice)) from None
        except OSError as error:
            raise ValueError(message(f"cannot write {folder}: {error.strerror}")) from None
        return cls(folder)

    def ask(self, **changes: Any) -> None:
        """Change options of the sweep; tasks that are running or finished stay as they are.

        Raises:
            OSError: the folder cannot be written.
        """
        asked = msgspec.structs.replace(self.asked, **changes)
        if asked != self.asked:
            save_over(self.folder / "sweep.json", _readable(asked), secrets.token_hex(4))
            self.asked = asked

    @property
    def plan(self) -> SweepPlan | None:
        """The sweep's plan; None before there is one."""
        path = self.folder / "plan.json"
        return read(path, SweepPlan) if path.exists() else None

    @property
    def refusal(self) -> str | None:
        """Reason why planning failed; None if it did not, or was not tried yet."""
        path = self.folder / "refused.txt"
        return path.read_text() if path.exists() else None

    def refuse(self, why: str | None) -> None:
        """Save the reason why planning failed; with None, allow another try."""
        path = self.folder / "refused.txt"
        if why is None:
            path.unlink(missing_ok=True)
        else:
            save_over(path, why.encode(), self.asked.token)

    def cut(self, outline: Outline, shards: Sequence[Sequence[int]]) -> None:
        """Write the shards, each given by indices of tests in the outline, and the plan unless there is one by now."""
        token = secrets.token_hex(4)
        plan = SweepPlan(
            kind=outline.kind,
            platform=outline.platform,
            shards=f"shards-{token}",
            tests=[len(numbers) for numbers in shards],
            seconds=[sum(outline.seconds[n] for n in numbers) for numbers in shards],
        )
        (self.folder / plan.shards).mkdir()
        for number, numbers in enumerate(shards, 1):
            shard = Shard(kind=outline.kind, tests=[outline.tests[n] for n in numbers], numbers=list(numbers))
            save_over(self.tests(plan, number), msgspec.json.encode(shard), token)
        with suppress(FileExistsError):
            save_once(self.folder / "plan.json", msgspec.json.encode(plan), token)

    def tests(self, plan: SweepPlan, shard: int) -> Path:
        """Return the file with the tests of a shard, counted from 1."""
        return self.folder / plan.shards / f"{shard:04}.json"

    @property
    def tasks(self) -> list[Task]:
        """All tasks, run by run; before there is a plan with as many shards as were asked for."""
        plan = self.plan
        shards = range(1, 1 + (self.asked.shards if plan is None else len(plan.tests)))
        return [Task(self.folder, run, shard) for run in range(1, self.asked.runs + 1) for shard in shards]


def _readable(asked: Asked) -> bytes:
    return msgspec.json.format(msgspec.json.encode(asked))


def read(path: Path, kind: type[Kind]) -> Kind:
    """Return the object in one of a sweep's JSON files.

    Raises:
        ValueError: there is no such file, **or** it holds something else.
    """
    try:
        return msgspec.json.decode(path.read_bytes(), type=kind)
    except OSError as error:
        raise ValueError(message(f"no sweep in {path.parent}: {path.name}: {error.strerror}")) from None
    except msgspec.DecodeError as error:
        raise ValueError(message(f"{path}: {error}")) from None
