"""Pytest plugin that orders the planned tests, follows each, and writes their rows."""

import gc
import math
import random
import re
import time
import traceback
from collections.abc import Callable, Generator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from itertools import product
from typing import Any

import msgspec
import pytest
import torch
from pytest_benchmark.fixture import BenchmarkFixture

from attnlib.cases.case import PHASES, Case
from attnlib.cases.grids import grid_of
from attnlib.cases.settings import Settings
from attnlib.compare.pairs import times
from attnlib.errors import message
from attnlib.measure import clock, environment
from attnlib.measure.canary import Canary
from attnlib.measure.ceilings import Ceilings, Listened, Rates, listen_undisturbed, usable
from attnlib.measure.device import Device, Unavailable, open_device
from attnlib.measure.limits import TimeIsUp, time_limit
from attnlib.measure.memory import is_out_of_memory
from attnlib.plugin.measuring import Instruments, identity
from attnlib.predict.peak import needed_bytes
from attnlib.runs import visits
from attnlib.runs.journal import NOT_YET, Finish
from attnlib.runs.load import Cell, cell_of, renamed, switch_label
from attnlib.runs.save import plain
from attnlib.runs.schema import (
    Beside,
    BesideRow,
    Row,
    Timed,
    beside_problems,
    convert,
    examine_benchmark,
    probe_problems,
)
from attnlib.runs.text import printable

CEILINGS_EVERY = 30.0  # seconds from one reading of the ceilings to the next, which takes about 0.4
CEILINGS_AGAIN, SOON = 5.0, 4  # the same after a disturbed reading, if it is one of the first
FIELDS = {field.name for field in fields(Case)}
EQUALS = re.compile(r"([\w.]+)=([\w.:]+)")
FOLDERS = re.compile(r"(?<![\w.])/(?:[^/\s'\":]+/)+")  # of an absolute path in a message: nobody's business


class Left(Exception):
    """Raised to leave a case without a time for a reason that is not a failure.

    Args:
        status: status of the case's row.
        reason: its reason, in words.
        more: further fields of the row.
    """

    def __init__(self, status: str, reason: str, **more: Any) -> None:
        super().__init__(reason)
        self.row = {"status": status, "reason": reason, **more}


@dataclass
class Entry:
    """Record of one planned test: its case, None for a test without one; its row, saved benchmark and times.

    ``params`` are the parameters of a test that measures a call beside another one, None for any other test.
    """

    case: Case | None
    row: dict[str, Any] = field(default_factory=lambda: dict(NOT_YET))
    benchmark: dict[str, Any] | None = None  # as it is saved
    timed_s: float = 0.0  # in rounds of the case and of its reference, set-ups included
    spent_s: float = 0.0  # in all, of a case that was timed
    disturbed: list[str] = field(default_factory=list)
    params: dict[str, Any] | None = None

    @property
    def status(self) -> str:
        """Status of its row."""
        return str(self.row["status"])


class Record:
    """Plugin that orders and follows the tests of one session, and keeps an ``Entry`` of each.

    Args:
        settings: the run's choices.
        device: the session's device.
        instrument: makes the object that reads the ceilings of a device and dtype.
        guest: whether the session is another repository's, of which only tests that use ``beside`` are followed.
    """

    def __init__(
        self,
        settings: Settings,
        device: Device,
        instrument: Callable[[Device, torch.dtype], Ceilings] = Ceilings,
        *,
        guest: bool = False,
    ) -> None:
        self.settings, self.device, self.instrument, self.guest = settings, device, instrument, guest
        self.entries: dict[str, Entry] = {}  # of every planned test, a case or not
        self.items: dict[str, pytest.Item] = {}  # their tests, also those that need not run again
        self.started = time.perf_counter()
        self.canaries: dict[str, Canary] = {}  # by device
        self.readings: list[dict[str, Any]] = []  # of all canaries, in order
        self.ceilings: dict[tuple[str, str], tuple[Ceilings, list[Listened]]] = {}  # by device and dtype
        self.looked = self.started  # when the last of them were read

    def instruments(self, case: Case) -> Instruments:
        """Return the device that a case runs on, which may differ from the session's, with its canary and rates."""
        device = self.device if case.device == str(self.device.torch_device) else open_device(case.device)
        canary = self.canary(device)
        return Instruments(device, canary, self.rates(device, case.dtype, canary))

    def canary(self, device: Device) -> Canary:
        """Return the canary of a device, the same throughout the session."""
        name = str(device.torch_device)
        if name not in self.canaries:
            self.canaries[name] = Canary(device, self.readings)
        return self.canaries[name]

    def rates(self, device: Device, dtype: str, canary: Canary) -> Rates:
        """Return the rates of the device in this run, read every ``CEILINGS_EVERY`` seconds; see ``usable``."""
        key, now = (str(device.torch_device), dtype), time.perf_counter()
        instrument, found = self.ceilings.get(key) or (self.instrument(device, getattr(torch, dtype)), [])
        self.ceilings[key] = instrument, found
        # on a machine that is never quiet, readings that are soon repeated would only cost time
        soon = bool(found) and found[-1].disturbed and len(found) < SOON
        pause = CEILINGS_AGAIN if soon else CEILINGS_EVERY
        if not found or now - self.looked > pause:
            self.looked = now
            found.append(listen_undisturbed(instrument, device))
            canary.listen()  # a new reading: earlier ones are written down already
            self.readings[-1]["rates"] = {"dtype": dtype, "disturbed": found[-1].disturbed} | asdict(found[-1].rates)
        return usable(found)

    def case_of(self, item: pytest.Item) -> Case | None:
        """Return the case of a test, from its grid's ``fixed`` fields and its parameters; None without a grid."""
        grid = grid_of(item.function) if isinstance(item, pytest.Function) else None
        if grid is None or not isinstance(item, pytest.Function):
            return None
        # a plugin's own parameters, such as pytest-repeat's, are no fields
        known = (*FIELDS, "switch") if item.path.name == "test_switches.py" else FIELDS
        own = {name: value for name, value in item.callspec.params.items() if name in known}
        return self.settings.case(**(dict(grid.fixed) | own))

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_collection_modifyitems(
        self, config: pytest.Config, items: list[pytest.Item]
    ) -> Generator[None, Any, Any]:
        """Put timed cases into a seeded random order, so that drift does not look like scaling; set our clock.

        The plan is what other plugins and ``-k`` leave. It keeps this order even if another plugin changes it.
        """
        cases = {item: case for item in items if (case := self.case_of(item)) is not None}
        timed = list(cases)
        random.Random(self.settings.order_seed).shuffle(timed)
        untimed = [name for name, phase in PHASES.items() if phase.kind != "timed"]
        rank = {name: place for place, name in enumerate(untimed, 1)}  # times first: no check between them
        places = {item: place if cases[item].kind == "trained" else 0 for place, item in enumerate(cases)}
        timed.sort(key=lambda item: (rank.get(cases[item].phase, 0), places[item]))  # trainings as their file has them
        items[:] = timed + [item for item in items if item not in cases]  # --stepwise looks for its place in it
        keyword = config.option.keyword
        config.option.keyword, wanted = spelled_out(keyword)
        self.note_fields(cases, wanted)
        ours = [item for item in items if is_beside(item) or (is_measured(item) and not self.guest)]
        for item in ours:
            if is_beside(item):  # whose own group stays
                own = {name: value for mark in item.iter_markers("benchmark") for name, value in mark.kwargs.items()}
                item.add_marker(pytest.mark.benchmark(**own | {"timer": clock.device_clock}), append=False)
            elif not any(item.iter_markers("benchmark")):
                group = cases[item].phase if item in cases else None
                item.add_marker(pytest.mark.benchmark(timer=clock.device_clock, group=group))
        try:
            result = yield
        finally:
            config.option.keyword = keyword
        chosen = set(items)  # by -k, say
        items[:] = [item for item in timed if item in chosen] + [item for item in items if item not in cases]
        if not config.option.collectonly:
            times = not config.option.benchmark_disable
            self.refuse_changed([case for item, case in cases.items() if item in chosen], times=times)
        self.items = {item.nodeid: item for item in ours if item in chosen}
        self.entries = {
            test: Entry(cases.get(item), params=parameters_of(item) if is_beside(item) else None)
            for test, item in self.items.items()
        }
        return result

    def refuse_changed(self, cases: Sequence[Case], *, times: bool) -> None:
        """Refuse to run cases in a process with changed switches or too few CPUs, which would change what is measured.

        Args:
            cases: those that are to run.
            times: False if the session takes no times.

        Raises:
            pytest.UsageError: see ``attnlib.measure.environment.refuse_changed``.
        """
        if not cases:
            return
        times = times and any(PHASES[case.phase].kind == "timed" for case in cases)
        try:  # a tracer, as a debugger's, changes times only
            environment.refuse_changed(self.settings.threads, () if times else ("tracer",))
        except ValueError as error:
            raise pytest.UsageError(str(error)) from None

    def note_fields(self, cases: Mapping[pytest.Item, Case], wanted: Sequence[tuple[str, str]]) -> None:
        """Add keywords by which ``-k`` finds the cases with these values of fields; short names of parts work too."""
        for (name, value), (item, case) in product(wanted, cases.items()):
            own = getattr(getattr(item, "callspec", None), "params", {})  # such as a switch
            if name not in own and not hasattr(case, name):
                continue
            field_value = str(own.get(name, getattr(case, name, None)))
            shown = self.settings.shown.get(field_value, field_value)
            shown = self.settings.encoding_label(field_value) if name == "pe" else shown
            if value.lower() in (field_value.lower(), shown.lower()):
                item.extra_keyword_matches.add(f":{name}:{value}:")

    def adopt(self, ends: dict[str, Finish]) -> None:
        """Copy the results of tests that an earlier process of the run has finished into their entries."""
        for test, end in ends.items():
            entry = self.entries[test]
            entry.row, entry.benchmark = end.row, end.benchmark
            entry.timed_s, entry.spent_s = end.timed_s, end.spent_s

    def benchmarks(self) -> dict[str, dict[str, Any]]:
        """Return the saved benchmark of every case that was timed so far, by test, with ratios from all visits."""
        timed = {test: entry.benchmark for test, entry in self.entries.items() if entry.benchmark is not None}
        return dict(zip(timed, visits.settle(list(timed.values())), strict=True))

    def settled(self, test: str) -> dict[str, Any]:
        """Return the saved benchmark of a case that was timed, with its ratio from all visits so far."""
        timed = {test: entry.benchmark for test, entry in self.entries.items() if entry.benchmark is not None}
        return visits.settle(list(timed.values()), [list(timed).index(test)])[0]

    def time_so_far(self, test: str, settled: dict[str, Any]) -> float:
        """Return the seconds of a case as the tables will show them: its ratio times the mean time of its reference.

        Args:
            test: the test of the case, which has a reference.
            settled: its benchmark, with its ratio from all visits so far.
        """
        own = self.entries[test].case
        # cases of one phase and size share a reference, whose mean time comes from the visits of them all
        alike = [
            self.cell(other, settled if other == test else entry.benchmark)
            for other, entry in self.entries.items()
            if entry.benchmark is not None
            and entry.case is not None
            and own is not None
            and (entry.case.phase, entry.case.seq_len, entry.case.depth) == (own.phase, own.seq_len, own.depth)
        ]
        return times(alike)[settled["extra_info"]["case_id"]].value

    def visits_left(self) -> dict[str, int]:
        """Return how many more visits each case needs, by test."""
        timed = {test: entry.benchmark for test, entry in self.entries.items() if entry.benchmark is not None}
        return visits.left(timed)

    def made(self, test: str) -> int:
        """Return the number of visits of a test so far, lost ones too; 1 for a test without visits."""
        time = ((self.entries[test].benchmark or {}).get("extra_info") or {}).get("time") or {}
        return max(1, len(time.get("visits", ())) + len(time.get("visits_lost", ())))

    def through(self) -> int:
        """Return the number of finished tests and visits; one that was tried again counts once."""
        return sum(self.made(test) for test, entry in self.entries.items() if entry.status != NOT_YET["status"])

    def to_do(self) -> int:
        """Return the number of tests and visits of the session, as far as is known."""
        paired = [entry for entry in self.entries.values() if entry.case is not None and entry.case.paired]
        fresh = [entry for entry in paired if entry.status == NOT_YET["status"]]
        # further visits of cases that have begun are in ``visits_left``
        later = (self.settings.visits - 1) * len(fresh) if self.settings.reference else 0
        done = sum(self.made(test) - 1 for test in self.entries)
        return len(self.entries) + later + done + sum(self.visits_left().values())

    def cells(self) -> tuple[Cell, ...]:
        """Return the cells of this run so far, as they will be read from the saved run."""
        benchmarks = self.benchmarks()
        cases = [test for test, entry in self.entries.items() if entry.case is not None]
        return tuple(self.cell(test, benchmarks.get(test)) for test in cases)

    def beside(self) -> tuple[BesideRow, ...]:
        """Return the rows of the calls that were measured beside others, so far."""
        rows = [
            {"test": test, "params": plain(entry.params)} | entry.row
            for test, entry in self.entries.items()
            if entry.params is not None
        ]
        return tuple(msgspec.convert(row, BesideRow) for row in rows)

    def trainings(self, *phases: str) -> list[Cell]:
        """Return the cells of some phases that are trained, so far."""
        cases = [test for test, entry in self.entries.items() if entry.case is not None and entry.case.phase in phases]
        return [self.cell(test, None) for test in cases]

    def cell(self, test: str, benchmark: dict[str, Any] | None) -> Cell:
        """Return the cell of a case so far, with this benchmark."""
        entry = self.entries[test]
        row = identity(entry.case) | {"test": test} | entry.row if entry.case else entry.row
        row = renamed(row, self.settings.shown)
        if entry.case:
            shown = switch_label(test) or self.settings.encoding_label(entry.case.pe)
            row["case"] = row["case"] | {"pe": shown}
        timed = None if benchmark is None else msgspec.convert(renamed(benchmark, self.settings.shown), Timed)
        return cell_of(msgspec.convert(row, Row), row["case"], timed)

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtestloop(self, session: pytest.Session) -> None:
        """Call ``prepare`` before the first test, unless tests are only collected or are another repository's."""
        if self.entries and not self.guest and not session.config.getoption("collectonly"):
            self.prepare()

    def prepare(self) -> None:
        """Set torch's handling of denormals, precision, threads and the clock, before the first torch operation."""
        torch.set_flush_denormal(self.settings.base.denormals == "flush")
        torch.set_float32_matmul_precision(self.settings.base.matmul_precision)
        if self.settings.threads is not None:
            torch.set_num_threads(self.settings.threads)
        clock.bind(self.device)
        self.started = time.perf_counter()

    def note_time(self, test: str, seconds: float, disturbed: list[str]) -> None:
        """Store how many seconds of a case were timed, and what disturbed it."""
        self.entries[test].timed_s, self.entries[test].disturbed = seconds, disturbed

    def read(self, test: str, probe: dict[str, Any]) -> None:
        """Store the finding of a gradient check or the result of a training in the test's row.

        Raises:
            AssertionError: the finding would break the results contract, as a claim that is not finite does.
        """
        entry, probe = self.entries[test], plain(probe)
        if found := probe_problems(asdict(entry.case) if entry.case else {}, probe):
            raise AssertionError(found[0])
        entry.row["probe"] = probe

    def found_beside(self, test: str, found: dict[str, Any]) -> None:
        """Store the cost of a call that was measured beside another one in the test's row.

        Raises:
            AssertionError: the saved values would break the results contract.
        """
        entry, found = self.entries[test], plain(found)
        typed, wrong = convert(found, Beside, "beside")
        if wrong or (typed is not None and (wrong := beside_problems(typed))):
            raise AssertionError(wrong[0])
        entry.row["found"] = found

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_setup(self, item: pytest.Item) -> Generator[None, Any, Any]:
        """Reset the test's entry; end the session if the fixture ``benchmark`` is not pytest-benchmark's."""
        if (entry := self.entries.get(item.nodeid)) is not None:  # as pytest-rerunfailures tries a test again
            self.entries[item.nodeid] = Entry(entry.case, params=entry.params)
        result = yield
        fixture = getattr(item, "funcargs", {}).get("benchmark")
        if entry is not None and not isinstance(fixture, (BenchmarkFixture, type(None))):
            text = message(f"{item.nodeid}: its fixture benchmark must be pytest-benchmark's", type(fixture))
            raise pytest.exit.Exception(text, returncode=pytest.ExitCode.USAGE_ERROR)
        return result

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_call(self, item: pytest.Item) -> Generator[None, Any, Any]:
        """Run a test within its time limit; if it ends early, store why, and let none of its rounds count as a time."""
        entry = self.entries.get(item.nodeid)
        if entry is None:
            return (yield)
        try:
            with time_limit(self.settings.case_timeout):
                result = yield
            entry.benchmark = benchmark_of(item)
            return result
        except BaseException as error:
            entry.row |= taken_back(item)  # before anything else: pytest-benchmark would save these rounds as a time
            if (ended := self.how(error)) is None or (entry.params is not None and isinstance(error, Exception)):
                self.make_room(item.session)
                raise  # a call beside another one fails its test, also for lack of memory
            entry.row |= ended
            if isinstance(error, (KeyboardInterrupt, pytest.exit.Exception)):
                raise
            traceback.clear_frames(error.__traceback__)  # they hold the workload
        works = self.make_room(item.session)
        if works and ended["status"] == "oom" and entry.case is not None:
            entry.row = needed_bytes(entry.case, self.settings, self.device) | entry.row
        pytest.skip(entry.row["reason"])

    def make_room(self, session: pytest.Session) -> bool:
        """Free the memory of a case that ended early; stop the session if its device can run nothing any more.

        Returns:
            True if the device works.
        """
        gc.collect()
        if reason := self.device.lost():
            name = self.device.torch_device
            session.shouldstop = f"nothing runs on {name} any more: {reason}; --resume goes on in a new process"
            return False
        self.device.release()
        return True

    def how(self, error: BaseException) -> dict[str, Any] | None:
        """Return the status and reason of a test that ended with this exception; None if it is a failure."""
        if isinstance(error, (Left, Unavailable)):
            return error.row if isinstance(error, Left) else {"status": "unsupported", "reason": str(error)}
        if isinstance(error, TimeIsUp):
            return {"status": "timeout", "reason": f"it took longer than {self.settings.case_timeout:g} s"}
        if isinstance(error, (KeyboardInterrupt, pytest.exit.Exception)):
            return {"status": "interrupted", "reason": f"the run ended in it: {str(error) or type(error).__name__}"}
        if is_out_of_memory(error):
            return {"status": "oom", "reason": first_line(str(error) or type(error).__name__)}
        return None

    @pytest.hookimpl(trylast=True)
    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Store a test's outcome in its entry: status, reason and the seconds spent on it."""
        entry = self.entries.get(report.nodeid)
        if entry is None or (report.when != "call" and report.passed):
            return
        if report.passed:
            entry.row |= {"status": "ok", "reason": None}
            if entry.params is not None and "found" not in entry.row:
                entry.row |= {"status": "unsupported", "reason": "its test did not call beside"}
            entry.spent_s = report.duration if entry.timed_s else 0.0
        elif report.skipped:
            if entry.status == NOT_YET["status"]:  # by the test itself
                reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else str(report.longrepr)
                entry.row |= {"status": "unsupported", "reason": reason}
        else:
            crash = getattr(report.longrepr, "reprcrash", None)
            text = str(report.longrepr) if crash is None else crash.message
            entry.row |= {"status": "error", "reason": first_line(text)}
        if entry.status != "ok":
            entry.benchmark = None

    def pytest_benchmark_update_machine_info(self, machine_info: dict[str, Any]) -> None:
        """Add node, device, threads, versions and settings; remove the CPU's frequency, which always changes."""
        for name in ("hz_actual", "hz_actual_friendly"):
            machine_info["cpu"].pop(name, None)
        machine_info |= {"node": environment.node(), "attnlib": environment.describe(self.device)}


def is_measured(item: pytest.Item) -> bool:
    """Return True for a test that has a case or uses the fixture ``benchmark``."""
    is_case = isinstance(item, pytest.Function) and grid_of(item.function) is not None
    return is_case or "benchmark" in getattr(item, "fixturenames", ())


def is_beside(item: pytest.Item) -> bool:
    """Return True for a test that measures callables beside each other, with the fixture ``beside``."""
    return {"beside", "benchmark"} <= set(getattr(item, "fixturenames", ()))


def parameters_of(item: pytest.Item) -> dict[str, Any]:
    """Return a test's parameters by name: scalars as they are, others by their name or as text."""
    params = item.callspec.params if isinstance(item, pytest.Function) and hasattr(item, "callspec") else {}
    scalar = (str, int, float, bool, type(None))
    return {
        name: value if isinstance(value, scalar) else printable(getattr(value, "__name__", None) or str(value))[:64]
        for name, value in params.items()
    }


def spelled_out(keyword: str) -> tuple[str, list[tuple[str, str]]]:
    """Rewrite a ``-k`` expression such as ``forward[seq_len=64-pe=none]``, since pytest's has no "=".

    Returns:
        the expression, in which ``:seq_len:64: and :pe:none:`` stand for the fields; and names and values of these.
    """
    keyword = re.sub(r"\[([^\]]*=[^\]]*)\]", r" and \1", keyword)
    chain = re.compile(r"[\w.]+=[\w.:]+(?:-[\w.]+=[\w.:]+)*")

    def named(found: re.Match[str]) -> str:
        return "(" + " and ".join(f":{name}:{value}:" for name, value in EQUALS.findall(found[0])) + ")"

    return chain.sub(named, keyword), EQUALS.findall(keyword)


def benchmark_of(item: pytest.Item) -> dict[str, Any] | None:
    """Return what pytest-benchmark saves of a test that ended well; None if it measured nothing.

    Raises:
        AssertionError: a sample is not finite, **or** what should be saved would break the results contract.
    """
    fixture = getattr(item, "funcargs", {}).get("benchmark")
    if fixture is None or not fixture.stats:
        return None
    samples = fixture.stats.stats.data
    if wrong := sum(not math.isfinite(sample) for sample in samples):
        raise AssertionError(message(f"{wrong} of {len(samples)} samples are not finite"))
    nulled: list[str] = []
    saved: dict[str, Any] = plain(fixture.stats.as_dict(include_data=True), nulled=nulled)
    saved.pop("cprofile", None)  # it names folders
    if nulled:
        saved["extra_info"]["not_finite"] = nulled
    return checked(saved, "".join(f"; {text}" for text in nulled))


def checked(saved: dict[str, Any], more: str = "") -> dict[str, Any]:
    """Return a benchmark as plain JSON that keeps the results contract.

    Raises:
        AssertionError: it breaks the contract; the message says how, followed by ``more``.
    """
    saved = plain(saved)
    if found := examine_benchmark(saved)[1]:
        raise AssertionError(found[0] + more)
    return saved


def first_line(text: str) -> str:
    """Return the first line of an exception's message, without folders, for a row."""
    return FOLDERS.sub("", text.strip().partition("\n")[0]) or "no message"


def taken_back(item: pytest.Item) -> dict[str, Any]:
    """Remove the rounds of a test that ended early from pytest-benchmark; return them as ``partial``, for its row."""
    fixture = getattr(item, "funcargs", {}).get("benchmark")
    if fixture is None:
        return {}
    samples: list[float] = fixture.stats.stats.data if fixture.stats else []
    had = plain({"samples": samples, "extra_info": fixture.extra_info})
    samples.clear()
    return {"partial": had} if any(had.values()) else {}
