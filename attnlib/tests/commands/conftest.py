"""The package as it is installed from a wheel, in a folder of its own."""

import fcntl
import os
import shutil
import subprocess
import sys
from contextlib import contextmanager

import pytest

from attnlib.tests import ROOT


@pytest.fixture(name="site", scope="session")
def _site(tmp_path_factory):
    """Build the wheel and install it into a folder, which is returned; of several workers the first one does."""
    base = tmp_path_factory.getbasetemp()
    site = (base.parent if "PYTEST_XDIST_TESTRUNUID" in os.environ else base) / "installed"
    with alone(site.with_suffix(".lock")):
        if not site.exists():
            install(*(tmp_path_factory.mktemp(name) for name in ("source", "installing"))).rename(site)
    return site


@contextmanager
def alone(path):
    """Let one process at a time go on."""
    with path.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def install(source, site):
    """Build the wheel and install it into ``site``, which is returned."""
    shutil.copytree(ROOT / "attnlib", source / "attnlib", ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "README.md"):
        shutil.copy(ROOT / name, source)
    quiet = [sys.executable, "-m", "pip", "--disable-pip-version-check", "-q"]
    build = ["wheel", "--no-deps", "--no-build-isolation", "--wheel-dir", str(site), str(source)]
    subprocess.run([*quiet, *build], check=True)
    (wheel,) = site.glob("attnlib-*.whl")
    subprocess.run([*quiet, "install", "--no-deps", "--target", str(site), str(wheel)], check=True)
    return site


@pytest.fixture(name="attnlib", scope="module")
def _attnlib(site, tmp_path_factory):
    """Run Python with the installed package in an empty folder."""
    empty = tmp_path_factory.mktemp("empty")
    environment = os.environ | {"PYTHONPATH": str(site)}

    def run(*words):
        command = [sys.executable, *words]
        return subprocess.run(command, cwd=empty, env=environment, capture_output=True, text=True, check=False)

    assert run("-c", "import attnlib; print(attnlib.__file__)").stdout.startswith(str(site))
    run.folder = empty
    return run
