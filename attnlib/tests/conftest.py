"""What several files of tests share."""

import pytest

from attnlib.tests.sessions import Sessions


@pytest.fixture(name="sessions", scope="session")
def _sessions(tmp_path_factory):
    with Sessions(tmp_path_factory.mktemp("sessions")) as sessions:
        yield sessions
