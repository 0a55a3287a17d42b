"""The folder of a sweep: what was asked, how it was cut, and where the parts of its runs lie.

``sweep.json`` is what was asked, ``plan.json`` how it was cut, ``shards-TOKEN/0001.json`` the tests of a shard, and
``run-1/0001.json`` what became of them in the first run, with its journal beside it until it is whole.
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

from attnlib.runs import journal
from attnlib.runs.save import save_once, save_over

Kind = TypeVar("Kind")


class Asked(Struct, kw_only=True, frozen=True):
    """What a sweep is, written once."""

    token: str
    name: str  # that its runs are saved under
    place: str  # local or slurm
    options: list[str]  # of pytest
    shards: int
    runs: int
    order_seed: int  # of the first run
    where: str  # folder that pytest is started in
    sbatch: dict[str, str] = {}
    max_parallel: int | None = None


class Outline(Struct, kw_only=True, frozen=True):
    """What pytest plans."""

    kind: dict[str, Any]  # of machine, versions and code
    platform: str  # folder of the results that merged runs go to
    tests: list[journal.Planned]
    blocks: list[str]  # of each test: which may not be parted
    seconds: list[float]  # that each should take


class Shard(Struct, kw_only=True, frozen=True):
    """The tests of a shard, and the kind of machine that they must run on."""

    kind: dict[str, Any]
    tests: list[journal.Planned]
    numbers: list[int]  # of each test in the plan


class SweepPlan(Struct, kw_only=True, frozen=True):
    """How the planned tests were cut."""

    kind: dict[str, Any]
    platform: str
    shards: str  # their folder
    tests: list[int]  # how many, a shard each
    seconds: list[float]  # that they should take


@dataclass(frozen=True)
class Task:
    """A shard in one of the runs."""

    folder: Path  # of the sweep
    run: int  # from 1
    shard: int  # from 1

    def __str__(self) -> str:
        return f"run {self.run}, shard {self.shard}"

    @property
    def final(self) -> Path:
        """The file of what became of it."""
        return self.folder / f"run-{self.run}" / f"{self.shard:04}.json"

    @property
    def book(self) -> Path | None:
        """Its journal; None before it begins and once it is whole."""
        return next(iter(self.final.parent.glob(f"{self.final.stem}.*{journal.SUFFIX}")), None)

    def events(self) -> journal.Events:
        """What its journal says; nothing without one."""
        if (path := self.book) is None:
            return []
        try:
            return journal.events(path.read_bytes())
        except FileNotFoundError:  # it has just become whole
            return []
        except ValueError as error:
            raise ValueError(f"{path}: {error}") from None

    @property
    def done(self) -> bool:
        """Whether all of its tests have come to an end."""
        return self.final.exists() and self.book is None

    def alone(self, patience: float) -> AbstractContextManager[int | None]:
        """Keep every other process off it; None where one still works on it, else a handle to be inherited."""
        self.final.parent.mkdir(exist_ok=True)
        return alone(self.final.with_suffix(".lock"), patience)

    @property
    def live(self) -> bool:
        """Whether a process of a machine that shares our locks works on it."""
        path = self.final.with_suffix(".lock")
        return path.exists() and journal.is_live(path)


@contextmanager
def alone(path: Path, patience: float = 0.0) -> Iterator[int | None]:
    """Keep every other process off what a file stands for; None where one has it for so many seconds, else a handle."""
    deadline = time.monotonic() + patience
    with path.open("a") as file:
        while not (mine := journal.claimed(file.fileno())) and time.monotonic() < deadline:
            time.sleep(0.5)
        yield file.fileno() if mine else None


class Sweep:
    """A sweep in its folder.

    Args:
        folder: that holds it.

    Raises:
        ValueError: it holds none.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder.resolve()  # pytest runs in another one
        self.asked = read(self.folder / "sweep.json", Asked)

    @classmethod
    def create(cls, folder: Path, **asked: Any) -> "Sweep":
        """Begin one.

        Raises:
            ValueError: the folder holds one already, **or** cannot be written.
        """
        new = Asked(token=secrets.token_hex(6), **asked)
        try:
            folder.mkdir(parents=True, exist_ok=True)
            save_once(folder / "sweep.json", _readable(new), new.token)
        except FileExistsError:
            raise ValueError(
                f"{folder} holds a sweep already: go on with --resume {folder}, or choose another --folder"
            ) from None
        except OSError as error:
            raise ValueError(f"cannot write {folder}: {error.strerror}") from None
        return cls(folder)

    def ask(self, **changes: Any) -> None:
        """Change what was asked, but for what was made of it already.

        Raises:
            OSError: it cannot be written.
        """
        asked = msgspec.structs.replace(self.asked, **changes)
        if asked != self.asked:
            save_over(self.folder / "sweep.json", _readable(asked), secrets.token_hex(4))
            self.asked = asked

    @property
    def plan(self) -> SweepPlan | None:
        """How it was cut; None before it was planned."""
        path = self.folder / "plan.json"
        return read(path, SweepPlan) if path.exists() else None

    @property
    def refusal(self) -> str | None:
        """Why it could not be planned; None where it could, or was not tried yet."""
        path = self.folder / "refused.txt"
        return path.read_text() if path.exists() else None

    def refuse(self, why: str | None) -> None:
        """Note why it could not be planned; or, with None, that it may be tried again."""
        path = self.folder / "refused.txt"
        if why is None:
            path.unlink(missing_ok=True)
        else:
            save_over(path, why.encode(), self.asked.token)

    def cut(self, outline: Outline, shards: Sequence[Sequence[int]]) -> None:
        """Write the shards, then the plan; where another process has just written one, that counts.

        Args:
            outline: what pytest planned.
            shards: numbers of the outline's tests, a shard each.
        """
        token = secrets.token_hex(4)
        plan = SweepPlan(
            kind=outline.kind,
            platform=outline.platform,
            shards=f"shards-{token}",
            tests=[len(own) for own in shards],
            seconds=[sum(outline.seconds[n] for n in own) for own in shards],
        )
        (self.folder / plan.shards).mkdir()
        for number, own in enumerate(shards, 1):
            shard = Shard(kind=outline.kind, tests=[outline.tests[n] for n in own], numbers=list(own))
            save_over(self.tests(plan, number), msgspec.json.encode(shard), token)
        with suppress(FileExistsError):
            save_once(self.folder / "plan.json", msgspec.json.encode(plan), token)

    def tests(self, plan: SweepPlan, shard: int) -> Path:
        """The file of a shard's tests."""
        return self.folder / plan.shards / f"{shard:04}.json"

    @property
    def tasks(self) -> list[Task]:
        """Every task, one run after another: as many shards a run as the plan has, or else as were asked for."""
        shards = self.asked.shards if self.plan is None else len(self.plan.tests)
        return [
            Task(self.folder, run, shard) for run in range(1, self.asked.runs + 1) for shard in range(1, shards + 1)
        ]


def _readable(asked: Asked) -> bytes:
    return msgspec.json.format(msgspec.json.encode(asked))


def read(path: Path, kind: type[Kind]) -> Kind:
    """One of a sweep's files.

    Raises:
        ValueError: it is not there, **or** is something else.
    """
    try:
        return msgspec.json.decode(path.read_bytes(), type=kind)
    except OSError as error:
        raise ValueError(f"no sweep in {path.parent}: {path.name}: {error.strerror}") from None
    except msgspec.DecodeError as error:
        raise ValueError(f"{path}: {error}") from None
