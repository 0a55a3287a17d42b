"""A callable measured beside another one in a test of any repository: the fixture ``beside`` and its options.

The module behind the entry point ``attnlib`` in group ``pytest11``, so that ``pip install attnlib`` is enough. It
imports pytest alone; torch and the rest come when a test that uses ``beside`` is collected.
"""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable

    from attnlib.beside.cost import Cost
    from attnlib.beside.measuring import Beside

__all__ = ["Cost", "beside", "pytest_addoption", "pytest_itemcollected"]


def __getattr__(name: str) -> Any:
    """Return ``Cost``, which need not be imported with this module."""
    if name != "Cost":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from attnlib.beside.cost import Cost

    return Cost


def number(kind: Callable[[str], Any], least: float, words: str) -> Callable[[str], Any]:
    """Return what reads an option's number of at least ``least``, and says in ``words`` which ones it takes."""

    def read(text: str) -> Any:
        try:
            value = kind(text)
        except ValueError:
            value = -1
        if not least <= value < float("inf"):
            from attnlib.errors import message  # each pytest session of the environment imports this module

            raise argparse.ArgumentTypeError(message(f"takes {words}", text))
        return value

    return read


def pytest_addoption(parser: pytest.Parser) -> None:
    """Declare the options, None where one is not given."""
    group = parser.getgroup("beside", "a callable beside another one (attnlib)")
    group.addoption(
        "--beside-visits",
        metavar="N",
        type=number(int, 2, "a whole number of at least 2"),
        help="number of visits (measurements) of each pair of callables; their spread gives the interval (8)",
    )
    group.addoption(
        "--beside-budget",
        metavar="SECONDS",
        type=number(float, 1e-3, "seconds of at least 0.001"),
        help="seconds of warm-up and rounds of each pair (2)",
    )
    group.addoption(
        "--beside-threshold",
        metavar="SHARE",
        type=number(float, 1e-6, "a positive number"),
        help="the largest change that still counts as the same (0.05)",
    )
    group.addoption(
        "--beside-threads",
        metavar="N",
        help="torch's threads during these tests, or all; by default one core stays free",
    )
    group.addoption(
        "--beside-device",
        metavar="NAME",
        help="device whose work and memory are measured: auto, cpu, cuda, cuda:1, ... (auto)",
    )


def pytest_itemcollected(item: pytest.Item) -> None:
    """Prepare the session for the first test that uses ``beside``; a fixture of that name of others is not ours."""
    if "beside" not in getattr(item, "fixturenames", ()):
        return
    found = item._fixtureinfo.name2fixturedefs.get("beside") if isinstance(item, pytest.Function) else None
    if found and found[-1].func.__module__ == __name__:
        from attnlib.beside.session import join

        join(item.config)


@pytest.fixture
def beside(request: pytest.FixtureRequest, benchmark: Any) -> Beside:
    """Measure a callable beside a reference: time ratio with interval, verdict, and what a call allocates at its peak.

    ``cost = beside(lambda: mine(x), reference=lambda: theirs(x))``; see ``attnlib.beside.measuring.Beside``.
    """
    from attnlib.beside.measuring import Beside

    return Beside(request, benchmark)
