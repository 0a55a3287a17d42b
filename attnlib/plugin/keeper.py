"""Saving of a run: its journal while it is measured, and the final files that are made from the journal."""

import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec

from attnlib.errors import message
from attnlib.plugin.plan import agreement
from attnlib.plugin.record import Entry
from attnlib.runs import journal
from attnlib.runs.save import as_json, plain, save_new, save_over, saved_now, token_in


class Unsaved(Exception):
    """The run can no longer be saved; its journal holds what was written before."""


@dataclass(frozen=True)
class Targets:
    """Destinations of the final file: a numbered file in a folder, a named file, or both."""

    folder: Path
    numbered: bool
    named: Path | None


def resumable(
    plan: journal.Plan, targets: Targets, chosen: Path | None, name: str | None
) -> tuple[journal.Journal | None, int]:
    """Open the journal of an unfinished run of this plan: the chosen one, or the newest in the folder.

    Args:
        plan: this session's.
        targets: their folder is searched for journals.
        chosen: the journal to resume, if one was named; no other is tried then.
        name: name given to this run, which the journal's run must have too; None if none was given.

    Returns:
        the journal, None if none fits this plan; and the number of journals passed over: those of other plans, kinds of
        machine, code or names, those being written, and unreadable ones.

    Raises:
        ValueError: the chosen one cannot be resumed, **or** every journal of this plan is being written by another
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
            more = f" (and {len(differs) - 4} more)" if len(differs) > 4 else ""
            why = f"it differs, journal | now: {'; '.join(differs[:4])}{more}"
        except journal.Busy as error:
            why = busy = str(error)
        except (OSError, ValueError) as error:
            why = getattr(error, "strerror", None) or str(error)
        if chosen:
            raise ValueError(message(f"cannot resume {path}: {why}")[:2000])
        others += 1
    if busy:
        raise ValueError(message(f"cannot resume: {busy}"))
    return None, others


class Keeper:
    """Writer of a run's journal and final files in one process.

    Args:
        book: the run's journal, open.
        targets: destinations of its final file.
        about: facts about this process, see ``attnlib.plugin.plan.about_process``.
        retry: statuses whose tests are measured again.

    Raises:
        Unsaved: the journal cannot be written.
        ValueError: ``book`` holds no valid journal.
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
        """Return the ``Finish`` event of a test in which an earlier process died; its finished visits are kept."""
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
        """Seconds since this process began to work on the run."""
        return time.perf_counter() - self.begun

    def finished(self) -> dict[str, journal.Finish]:
        """Return the last ``Finish`` event of each test that need not be measured again."""
        return journal.finished(self.book.events(), self.retry)

    def write(self, event: journal.Event) -> None:
        """Append an event to the journal.

        Raises:
            Unsaved: the event cannot be written; the running test is cut from the journal, so that it is measured again
                and does not count as crashed.
        """
        try:
            self.book.write(event)
        except OSError as error:
            if self.running is not None:
                self.book.cut(self.before_it)
            wrong = f"cannot write {self.book.path}, which keeps what came before: {error.strerror}"
            raise Unsaved(message(wrong, do="make room, then --resume")) from None

    def begin(self, test: str, visit: int = 1) -> None:
        """Write to the journal that a test begins, or a later visit of its case."""
        self.before_it, self.running, self.visit = self.book.size, test, visit
        self.write(journal.Start(test=test, at_s=self.at_s, visit=visit))

    def end(self, entry: Entry, readings: list[dict[str, Any]]) -> None:
        """Write to the journal that the running test or visit has ended; nothing if none is running.

        Args:
            entry: the test's, whose row and benchmark are written.
            readings: all readings of the canary since the session began, of which the new ones are written.
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
        """Set ``process`` in each visit of a benchmark that has none yet, and return the benchmark."""
        for visit in ((benchmark or {}).get("extra_info", {}).get("time") or {}).get("visits", ()):
            visit.setdefault("process", self.number)
        return benchmark

    def save(self, *, resumable: bool = True) -> tuple[list[Path], int]:
        """Write the final files from the journal, and delete the journal once nothing is left to measure.

        A journal in which no test is finished is deleted too, unless one crashed.

        Args:
            resumable: whether the run can be resumed later; if not, the journal is deleted once a file is saved.

        Returns:
            the files, none if no test is finished; and the number of tests and further visits that are left.

        Raises:
            Unsaved: the files cannot be written.
        """
        try:
            found = self.book.events()
            left = len(self.plan.tests) - len(journal.finished(found, self.retry))
            files = self._place(found) if left < len(self.plan.tests) else []
            left += sum(journal.visits_left(found).values())
        except OSError as error:
            wrong = f"cannot save the run in {self.targets.folder}: {error.strerror}, but {self.book.path} keeps it"
            raise Unsaved(message(wrong, do="make room, then --resume")) from None
        crashed = any(isinstance(event, journal.Finish) and event.row.get("status") == "crashed" for event in found)
        if left == 0 or not (files or crashed) or (files and not resumable):  # that a case crashed is not forgotten
            self.book.path.unlink(missing_ok=True)
        self.book.close()
        return files, left

    def _place(self, found: journal.Events) -> list[Path]:
        """Write the final file to each target and return the paths; a numbered file of this run is replaced."""
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
        """Write to the journal which file is about to be saved, so that the resumed run recognises it as its own."""
        self.write(journal.Save(file=path.name, at_s=self.at_s))
