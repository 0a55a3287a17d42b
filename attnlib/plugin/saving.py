"""Pytest plugin that saves a session test by test, resumes one, and sets the final file and the exit code."""

import contextlib
import shlex
import signal
from collections.abc import Callable, Generator
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from attnlib.errors import message
from attnlib.measure.limits import Signals, Terminated
from attnlib.plugin.keeper import Keeper, Targets, Unsaved, resumable
from attnlib.plugin.options import asks_for_table
from attnlib.plugin.plan import about_process, planned
from attnlib.plugin.record import Record
from attnlib.runs import journal
from attnlib.runs.find import newest, results
from attnlib.runs.text import printable

OWN_STORAGE = "file://./.benchmarks"  # pytest-benchmark's default
EXIT_UNSAVED = 74  # exit code where a run could not be saved, as sysexits.h has it for input and output


class Saving:
    """Plugin that keeps the journal of a session that is to be saved; SIGTERM and SIGHUP end it as Ctrl-C does.

    Args:
        config: pytest's configuration.
        record: the session's.
    """

    def __init__(self, config: pytest.Config, record: Record) -> None:
        self.config, self.record, self.option = config, record, config.option
        self.keeper: Keeper | None = None  # of a session that is to be saved
        self.lost = False  # it could not be
        self.signals: Signals | None = None  # while they are heeded
        self.signum: int | None = None  # of the signal that ended the session

    def pytest_runtestloop(self, session: pytest.Session) -> None:
        """Before the first test: handle signals, replace pytest-benchmark's saving, and open or resume a journal."""
        plugin: Any = self.config.pluginmanager.get_plugin("pytest-benchmark")
        broken = session.testsfailed and not self.option.continue_on_collection_errors
        if not self.record.entries or self.option.collectonly or broken:
            return
        self.signals = Signals()
        if plugin.disabled or plugin.skip:
            return
        others = self.record.guest and any(
            "benchmark" in getattr(item, "fixturenames", ()) and item.nodeid not in self.record.entries
            for item in session.items
        )
        # pytest-benchmark saves in one go, under the final name, and nothing if no benchmark ran in this process. It
        # has no hook for saving, so this method of its session plugin, and nothing else of it, is replaced.
        if self.record.guest and not others and not asks_for_table(self.config):
            plugin.quiet = True  # our own tables say it shorter
        theirs = plugin.handle_saving if others else None
        plugin.handle_saving = partial(self.save_both, plugin, theirs) if theirs else self.save
        numbered, named = bool(self.option.benchmark_autosave or self.option.benchmark_save), self.option.benchmark_json
        named = None if others else named  # which then holds all benchmarks, as pytest-benchmark writes it
        if not numbered and named is None:
            return
        folder = self.folder(plugin) if numbered or named is None else named.resolve().parent
        try:
            with self.or_end():
                self.keep(session, Targets(folder, numbered, named))
        except ValueError as error:
            raise pytest.UsageError(printable(str(error))) from None

    def folder(self, plugin: Any) -> Path:
        """Return the folder of numbered files; in another repository one in its ``results/``, unless one is named.

        Args:
            plugin: pytest-benchmark's session.
        """
        storage = str(self.option.benchmark_storage)
        if self.record.guest and (storage == OWN_STORAGE or not storage.startswith("file://")):
            return results(self.config.rootpath) / str(plugin.machine_id)
        return Path(plugin.storage.get("x")).parent

    def keep(self, session: pytest.Session, targets: Targets) -> None:
        """Create a journal, or open the one that is to be resumed and skip its finished tests.

        Raises:
            Unsaved: the resumed journal cannot be written.
            ValueError: a new one cannot be written, **or** one cannot be resumed, **or** a case is planned twice.
        """
        plan, book = planned(self.config, self.record.settings, self.record.entries), None
        shard: Any = self.config.pluginmanager.get_plugin("attnlib-chosen")
        if shard is not None and (differs := journal.differences(shard.shard.kind, plan.fingerprint)):
            wrong = f"another kind of machine, versions or code than the sweep was planned on: {differs[0]}"
            raise ValueError(message(wrong))
        if not self.record.guest and (self.option.attnlib_resume or self.option.attnlib_resume_from):
            alone = None if targets.numbered or targets.named is None else targets.named.stem
            name = self.option.benchmark_save or alone
            book, others = resumable(plan, targets, self.option.attnlib_resume_from, name)
            if book is None:
                why = f" (of {others} others --resume-from says why not)" if others else ""
                self.say(f"no unfinished run of this plan in {targets.folder}{why}: a new one begins")
        resumed = book is not None
        if book is None:
            path = targets.folder / f"{plan.name}.{plan.run}{journal.SUFFIX}"
            try:
                targets.folder.mkdir(parents=True, exist_ok=True)
                book = journal.Journal.create(path, plan)
            except OSError as error:
                raise ValueError(message(f"cannot write {path}: {error.strerror}")) from None
        again = not self.record.guest and self.option.attnlib_retry_crashed
        retry = ("interrupted", "crashed") if again else ("interrupted",)
        self.keeper = Keeper(book, targets, about_process(self.config, plan.head["machine_info"]), retry)
        if resumed:
            self.skip_finished(session, self.keeper.finished())

    def skip_finished(self, session: pytest.Session, ends: dict[str, journal.Finish]) -> None:
        """Deselect the tests that an earlier process has finished, and take over their results."""
        self.record.adopt(ends)
        done = [item for item in session.items if item.nodeid in ends]
        self.config.hook.pytest_deselected(items=done)
        session.items[:] = [item for item in session.items if item.nodeid not in ends]
        self.say(f"goes on with a run of which {len(done)} tests are done and {len(session.items)} are left")

    def pytest_runtest_logstart(self, nodeid: str) -> None:
        """Write to the journal that a test begins."""
        if nodeid in self.record.entries:
            self.begin(nodeid)

    def begin(self, test: str, visit: int = 1) -> None:
        """Write to the journal that a test begins, or a later visit of its case."""
        if self.keeper is not None:
            with self.or_end():
                self.keeper.begin(test, visit)

    def pytest_runtest_logfinish(self, nodeid: str) -> None:
        """Write to the journal that a test has ended."""
        if self.keeper is not None and nodeid == self.keeper.running:
            self.end_test()

    def end_test(self) -> None:
        """Write the end of the running test or visit to the journal, if the session is saved."""
        if self.keeper is not None:
            with self.or_end():
                self.end(self.keeper)

    def end(self, keeper: Keeper) -> None:
        """Write the end of the running test or visit to the journal, if one is running."""
        if keeper.running is not None:
            keeper.end(self.record.entries[keeper.running], self.record.readings)

    @contextlib.contextmanager
    def or_end(self) -> Generator[None, None, None]:
        """End the session if the journal cannot be written."""
        try:
            yield
        except Unsaved as error:
            self.lost = True
            raise pytest.exit.Exception(str(error)) from None

    def save(self) -> None:
        """Write the final file; called by pytest-benchmark at the end of the session, in place of its own saving."""
        if self.keeper is None or self.lost:
            return
        keeper = self.keeper
        try:
            self.end(keeper)
            files, left = keeper.save(resumable=not self.record.guest)
        except Unsaved as error:
            self.lost = True
            self.say(str(error))
            return
        for path in files:
            # without a name the commands show the newest run, which from another folder may not be this one
            more = "" if self.record.guest else ", attnlib encodings"
            shown = f"{more}, attnlib draw" if newest() == path else f" {shlex.quote(str(path))}"
            self.say(f"saved in {path}; look at it with: attnlib costs{shown}")
        if files and left and not self.record.guest:
            self.say(f"{left} measurements are left: go on with --resume, or read {keeper.book.path} as it is")

    def save_both(self, plugin: Any, theirs: Callable[[], None]) -> None:
        """Write the final file, and let pytest-benchmark save the benchmarks of others' tests as it does without us.

        Args:
            plugin: the session of pytest-benchmark.
            theirs: its own saving.
        """
        self.save()
        plugin.benchmarks[:] = [own for own in plugin.benchmarks if own]  # none whose test failed
        theirs()

    def pytest_keyboard_interrupt(self, excinfo: pytest.ExceptionInfo[BaseException]) -> None:
        """Store which signal ended the session, and ignore further ones."""
        if self.signals is not None:
            self.signals.hold()
        stopped = isinstance(excinfo.value, pytest.Session.Interrupted)  # by --stepwise, say, and not by a signal
        if isinstance(excinfo.value, KeyboardInterrupt) and not stopped:
            self.signum = excinfo.value.signum if isinstance(excinfo.value, Terminated) else signal.SIGINT

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_sessionfinish(self, session: pytest.Session) -> Generator[None, Any, Any]:
        """Ignore signals while the run is saved, and set the exit code.

        It is ``EXIT_UNSAVED`` if the run could not be saved, 128 + signal after a signal, and that of failed tests if a
        test ended with an error, be it in an earlier process of the run.
        """
        if self.signals is None:
            return (yield)
        self.signals.hold()
        result = yield
        errors = any(entry.status == "error" for entry in self.record.entries.values())
        if self.lost:
            session.exitstatus = EXIT_UNSAVED
        elif self.signum is not None:
            session.exitstatus = 128 + self.signum
        elif errors and session.exitstatus == pytest.ExitCode.OK:
            session.exitstatus = pytest.ExitCode.TESTS_FAILED
        return result

    def pytest_unconfigure(self) -> None:
        """Restore the earlier signal handlers."""
        if self.signals is not None:
            self.signals.restore()

    def say(self, text: str) -> None:
        """Write a line to the terminal if there is one; a terminal that was closed raises nothing."""
        reporter: Any = self.config.pluginmanager.get_plugin("terminalreporter")
        if reporter is None:  # -p no:terminal
            return
        with contextlib.suppress(OSError):
            reporter.write_line(f"\nattnlib: {text}")  # pytest's progress may have no line end yet
