"""Keys of pytest's ``config.stash``, under which hooks and fixtures share the session's objects."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from attnlib.plugin.record import Record
    from attnlib.plugin.screen import Screen
    from attnlib.plugin.shards import Chosen

RECORD: pytest.StashKey[Record] = pytest.StashKey()
SCREEN: pytest.StashKey[Screen] = pytest.StashKey()
SHARD: pytest.StashKey[Chosen] = pytest.StashKey()
COMPARED: pytest.StashKey[list[dict[str, Any]]] = (
    pytest.StashKey()
)  # machines of the runs that pytest-benchmark compares with
