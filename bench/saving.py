"""Nothing lost: a session's journal, how a later session resumes it, and the final file that is made of it."""

import contextlib
import time
from pathlib import Path
from typing import Any

import msgspec
import psutil
import pytest

from attnlib.runs import journal
from attnlib.runs.save import plain, save_new, save_over
from attnlib.runs.text import printable
from bench.plan import agreeing, command, now, planned
from bench.record import Record

LOST = 74  # exit code where a run could not be saved, as sysexits.h has it for input and output


class Saving:
    """A pytest plugin: keeps the journal of a session that is to be saved, and makes its final file.

    Args:
        config: pytest's.
        record: what happens.
    """

    def __init__(self, config: pytest.Config, record: Record) -> None:
        self.config, self.record, self.option = config, record, config.option
        self.json: Path | None = self.option.benchmark_json
        self.to_folder = bool(self.option.benchmark_autosave or self.option.benchmark_save)
        self.begun = time.perf_counter()
        self.book: journal.Journal | None = None  # while there is something to save and a way to
        self.number = 0  # of this process among those that worked on the run
        self.running: str | None = None
        self.before_it = 0  # size of the journal when the running test began
        self.heard = 0  # readings of the canary that are written down
        self.again = ("interrupted", "crashed") if self.option.attnlib_retry_crashed else ("interrupted",)
        self.lost = False

    @property
    def at_s(self) -> float:
        """Seconds of this process so far."""
        return time.perf_counter() - self.begun

    def pytest_runtestloop(self, session: pytest.Session) -> None:
        """Before the first test: put our saver in its place, and open the journal or resume one."""
        self.session = session
        plugin: Any = self.config.pluginmanager.get_plugin("pytest-benchmark")
        broken = session.testsfailed and not self.option.continue_on_collection_errors
        idle = plugin.disabled or plugin.skip or self.option.collectonly or broken
        if idle or not self.record.rows:
            return
        # pytest-benchmark saves in one go, under the final name, and nothing if no benchmark ran in this process. It
        # has no hook for saving, so this method of its session plugin, and nothing else of it, is replaced.
        plugin.handle_saving = self.save
        if not self.to_folder and self.json is None:
            return
        self.plugin = plugin
        file = self.json if self.json and not self.to_folder else Path(plugin.storage.get("x"))
        self.folder = file.parent
        self.plan = planned(self.config, self.record)
        resuming = self.option.attnlib_resume or self.option.attnlib_resume_from
        if resuming and (known := self.resumed()):
            self.skip_finished(known)
        else:
            self.create()
        about = {"started": now(), "load_average": psutil.getloadavg()[0], "command": command(self.config)}
        self.write(journal.Process(about=about))

    def create(self) -> None:
        """Open a journal, its plan the first line."""
        path = self.folder / f"{self.plan.name}.{self.plan.run}{journal.SUFFIX}"
        try:
            self.book = journal.Journal(path, self.plan)
        except OSError as error:
            raise pytest.UsageError(f"cannot write {path}: {error.strerror}") from None

    def resumed(self) -> journal.Events | None:
        """Open the journal to resume, and read it; None for ``--resume`` where there is none.

        Raises:
            pytest.UsageError: the journals here are of another machine, other code or another plan, **or** the one
                that was named cannot be resumed; the message says why.
        """
        refused = []
        chosen = self.option.attnlib_resume_from
        for path in [chosen] if chosen else journal.journals(self.folder):
            try:
                found = journal.events(path.read_bytes())
                differs = journal.differences(agreeing(journal.plan_of(found)), agreeing(self.plan))
                live = journal.is_live(path)
                if not differs:
                    self.book = journal.Journal(path)
                    self.plan = journal.plan_of(found)
                    return self.book.events()
            except (OSError, ValueError) as error:
                differs, live = [getattr(error, "strerror", None) or str(error)], False
            more = f" (and {len(differs) - 4} more)" if len(differs) > 4 else ""
            if chosen or not live:  # what another process is doing meanwhile is none of our business
                refused.append(f"{path}: {'; '.join(differs[:4])}{more}")
        if refused:
            raise pytest.UsageError(printable(f"cannot resume; journal | now: {' / '.join(refused[:3])}"[:2000]))
        self.say(f"no unfinished run in {self.folder}: a new one begins")
        return None

    def skip_finished(self, known: journal.Events) -> None:
        """Take over what was measured; where a process died in a test, say so in the journal."""
        self.number = len(journal.processes(known))
        for test, event in journal.last_events(known).items():
            if isinstance(event, journal.Start):
                row = journal.CRASHED | {"process": self.number - 1}
                known.append(journal.Finish(test=test, at_s=event.at_s, row=row))
                self.write(known[-1])
        finished = journal.finished(known, self.again)
        self.record.rows.update({test: event.row for test, event in finished.items()})
        self.record.earlier = len(finished)
        items = self.session.items
        self.config.hook.pytest_deselected(items=[item for item in items if item.nodeid in finished])
        items[:] = [item for item in items if item.nodeid not in finished]
        self.say(f"goes on with a run of which {len(finished)} tests are done and {len(items)} are left")

    def write(self, event: journal.Event) -> None:
        """Append to the journal; a session that cannot be kept is ended, with what was kept."""
        if self.book is None:
            return
        try:
            self.book.write(event)
        except OSError as error:
            book, self.book, self.lost = self.book, None, True
            if self.running is not None:
                book.cut(self.before_it)  # its test is to be measured again, and did not crash
            book.close()
            text = f"cannot write {book.path}: {error.strerror}; it keeps what came before: make room, then --resume"
            raise pytest.exit.Exception(text) from None

    def pytest_runtest_logstart(self, nodeid: str) -> None:
        """A test begins."""
        if nodeid in self.record.rows:
            self.before_it = self.book.size if self.book else 0
            self.running = nodeid
            self.write(journal.Start(test=nodeid, at_s=self.at_s))

    def pytest_runtest_logfinish(self, nodeid: str) -> None:
        """A test is over."""
        if nodeid == self.running:
            self.finish(nodeid)

    def finish(self, test: str) -> None:
        """Write down a test's end."""
        readings = self.record.canary.readings if self.record.canary else []
        row, benchmark = self.record.rows[test], self.record.benchmarks.get(test)
        ok = row["status"] == "ok"
        self.write(
            journal.Finish(
                test=test,
                at_s=self.at_s,
                row=plain(row | {"process": self.number}),
                benchmark=benchmark if ok else None,
                canary=[plain(reading) | {"process": self.number} for reading in readings[self.heard :]],
                spent_s=self.record.spent_s.get(test, 0.0) if ok else 0.0,
                timed_s=self.record.timed_s.get(test, 0.0) if ok else 0.0,
            )
        )
        self.running, self.heard = None, len(readings)
        self.record.benchmarks.pop(test, None)

    def save(self) -> None:
        """Write the final file from the journal, which goes once every test is done.

        Called by pytest-benchmark at the end of the session, in place of its own saving.
        """
        if self.book is None:
            return
        book, planned_tests = self.book, len(self.plan.tests)
        try:
            if self.running is not None:
                self.finish(self.running)
            found = book.events()
            left = planned_tests - len(journal.finished(found, self.again))
            if left < planned_tests:
                self.place(found)
        except (OSError, pytest.exit.Exception) as error:
            why = error.strerror if isinstance(error, OSError) else error
            self.say(f"cannot save the run in {self.folder}: {why}; {book.path} keeps it: make room, then --resume")
            self.lost = True
            return
        if 0 < left < planned_tests:
            self.say(f"{left} of {planned_tests} tests are left: go on with --resume, or read {book.path} as it is")
        else:
            book.path.unlink(missing_ok=True)
        book.close()

    def place(self, found: journal.Events) -> None:
        """Put the final file where it was asked for; a file of the same run, of when it was interrupted, gives way."""
        run, token = journal.assemble(found), self.plan.run
        if self.json is not None:
            save_over(self.json, run, token)
            self.log(f"Wrote benchmark data in: {self.json}")
        if not self.to_folder:
            return
        self.folder.mkdir(parents=True, exist_ok=True)  # someone may have tidied up meanwhile
        candidates = [self.folder / Path(event.file).name for event in found if isinstance(event, journal.Save)]
        path = next((candidate for candidate in candidates if run_in(candidate) == token), None)
        if path is None:
            path = save_new(self.folder, self.plan.name, run, token, before=self.about_to_save)
        else:
            save_over(path, run, token)
        self.log(f"Saved benchmark data in: {path}")

    def about_to_save(self, path: Path) -> None:
        """Note which file is about to appear, so that a resumed run knows it for its own."""
        self.write(journal.Save(file=path.name, at_s=self.at_s))

    def log(self, text: str) -> None:
        """What pytest-benchmark says of a file; a terminal that is gone loses no file."""
        with contextlib.suppress(OSError):
            self.plugin.logger.info(text)

    def say(self, text: str) -> None:
        """A line for the user."""
        reporter: Any = self.config.pluginmanager.get_plugin("terminalreporter")
        with contextlib.suppress(OSError):
            reporter.write_line(f"\nattnlib: {text}")  # pytest's progress may have no line end yet


def run_in(path: Path) -> str | None:
    """The token of the run in a file; None where there is no such file, or none of ours."""
    try:
        return str(msgspec.json.decode(path.read_bytes())["attnlib"]["run"])
    except (OSError, ValueError, LookupError, TypeError, RecursionError):
        return None
