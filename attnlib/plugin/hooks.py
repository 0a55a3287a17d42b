"""Pytest hooks that read the options, open the device, and parametrize tests with their cases."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from attnlib.errors import message
from attnlib.plugin import options
from attnlib.plugin.stash import COMPARED, RECORD, SCREEN, SHARD

if TYPE_CHECKING:
    from collections.abc import Generator, Mapping, Sequence

    from attnlib.cases.grids import Grid
    from attnlib.cases.settings import Settings

OF_ANY_MODEL = ("test_forward.py", "test_backward.py", "test_train_step.py")
AXES = {"seq_len": "seq_lens", "depth": "depths", "pe": "pe", "data": "data"}  # options by field of an id
OWN_FILES = {"seed": "test_seed.py", "switches": "test_switches.py"}  # which a preset's runs collect alone, by preset
BY_NAME = (
    "test_peers.py",
    "test_learning.py",
    "test_lengths.py",
)  # files that are collected only if the command line names them
HERE = Path(__file__).parents[2]  # the folder that the package lies in; in a checkout its tests lie in bench/


def pytest_addoption(parser: pytest.Parser, pluginmanager: pytest.PytestPluginManager) -> None:
    """Declare the options.

    Raises:
        pytest.UsageError: pytest-benchmark is blocked, so that pytest would call its options unknown.
    """
    if pluginmanager.is_blocked("benchmark"):
        raise pytest.UsageError(options.NO_BENCHMARK)
    options.declare(parser)


@pytest.hookimpl(tryfirst=True)
def pytest_configure(config: pytest.Config) -> None:
    """Set environment variables and settle the options, before torch is imported and pytest-benchmark set up."""
    # Measured on 2 cores: a passive wait makes small steps 2.5 times slower on an idle machine and gains a fifth on a
    # busy one; binding gains nothing and pins child processes to one core. So: libgomp's spin, unbound.
    os.environ.setdefault("OMP_PROC_BIND", "false")
    os.environ.setdefault("KINETO_LOG_LEVEL", "5")  # the profiler's own chatter
    options.settle(config)


def pytest_sessionstart(session: pytest.Session) -> None:
    """Read the options and open the device, before anything is collected or written."""
    from attnlib.cases.options import search
    from attnlib.cases.settings import Settings, on_this_heap
    from attnlib.measure.device import open_device
    from attnlib.plugin.preview import Preview
    from attnlib.plugin.record import Record
    from attnlib.plugin.saving import Saving
    from attnlib.plugin.screen import Screen
    from attnlib.plugin.shards import Chosen, Outliner
    from attnlib.plugin.visits import Visits

    config, option = session.config, session.config.option
    try:
        for folder in reversed(option.attnlib_import_path):
            search(folder)
        settings = Settings.from_options(options.given(config))
        settings = on_this_heap(settings, asked=option.attnlib_heap == "kept")
        if not (option.attnlib_plan or option.collectonly):
            refuse_on_a_cpu(settings)
        shard = None if option.attnlib_shard is None else Chosen(option.attnlib_shard)
    except ValueError as error:
        raise pytest.UsageError(str(error)) from None
    options.check_comparison(config)
    options.check_targets(config)
    config.stash[RECORD] = record = Record(settings, open_device(settings.base.device))
    compared = config.stash.get(COMPARED, [])
    config.stash[SCREEN] = screen = Screen(record, compared)
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


def refuse_on_a_cpu(settings: Settings) -> None:
    """Refuse the preset ``gpu`` on a CPU, where it would take days.

    Raises:
        ValueError: the preset is ``gpu`` and the device is a CPU.
    """
    if settings.preset == "gpu" and settings.base.device == "cpu":
        advice = "choose --device cuda, or --preset smoke, laptop or seed; --plan lists its cases anywhere"
        raise ValueError(message("--preset gpu is not measured on device cpu", do=advice))


@pytest.hookimpl(wrapper=True)
def pytest_benchmark_compare_machine_info(
    config: pytest.Config, machine_info: dict[str, Any], compared_benchmark: dict[str, Any]
) -> Generator[None, Any, Any]:
    """Store the compared run's machine for ``Screen`` to report, and hide the difference from pytest-benchmark.

    No device is open yet, and pytest-benchmark would print both machines whole.
    """
    config.stash.setdefault(COMPARED, []).append(compared_benchmark["machine_info"])
    compared_benchmark["machine_info"] = machine_info
    return (yield)


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """Ignore the files of ``bench/`` that this run's preset or model does not use, unless the command line names them.

    ``test_seed.py``, the original experiment, and ``test_switches.py`` are collected with ``--preset seed`` and
    ``--preset switches`` only, and then alone; files in ``BY_NAME`` only when named; with a model that is not attnlib's
    stack only the tests of forward, backward and train step.
    """
    if collection_path.parent != HERE / "bench" or not collection_path.name.startswith("test_"):
        return None
    if any(Path(arg.partition("::")[0]).name == collection_path.name for arg in config.args):
        return None
    settings = config.stash[RECORD].settings
    if settings.base.model != "stack":
        return collection_path.name not in OF_ANY_MODEL or None
    if settings.preset in OWN_FILES:
        return collection_path.name != OWN_FILES[settings.preset] or None
    return collection_path.name in (*BY_NAME, *OWN_FILES.values()) or None


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Parametrize a test with the points of its grid, see ``attnlib.cases.grids.over``; ids as seq_len=64-pe=none."""
    from attnlib.cases.grids import grid_of

    if (grid := grid_of(metafunc.function)) is not None:
        settings = metafunc.config.stash[RECORD].settings
        try:
            if not (points := grid.points(settings)):
                wrong = "no cell of these lengths and depths is small enough"
                raise ValueError(message(wrong, do="name --seq-lens or --depths"))
            ids = [identifier(settings, point) for point in points]
            refuse_other_runs(metafunc, grid, ids)
            if shard := metafunc.config.stash.get(SHARD, None):  # a shard of many need not make them all
                chosen = shard.points(metafunc, ids)
                points, ids = [points[n] for n in chosen], [ids[n] for n in chosen]
            for point in points:  # so that one which cannot be made is said before anything runs
                settings.case(**dict(grid.fixed) | point)
        except ValueError as error:  # such as a data set whose package is missing
            raise pytest.Collector.CollectError(str(error)) from None  # shown without a traceback
        names = list(points[0])
        metafunc.fixturenames.extend(names)  # so that a test need not list axes that it does not use
        metafunc.parametrize(names, [tuple(point.values()) for point in points], ids=ids)


def refuse_other_runs(metafunc: pytest.Metafunc, grid: Grid, ids: Sequence[str]) -> None:
    """Refuse a test id on the command line whose case exists only with other options, such as another length.

    Ids are as ``test_forward.py::test_forward[seq_len=64-depth=2-pe=none]``.

    Raises:
        ValueError: no case of this run has the id, and one would with other options; the message names them.
    """
    start = f"{metafunc.definition.nodeid.rpartition('/')[2]}["
    for argument in metafunc.config.args:
        wanted = argument.partition(start)[2].removesuffix("]")
        if wanted and wanted not in ids and (needed := options_of(wanted, grid, options.given(metafunc.config))):
            wrong = f"{wanted} is not a case of a run with these options"
            raise ValueError(message(wrong, do=f"add {needed}"))


def options_of(wanted: str, grid: Grid, given: Mapping[str, str | None]) -> str | None:
    """Return the options that give a run the case of this id; None if no value of ``AXES`` or preset does."""
    from attnlib.cases.options import flag_of
    from attnlib.cases.settings import PRESETS, Settings

    fields = dict(field.partition("=")[::2] for field in wanted.split("-"))
    axes = {option: fields[name] for name, option in AXES.items() if name in fields}
    alone = [{option: value} for option, value in axes.items()]
    presets = [{"preset": preset} for preset in PRESETS]
    for more in (*alone, axes, *presets, *(preset | axes for preset in presets)):
        try:
            settings = Settings.from_options({**given, **more})
            points = grid.points(settings)
        except ValueError:  # these options do not go with the others
            continue
        if wanted in (identifier(settings, point) for point in points):
            return " ".join(f"{flag_of(option)} {value}" for option, value in more.items())
    return None


def identifier(settings: Settings, point: Mapping[str, Any]) -> str:
    """Return the id of a point, such as seq_len=64-depth=2-pe=none; parts that are not attnlib's have short names."""
    shown = {"pe": settings.encoding_label(point["pe"])} if "pe" in point else {}
    words = {name: settings.shown.get(value, value) for name, value in point.items()} | shown
    return "-".join(f"{name}={value}" for name, value in words.items())
