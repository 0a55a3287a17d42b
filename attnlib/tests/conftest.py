"""Fixtures and warnings that several files of tests share."""

import gc
import os
import shutil

import pytest

from attnlib.tests.plugin.sessions import Sessions, saved, skeleton

# Of two processes that share two cores each gets one: torch's threads would spin on the other's. And the benchmark
# sessions that tests start are no part of this one, though pytest-benchmark would take them for such.
if os.environ.pop("PYTEST_XDIST_WORKER", None):
    os.environ.setdefault("OMP_NUM_THREADS", "1")


# In unit tests every warning is an error, but for these of torch's: when its compiler is loaded, and on a card of TF32.
WARNINGS = (
    "error",
    "ignore:.torch.jit.script:DeprecationWarning",
    "ignore:TensorFloat32 tensor cores:UserWarning",
    "ignore:Please use the new API settings to control TF32:UserWarning",
)


def pytest_configure(config):
    """A user's run is not so strict: no other library's words may cost it a case."""
    for line in WARNINGS:
        config.addinivalue_line("filterwarnings", line)


def pytest_collection_finish():
    """Collections need not walk all of torch and its peers each time."""
    gc.freeze()


@pytest.fixture(name="sessions", scope="session")
def _sessions(tmp_path_factory):
    with Sessions(tmp_path_factory.mktemp("sessions")) as sessions:
        yield sessions


@pytest.fixture(name="struck", scope="session")
def _struck(sessions, tmp_path_factory):
    """Puts into a folder what a session leaves that a fault killed; each fault strikes once, others are copies."""
    left = {}

    def strike(fault, folder):
        if fault not in left:
            left[fault] = tmp_path_factory.mktemp("struck")
            assert sessions("--benchmark-autosave", folder=left[fault], fault=fault).code == 128 + 9
        shutil.copytree(left[fault], folder, dirs_exist_ok=True)

    return strike


@pytest.fixture(name="usual", scope="session")
def _usual(sessions, tmp_path_factory):
    """Return what a session printed that nothing disturbed, and the run that it saved."""
    folder = tmp_path_factory.mktemp("usual")
    done = sessions("--benchmark-autosave", folder=folder)
    assert done.code == 0, done.out
    return done.out, saved(folder)


@pytest.fixture(name="undisturbed", scope="session")
def _undisturbed(usual):
    """Its run, without what depends on time."""
    return skeleton(usual[1])
