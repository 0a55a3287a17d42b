"""What several files of tests share."""

import gc
import os

import pytest

from attnlib.tests.plugin.sessions import Sessions, saved, skeleton

# Of two processes that share two cores each gets one: torch's threads would spin on the other's. And the benchmark
# sessions that tests start are no part of this one, though pytest-benchmark would take them for such.
if os.environ.pop("PYTEST_XDIST_WORKER", None):
    os.environ.setdefault("OMP_NUM_THREADS", "1")


def pytest_collection_finish():
    """Collections need not walk all of torch and its peers each time."""
    gc.freeze()


@pytest.fixture(name="sessions", scope="session")
def _sessions(tmp_path_factory):
    with Sessions(tmp_path_factory.mktemp("sessions")) as sessions:
        yield sessions


@pytest.fixture(name="undisturbed", scope="session")
def _undisturbed(sessions, tmp_path_factory):
    folder = tmp_path_factory.mktemp("undisturbed")
    assert sessions("--benchmark-autosave", folder=folder).code == 0
    return skeleton(saved(folder))
