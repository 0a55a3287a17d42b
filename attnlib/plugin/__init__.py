"""Pytest plugin: its options and fixtures, the measurement of a case, and the saving of a session.

``pytest_plugins = ["attnlib.plugin"]`` in a ``conftest.py``, or ``pytest -p attnlib.plugin``, loads it. No torch at
module level: pytest-benchmark's own command line loads it too. PYTEST_DONT_REWRITE, since it asserts nothing and may be
imported before pytest loads it.

A suite of one's own is a file of tests like those in ``bench/``::

    from attnlib.plugin import lengths, over

    @over(lengths, phase="forward", depth=2)
    def test_forward(measure_case):
        measure_case()

``over`` spreads a test over cases: points from the options (``lengths``, ``slices``, ``product``, or a function of
one's own from ``Settings`` to a list of fields), and fields that all of them share. The fixture ``measure_case``
measures the test's case beside its reference. See ``attnlib.cases.grids`` for each.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

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

if TYPE_CHECKING:
    from attnlib.cases.grids import lengths, over, product, slices, spread

GRIDS = ("lengths", "over", "product", "slices", "spread")  # which need torch, and come when they are asked for

__all__ = [
    "announce",
    "case",
    "check_case",
    "device",
    "lengths",
    "measure_case",
    "over",
    "product",
    "pytest_addoption",
    "pytest_benchmark_compare_machine_info",
    "pytest_configure",
    "pytest_generate_tests",
    "pytest_ignore_collect",
    "pytest_sessionstart",
    "ratio",
    "settings",
    "slices",
    "spread",
    "study",
    "train_case",
]


def __getattr__(name: str) -> Any:
    """Return the function of ``attnlib.cases.grids`` with this name; torch is imported only when one is used."""
    if name not in GRIDS:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from attnlib.cases import grids

    return getattr(grids, name)
