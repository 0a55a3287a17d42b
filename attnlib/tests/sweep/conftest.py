"""A sweep whose pytest is a fake."""

import sys

import pytest

from attnlib.sweep import task
from attnlib.sweep.folder import Sweep
from attnlib.tests import ROOT


@pytest.fixture(name="sweep")
def _sweep(tmp_path, monkeypatch):
    """Begins a sweep of ``cells`` cases; what it says is in its list ``says``."""
    fake = [sys.executable, "-m", "attnlib.tests.sweep.fake"]
    monkeypatch.setattr(task, "POLL_EVERY", 0.01)
    monkeypatch.setattr(task, "command", lambda sweep, *more: [*fake, *sweep.asked.options, *more])

    def begin(*options, shards=3, runs=1, name="sweep", place="local", **more):
        return Sweep.create(
            tmp_path / name,
            name="fake",
            place=place,
            options=list(options),
            shards=shards,
            runs=runs,
            order_seed=1,
            where=str(ROOT),
            **more,
        )

    return begin
