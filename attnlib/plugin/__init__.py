"""The pytest plugin: options, fixtures, how a case is measured, and how a session is kept and saved.

``pytest_plugins = ["attnlib.plugin"]`` in a ``conftest.py``, or ``pytest -p attnlib.plugin``, loads it. No torch at
module level: pytest-benchmark's own command line loads it too. PYTEST_DONT_REWRITE, since it asserts nothing and may be
imported before pytest loads it.

``over``, ``product``, ``slices`` and ``lengths`` (``attnlib.cases.grids``) spread a test of yours over cases, which the
fixture ``measure_case`` measures.
"""

from typing import Any

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


def __getattr__(name: str) -> Any:
    """Return what spreads tests over cases; imported only when asked for, since it loads torch."""
    if name not in ("lengths", "over", "product", "slices"):
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from attnlib.cases import grids

    return getattr(grids, name)
