"""Projects of others, in folders of their own, and sessions of pytest in them as ``pip install attnlib`` has them."""

import importlib.metadata
import os
import subprocess
import sys

from attnlib.tests import ROOT

LIGHT = ("-p", "no:cacheprovider", "-p", "no:hypothesispytest", "-p", "no:anyio")  # which take a second to import
INSTALLED = any(found.value == "attnlib.beside" for found in importlib.metadata.entry_points(group="pytest11"))


def python_in(folder, *words, environment=None):
    """Run Python in a folder, with this checkout's attnlib."""
    known = {name: value for name, value in os.environ.items() if not name.startswith(("PYTEST_", "COV_"))}
    known |= {"PYTHONPATH": str(ROOT), "KINETO_LOG_LEVEL": "5", "PYTHONDONTWRITEBYTECODE": "1"} | (environment or {})
    command = [sys.executable, *map(str, words)]
    return subprocess.run(command, cwd=folder, env=known, capture_output=True, text=True, check=False)


def pytest_in(folder, *options, environment=None):
    """Run pytest in a folder; the plugin comes by its entry point, or by name where the metadata is older."""
    plugin = () if INSTALLED else ("-p", "attnlib.beside")
    return python_in(folder, "-m", "pytest", *plugin, *LIGHT, *options, environment=environment)
