"""What several files of tests share."""

import gc

import pytest

from attnlib.tests.sessions import Sessions, saved, skeleton


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
