"""The benchmark suite's pytest plugin: options, hooks and fixtures; the work is in attnlib/ and bench/.

No torch at module level: pytest-benchmark's command line imports this file too.
"""

from __future__ import annotations

import os
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from bench.session import options

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterator

    from attnlib.cases.case import Case
    from attnlib.cases.settings import Settings
    from attnlib.measure.device import Device
    from bench.session.study import Study

RECORD = pytest.StashKey["Record"]()
SCREEN = pytest.StashKey["Screen"]()
SHARD = pytest.StashKey["Chosen"]()
AXES = ("seq_len", "depth", "pe")  # which every timed row has among its params, to be grouped by
COMPARED = pytest.StashKey[list[dict[str, Any]]]()  # machines of the runs that pytest-benchmark compares with


def pytest_addoption(parser: pytest.Parser) -> None:
    """Declare the options."""
    options.declare(parser)


@pytest.hookimpl(tryfirst=True)
def pytest_configure(config: pytest.Config) -> None:
    """Make the choices that must precede torch and pytest-benchmark."""
    # Measured on 2 cores: a passive wait makes small steps 2.5 times slower on an idle machine and gains a fifth on a
    # busy one; binding gains nothing and pins child processes to one core. So: libgomp's spin, unbound.
    os.environ.setdefault("OMP_PROC_BIND", "false")
    os.environ.setdefault("KINETO_LOG_LEVEL", "5")  # the profiler's own chatter
    options.settle(config)


def pytest_sessionstart(session: pytest.Session) -> None:
    """Read the options and open the device, before anything is collected or written."""
    from attnlib.cases.settings import Settings, on_this_heap
    from attnlib.measure.device import open_device
    from bench.session.preview import Preview
    from bench.session.record import Record
    from bench.session.saving import Saving
    from bench.session.screen import Screen
    from bench.session.shards import Chosen, Outliner
    from bench.session.visits import Visits

    config, option = session.config, session.config.option
    try:
        settings = Settings.from_options(options.given(config))
        settings = on_this_heap(settings, asked=option.attnlib_heap == "kept")
        shard = None if option.attnlib_shard is None else Chosen(option.attnlib_shard)
    except ValueError as error:
        raise pytest.UsageError(str(error)) from None
    options.check_comparison(config)
    options.check_targets(config)
    config.stash[RECORD] = record = Record(settings, open_device(settings.base.device))
    config.stash[SCREEN] = screen = Screen(record, config.stash.get(COMPARED, []))
    if option.attnlib_plan_out is not None:
        plugins: tuple[Any, ...] = (Outliner(record, option.attnlib_plan_out),)
    else:
        saving = Saving(config, record)
        later = Visits(record, screen, saving)
        plugins = (Preview(record),) if option.attnlib_plan else (screen, saving, later)
    if shard is not None:
        config.stash[SHARD] = shard
        plugins += (shard,)
    for plugin in (record, *plugins):
        config.pluginmanager.register(plugin, f"attnlib-{type(plugin).__name__.lower()}")


@pytest.hookimpl(wrapper=True)
def pytest_benchmark_compare_machine_info(
    config: pytest.Config, machine_info: dict[str, Any], compared_benchmark: dict[str, Any]
) -> Generator[None, Any, Any]:
    """Leave it to ``Screen`` to say how machines differ: here no device is open, and both would be printed whole."""
    config.stash.setdefault(COMPARED, []).append(compared_benchmark["machine_info"])
    compared_benchmark["machine_info"] = machine_info
    return (yield)


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """Collect the original for ``--preset seed`` only, and then alone; peers and the study of learning when named."""
    if collection_path.parent.name != "bench" or not collection_path.name.startswith("test_"):
        return None
    if any(Path(arg.partition("::")[0]).name == collection_path.name for arg in config.args):
        return None
    seed = config.stash[RECORD].settings.preset == "seed"
    alone = ("test_peers.py", "test_learning.py")
    return collection_path.name in alone or seed != (collection_path.name == "test_seed.py") or None


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Spread a test over its points (``attnlib.cases.grids.over``), with ids such as seq_len=64-depth=2-pe=none."""
    if hasattr(metafunc.function, "points"):
        settings = metafunc.config.stash[RECORD].settings
        try:
            if not (points := metafunc.function.points(settings)):
                raise ValueError("no cell of these lengths and depths is small enough; name --seq-lens or --depths")
            ids = ["-".join(f"{name}={value}" for name, value in point.items()) for point in points]
            if shard := metafunc.config.stash.get(SHARD, None):  # a shard of many need not make them all
                points, ids = ([own[n] for n in shard.points(metafunc, ids)] for own in (points, ids))
            for point in points:  # so that one which cannot be made is said before anything runs
                settings.case(**metafunc.function.fixed | point)
        except ValueError as error:  # such as a data set whose package is missing
            raise pytest.Collector.CollectError(str(error)) from None  # shown without a traceback
        names = list(points[0])
        metafunc.fixturenames.extend(names)  # so that a test need not list axes that it does not use
        metafunc.parametrize(names, [tuple(point.values()) for point in points], ids=ids)


@pytest.fixture(scope="session")
def settings(request: pytest.FixtureRequest) -> Settings:
    """The run's choices."""
    return request.config.stash[RECORD].settings


@pytest.fixture
def device(request: pytest.FixtureRequest) -> Device:
    """The device that is measured."""
    return request.config.stash[RECORD].device


@pytest.fixture
def case(request: pytest.FixtureRequest) -> Case:
    """The case of this test."""
    return request.config.stash[RECORD].case_of(request.node)


@pytest.fixture
def announce(request: pytest.FixtureRequest) -> Callable[[str], None]:
    """Write a progress line for this test."""
    return partial(request.config.stash[SCREEN].announce, request.node)


@pytest.fixture
def ratio(benchmark: Any, announce: Callable[[str], None]) -> Callable[..., None]:
    """Time a step over another, rounds interleaved; save the ratio and show it."""
    from attnlib.measure.sampling import MIN_ROUNDS
    from bench.interleaved import ratio

    def run(title: str, a: Callable[[], None], b: Callable[[], None]) -> None:
        value, low, high, blocks = ratio(a, b)
        benchmark.params = {"seq_len": None, "depth": 1, "pe": "none"} | benchmark.params
        benchmark.extra_info["ratio"] = {"of": title, "value": value, "low": low, "high": high, "blocks": blocks}
        benchmark.pedantic(a, rounds=MIN_ROUNDS)
        announce(f"{title} {value:.3f} [{low:.3f}, {high:.3f}]")

    return run


@pytest.fixture
def check_case(case: Case, announce: Any, request: pytest.FixtureRequest) -> Callable[[], None]:
    """Run this test's check of gradients, save what it found as its row's ``probe``, and assert it."""
    from attnlib.gradients.checks import CHECKS
    from bench.session.screen import name_of

    def run() -> None:
        finding = CHECKS[case.phase](case)
        request.config.stash[RECORD].read(request.node.nodeid, finding.as_json())
        assert not finding.problems, "; ".join(finding.problems)
        announce(f"{name_of(request.node)}  holds: {finding}")

    return run


@pytest.fixture(scope="session")
def study(request: pytest.FixtureRequest) -> Iterator[Study]:
    """What trains cases, its processes ended when the session does."""
    from bench.session.study import Study

    own = Study(request.config.stash[RECORD])
    yield own
    own.trainers.close()


@pytest.fixture
def train_case(case: Case, study: Study, announce: Any, request: pytest.FixtureRequest) -> Callable[[], None]:
    """Train this test's case, and save what came of it as its row's ``probe``."""
    from bench.session.screen import name_of
    from bench.session.study import in_words

    def run() -> None:
        training = study.training(case)
        request.config.stash[RECORD].read(request.node.nodeid, {"training": training})
        announce(f"{name_of(request.node)}  {in_words(training)}")

    return run


@pytest.fixture
def measure_case(
    request: pytest.FixtureRequest, benchmark: Any, case: Case, settings: Settings, announce: Any
) -> Callable[..., None]:
    """Measure this test's case, if it can be and should fit: beside its reference, or alone what ``build`` makes."""
    from attnlib.predict.peak import unfit
    from bench.measuring import measure_case
    from bench.pair import Pair, paired
    from bench.session.record import Left
    from bench.session.screen import name_of, result_line

    record = request.config.stash[RECORD]

    def run(build: Callable[[Case], Any] | None = None) -> None:
        instruments = record.instruments(case)
        if reason := unfit(case, settings, instruments.device):
            raise Left(**reason.row())
        if benchmark.cprofile and case.phase == "backward":
            raise Left("unsupported", "pytest-benchmark profiles a step without its set-up, which makes the graph")
        benchmark.params = {name: getattr(case, name) for name in AXES} | benchmark.params
        pair = (
            paired(case, settings, instruments.device)
            if build is None
            else Pair(build(case), alone="it has its own process")
        )
        timed = measure_case(benchmark, pair, case, settings, instruments)
        if benchmark.stats is not None:
            record.note_time(request.node.nodeid, timed, benchmark.extra_info["time"]["disturbed"])
            announce(result_line(name_of(request.node), benchmark.stats.stats.median, benchmark.extra_info))

    return run
