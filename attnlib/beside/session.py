"""A session that uses ``beside``: it gets the book-keeping of this suite, unless the suite's plugin keeps it."""

import os
from typing import Any

import pytest

from attnlib.cases.settings import Settings
from attnlib.measure.device import open_device
from attnlib.plugin.options import NO_BENCHMARK
from attnlib.plugin.record import Record
from attnlib.plugin.saving import Saving
from attnlib.plugin.screen import Screen
from attnlib.plugin.stash import RECORD, SCREEN


def join(config: pytest.Config) -> None:
    """Register what follows the tests of a session that use ``beside``; once, and not beside the suite's own.

    Raises:
        pytest.UsageError: an option has a wrong value.
    """
    if RECORD in config.stash:
        return
    os.environ.setdefault("KINETO_LOG_LEVEL", "5")  # the profiler's own chatter
    option = config.option
    given = {"threads": option.beside_threads, "device": option.beside_device}
    try:
        settings = Settings.from_options(given)
        device = open_device(settings.base.device)
    except ValueError as error:
        raise pytest.UsageError(str(error).replace("--threads", "--beside-threads")) from None
    config.stash[RECORD] = record = Record(settings, device, guest=True)
    config.stash[SCREEN] = screen = Screen(record)
    benchmarks: Any = config.pluginmanager.get_plugin("pytest-benchmark")
    if benchmarks is None:
        raise pytest.UsageError(NO_BENCHMARK)
    plugins: tuple[Any, ...] = (record, screen)
    if not benchmarks.disabled:  # else nothing is measured, and there is nothing to keep
        plugins += (Saving(config, record),)
    for plugin in plugins:
        config.pluginmanager.register(plugin, f"attnlib-{type(plugin).__name__.lower()}")
