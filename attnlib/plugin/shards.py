"""Pytest plugins of a sweep: one writes the plan of all cases and measures none, one selects the tests of a shard."""

import gc
from collections.abc import Generator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from attnlib.cases.case import Case
from attnlib.errors import message
from attnlib.plugin.pace import OTHERS, WORKER, Pace
from attnlib.plugin.plan import fingerprint, machine_info, planned_tests, refuse_twins
from attnlib.plugin.record import Record
from attnlib.runs.save import plain, save_over
from attnlib.sweep.folder import Outline, Shard, read


class Outliner:
    """Plugin that writes a session's plan, for ``attnlib sweep`` to cut into shards, instead of measuring it.

    Args:
        record: the session's.
        path: file to write.
    """

    def __init__(self, record: Record, path: Path) -> None:
        self.record, self.path, self.pace = record, path, Pace(record)
        gc.disable()  # what is planned stays until the end, and would be looked through again and again

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtestloop(self, session: pytest.Session) -> bool | None:
        """Write the file; nothing runs after it."""
        if session.testsfailed or not self.record.entries:
            return None
        self.record.prepare()
        cases = {test: entry.case for test, entry in self.record.entries.items()}
        try:
            refuse_twins(cases)
        except ValueError as error:
            raise pytest.UsageError(str(error)) from None
        machine: dict[str, Any] = machine_info(session.config)
        plugin: Any = session.config.pluginmanager.get_plugin("pytest-benchmark")
        items = {item.nodeid: item for item in session.items}
        outline = Outline(
            kind=plain(fingerprint(machine)),
            platform=Path(plugin.storage.get("x")).parent.name,
            tests=planned_tests(self.record.entries),
            blocks=[block(test, case) for test, case in cases.items()],
            seconds=[self.seconds(items[test], case) for test, case in cases.items()],
        )
        save_over(self.path, msgspec.json.encode(outline), self.path.stem)
        gc.freeze()
        return True

    def seconds(self, item: pytest.Item, case: Case | None) -> float:
        """Return the seconds that a test is estimated to take."""
        worker = WORKER if "workers" in getattr(item, "fixturenames", ()) else 0.0
        return OTHERS if case is None else self.pace(case) + worker


def block(test: str, case: Case | None) -> str:
    """Return the name of a test's block; all tests of a block are put into the same shard.

    Blocks are the cases of a phase, length and depth, since they are compared with each other; trainings on the same
    data, since the first choose a learning rate; each check of gradients; and the tests of a function that have no
    case.
    """
    if case is None:
        return test.partition("[")[0]
    if case.kind == "trained":
        return f"trainings on {case.data}"
    return test if case.kind == "checked" else f"{case.phase} T={case.seq_len} L={case.depth}"


class Chosen:
    """Plugin that selects the tests of a shard.

    Args:
        path: the shard's file.

    Raises:
        ValueError: the file cannot be read.
    """

    def __init__(self, path: Path) -> None:
        self.path, self.shard = path, read(path, Shard)
        self.tests = {planned.test for planned in self.shard.tests}

    def points(self, metafunc: pytest.Metafunc, ids: list[str]) -> list[int]:
        """Return the places of a test's points that are in the shard; the first if none is, as pytest needs one."""
        name = metafunc.definition.nodeid
        own = [number for number, id_ in enumerate(ids) if f"{name}[{id_}]" in self.tests]
        return own or [0]

    @pytest.hookimpl(wrapper=True, trylast=True)
    def pytest_collection_modifyitems(
        self, config: pytest.Config, items: list[pytest.Item]
    ) -> Generator[None, Any, Any]:
        """Deselect the tests that are not in the shard, after other plugins have selected."""
        result = yield
        others = [item for item in items if item.nodeid not in self.tests]
        items[:] = [item for item in items if item.nodeid in self.tests]
        if lacking := self.tests - {item.nodeid for item in items}:
            wrong = f"{self.path}: {len(lacking)} of its tests are not here, as {min(lacking)}"
            raise pytest.UsageError(message(wrong))
        config.hook.pytest_deselected(items=others)
        return result
