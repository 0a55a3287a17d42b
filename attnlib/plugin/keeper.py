"""Keeps a run: its journal while it grows, and the final files that are made of it."""

import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec

from attnlib.plugin.plan import agreement
from attnlib.plugin.record import Entry
from attnlib.runs import journal
from attnlib.runs.save import as_json, plain, save_new, save_over, saved_now, token_in


class Unsaved(Exception):
    """The run cannot be kept any further; its journal has what came before."""


@dataclass(frozen=True)
class Targets:
    """Where the final file goes: numbered into a folder, to a named file, or both."""

    folder: Path
    numbered: bool
    named: Path | None


def resumable(
    plan: journal.Plan, targets: Targets, chosen: Path | None, name: str | None
) -> tuple[journal.Journal | None, int]:
    """Open the journal of an unfinished run of this plan: the chosen one, or the newest in the folder.

    Args:
        plan: of this session.
        targets: where its journal would lie.
        chosen: the journal to go on with, if one was named.
        name: that the run was given, which must then be that run's too; None without any.

    Returns:
        the journal, None without one of this plan; and how many others were left alone: of other plans, kinds of
        machine or code, or unreadable.

    Raises:
        ValueError: the chosen one cannot be resumed, **or** the only one of this plan is being written by another
            process; the message says why.
    """
    others, busy = 0, None
    for path in [chosen] if chosen else journal.journals(targets.folder):
        try:
            theirs = journal.plan_of(journal.events(path.read_bytes()))
            differs = journal.differences(agreement(theirs), agreement(plan))
            differs += [f"name: {theirs.name} | {name}"] if name not in (None, theirs.name) else []
            if not differs:
                return journal.Journal(path), others
            why = "; ".join(differs[:4]) + (f" (and {len(differs) - 4} more)" if len(differs) > 4 else "")
        except journal.Busy as error:
            why = busy = str(error)
        except (OSError, ValueError) as error:
            why = getattr(error, "strerror", None) or str(error)
        if chosen:
            raise ValueError(f"cannot resume; journal | now: {path}: {why}"[:2000])
        others += 1
    if busy:
        raise ValueError(f"cannot resume: {busy}")
    return None, others


class Keeper:
    """One process's part of a run.

    Args:
        book: the run's journal, open.
        targets: where its final file goes.
        about: this process, see ``attnlib.plugin.plan.about_process``.
        retry: statuses that are measured again.

    Raises:
        Unsaved: the journal cannot be written.
        ValueError: it is no journal.
    """

    def __init__(self, book: journal.Journal, targets: Targets, about: dict[str, Any], retry: tuple[str, ...]) -> None:
        self.book, self.targets, self.retry = book, targets, retry
        self.begun = time.perf_counter()
        self.running: str | None = None  # the test that has begun
        self.visit = 1  # of its case
        self.before_it = 0  # size of the journal then
        self.heard = 0  # readings of the canary that are written down
        known = book.events()
        self.plan = journal.plan_of(known)
        self.number = len(journal.processes(known))  # of this process among those that worked on the run
        for test, event in journal.last_events(known).items():
            if isinstance(event, journal.Start):  # a process died in it
                self.write(self.died_in(event, journal.ends(known).get(test)))
        self.write(journal.Process(about=about))

    def died_in(self, start: journal.Start, before: journal.Finish | None) -> journal.Finish:
        """Return the end of a test that an earlier process died in; if in a later visit, the earlier visits stay."""
        if before is None or before.benchmark is None:
            row = journal.CRASHED | {"process": self.number - 1}
            return journal.Finish(test=start.test, at_s=start.at_s, row=row)
        info = before.benchmark["extra_info"]
        lost = {"visit": start.visit, "reason": f"crashed: {journal.CRASHED['reason']}"}
        time = info["time"] | {"visits_lost": [*info["time"]["visits_lost"], lost]}
        benchmark = before.benchmark | {"extra_info": info | {"time": time}}
        return msgspec.structs.replace(before, at_s=start.at_s, visit=start.visit, benchmark=benchmark, canary=[])

    @property
    def at_s(self) -> float:
        """Seconds of this process so far."""
        return time.perf_counter() - self.begun

    def finished(self) -> dict[str, journal.Finish]:
        """The tests that need not be measured again, with their ends."""
        return journal.finished(self.book.events(), self.retry)

    def write(self, event: journal.Event) -> None:
        """Append to the journal.

        Raises:
            Unsaved: it cannot; the running test is forgotten, since it is to be measured again and did not crash.
        """
        try:
            self.book.write(event)
        except OSError as error:
            if self.running is not None:
                self.book.cut(self.before_it)
            text = (
                f"cannot write {self.book.path}: {error.strerror}; it keeps what came before: make room, then --resume"
            )
            raise Unsaved(text) from None

    def begin(self, test: str, visit: int = 1) -> None:
        """A test begins, or a later visit of its case."""
        self.before_it, self.running, self.visit = self.book.size, test, visit
        self.write(journal.Start(test=test, at_s=self.at_s, visit=visit))

    def end(self, entry: Entry, readings: list[dict[str, Any]]) -> None:
        """The running test is over.

        Args:
            entry: what became of it; its benchmark goes into the journal.
            readings: of the canary, since the session began.
        """
        if self.running is None:
            return
        ok = entry.status == "ok"
        self.write(
            journal.Finish(
                test=self.running,
                at_s=self.at_s,
                row=plain({"process": self.number} | entry.row),
                benchmark=self.named(entry.benchmark) if ok else None,
                canary=[plain(reading) | {"process": self.number} for reading in readings[self.heard :]],
                spent_s=entry.spent_s if ok else 0.0,
                timed_s=entry.timed_s if ok else 0.0,
                visit=self.visit,
            )
        )
        self.running, self.heard = None, len(readings)

    def named(self, benchmark: dict[str, Any] | None) -> dict[str, Any] | None:
        """Note in each new visit of a benchmark which process made it."""
        for visit in ((benchmark or {}).get("extra_info", {}).get("time") or {}).get("visits", ()):
            visit.setdefault("process", self.number)
        return benchmark

    def save(self, *, resumable: bool = True) -> tuple[list[Path], int]:
        """Write the final files from the journal, which goes once every test is done.

        Args:
            resumable: whether the run can be gone on with; where it cannot, the journal goes with the file.

        Returns:
            the files, none where no test is done; and how many tests and further visits are left.

        Raises:
            Unsaved: they cannot be written.
        """
        try:
            found = self.book.events()
            left = len(self.plan.tests) - len(journal.finished(found, self.retry))
            files = self._place(found) if left < len(self.plan.tests) else []
            left += sum(journal.visits_left(found).values())
        except OSError as error:
            text = f"cannot save the run in {self.targets.folder}: {error.strerror}; {self.book.path} keeps it: "
            raise Unsaved(f"{text}make room, then --resume") from None
        crashed = any(isinstance(event, journal.Finish) and event.row.get("status") == "crashed" for event in found)
        if left == 0 or not (files or crashed) or (files and not resumable):  # that a case crashed is not forgotten
            self.book.path.unlink(missing_ok=True)
        self.book.close()
        return files, left

    def _place(self, found: journal.Events) -> list[Path]:
        """Put the final file where it was asked for; a file of the same run, of when it was interrupted, gives way."""
        run, token, files = journal.assemble(found) | saved_now(), self.plan.run, []
        if self.targets.named is not None:
            save_over(self.targets.named, as_json(run), token)
            files.append(self.targets.named)
        if self.targets.numbered:
            folder = self.targets.folder
            folder.mkdir(parents=True, exist_ok=True)  # someone may have tidied up meanwhile
            candidates = [folder / Path(event.file).name for event in found if isinstance(event, journal.Save)]
            path = next((candidate for candidate in candidates if token_in(candidate) == token), None)
            if path is None:
                path = save_new(folder, self.plan.name, as_json(run), token, before=self._about_to_save)
            else:
                save_over(path, as_json(run), token)
            files.append(path)
        return files

    def _about_to_save(self, path: Path) -> None:
        """Note which file is about to appear, so that a resumed run knows it for its own."""
        self.write(journal.Save(file=path.name, at_s=self.at_s))
