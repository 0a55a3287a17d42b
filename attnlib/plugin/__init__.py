"""The pytest plugin: options, fixtures, how a case is measured, and how a session is kept and saved.

``pytest_plugins = ["attnlib.plugin"]`` in a ``conftest.py``, or ``pytest -p attnlib.plugin``, loads it. No torch at
module level: pytest-benchmark's own command line loads it too. PYTEST_DONT_REWRITE, since it asserts nothing and may be
imported before pytest loads it.
"""

from attnlib.plugin.fixtures import (
    announce,
    case,
    check_case,
    device,
    measure_case,
    ratio,
    settings,
    study,
    train_case,
)
from attnlib.plugin.hooks import (
    pytest_addoption,
    pytest_benchmark_compare_machine_info,
    pytest_configure,
    pytest_generate_tests,
    pytest_ignore_collect,
    pytest_sessionstart,
)

__all__ = [
    "announce",
    "case",
    "check_case",
    "device",
    "measure_case",
    "pytest_addoption",
    "pytest_benchmark_compare_machine_info",
    "pytest_configure",
    "pytest_generate_tests",
    "pytest_ignore_collect",
    "pytest_sessionstart",
    "ratio",
    "settings",
    "study",
    "train_case",
]
