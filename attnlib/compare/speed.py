"""Speed of the machine during a run: median seconds of each kind of work of the canary, compared with other runs.

A ratio of two cases depends on it, since they differ in the kinds of work that they do, and nothing within a run shows
a speed that it has throughout.
"""

from collections.abc import Iterator, Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from attnlib.runs.find import newest_first
from attnlib.runs.load import Run, contents_of, kind_of
from attnlib.runs.schema import Canary, MachineInfo

Speed = Mapping[str, float]  # median seconds by kind of work
# Runs differ in speed if a kind of work differs by more than this factor. In the five reference runs, whose ratios
# agree, the medians of memory traffic lie up to 1.29 apart, and those of any 60 readings in a row within 1.5 of the
# other runs in 99 %, those of 15 in a row in 96 %.
FAR = 1.5
FEWEST = 60  # readings of a run whose speed is told
NEWEST = 20  # saved runs that are compared
SEARCHED = 100  # saved runs that are read to find these
NAMES = {"products": "products", "traffic": "memory traffic", "operators": "small operators"}


def of_readings(readings: Sequence[Mapping[str, Any]], device: str) -> Speed:
    """Return the median seconds of each kind of work on devices of a kind; empty with fewer than ``FEWEST`` readings.

    Readings that were taken while waiting for a slow spell to pass are left out.
    """
    kinds: dict[str, list[float]] = {kind: [] for kind in NAMES}
    for reading in msgspec.convert(readings, Sequence[Canary]):
        if (reading.device or device) == device and not reading.waited:
            for kind in NAMES.keys() & reading.kinds.keys():
                kinds[kind].append(reading.kinds[kind])
    return {kind: float(np.median(seconds)) for kind, seconds in kinds.items() if len(seconds) >= FEWEST}


def of_run(run: Run) -> Speed:
    """Return the speed during a saved run; empty if it is unknown, or if the run was merged from shards."""
    return {} if run.merged else of_readings(run.data["attnlib"].get("canary", ()), run.device_kind)


def change(base: Sequence[Speed], new: Sequence[Speed]) -> str | None:
    """Return in words how the speed changed from base to new; None if it did not, or is unknown.

    It changed if a kind of work has ranges that lie further apart than a factor of ``FAR``. The words have new / base,
    of medians.
    """
    before, after = by_kind(base), by_kind(new)
    return in_words(
        {
            kind: float(np.median(after[kind]) / np.median(before[kind]))
            for kind in before.keys() & after.keys()
            if min(after[kind]) > FAR * max(before[kind]) or FAR * max(after[kind]) < min(before[kind])
        }
    )


def spread(runs: Sequence[Run]) -> str | None:
    """Return in words how far the speeds of several runs lie apart; None if each kind of work is within ``FAR``."""
    kinds = by_kind([of_run(run) for run in runs] if len(runs) > 1 else [])
    found = in_words({kind: max(own) / min(own) for kind, own in kinds.items() if max(own) > FAR * min(own)})
    return None if found is None else f"{found} in the slowest run as in the fastest"


def by_kind(speeds: Sequence[Speed]) -> dict[str, list[float]]:
    """Return the seconds of each kind of work, one a run that knows it."""
    return {kind: own for kind in NAMES if (own := [speed[kind] for speed in speeds if kind in speed])}


def in_words(factors: Mapping[str, float]) -> str | None:
    """Return by which factor each kind of work took longer; None without any."""
    found = [f"{NAMES[kind]} took {factors[kind]:.2f} times as long" for kind in NAMES if kind in factors]
    return ", ".join(found) or None


def earlier(
    folder: Path, references: Path, machine_info: dict[str, Any], device: str, run: str | None = None
) -> list[Speed]:
    """Return the speeds in the ``NEWEST`` saved runs on machines of this kind, and in reference runs on such machines.

    Args:
        folder: of saved runs.
        references: folder of reference runs.
        machine_info: of the machine.
        device: kind of the device.
        run: token of a run that is left out.
    """
    groups = newest_first(folder)[:SEARCHED], sorted(references.rglob("*.json"))
    return [own for paths in groups for own in islice(speeds(paths, machine_info, device, run), NEWEST)]


def speeds(paths: Sequence[Path], machine_info: dict[str, Any], device: str, run: str | None) -> Iterator[Speed]:
    """Yield the speed in each saved run on a machine of this kind; ``run`` and files that are no runs are left out."""
    for path in paths:
        try:
            found = msgspec.json.decode(contents_of(path), type=_SavedRun)
            msgspec.convert(found.machine_info, MachineInfo)
            own = of_readings(found.attnlib.canary, device)
        except (OSError, msgspec.MsgspecError, ValueError, RecursionError):  # commands that show it say what is wrong
            continue
        counts = found.attnlib.nodes is None and (run is None or found.attnlib.run != run)
        if own and counts and kind_of(found.machine_info) == kind_of(machine_info):
            yield own


class _Section(msgspec.Struct):
    """The part of a saved run's section ``attnlib`` that is read here."""

    canary: list[dict[str, Any]] = []
    run: str | None = None
    nodes: dict[str, Any] | None = None


class _SavedRun(msgspec.Struct):
    """The part of a saved run that is read here."""

    machine_info: dict[str, Any]
    attnlib: _Section
