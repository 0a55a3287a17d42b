"""Speed of the machine during a run: median seconds of each kind of work of the canary, compared with other runs.

A ratio of two cases depends on it: in an hour in which memory traffic took three times as long and products 1.6 times,
cases that move much memory had larger ratios, and nothing within the run showed it.
"""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from attnlib.runs.find import numbered
from attnlib.runs.load import Run, kind_of

Speed = Mapping[str, float]  # median seconds by kind of work
# Largest factor between runs of one speed. Medians of the five reference runs, whose ratios agree, lie within 1.19 of
# the median of the others.
FAR = 1.25
NEWEST = 20  # saved runs that are read
NAMES = {"products": "products", "traffic": "memory traffic", "operators": "small operators"}


def speed(readings: Iterable[Mapping[str, Any]], device: str) -> Speed:
    """Return the median seconds of each kind of work on a device.

    Readings that were taken while waiting for a slow spell to pass are left out.

    Args:
        readings: of the canary.
        device: kind of the device.
    """
    kinds: dict[str, list[float]] = {}
    for reading in readings:
        if reading.get("device", device) == device and not reading.get("waited"):
            for kind, seconds in reading.get("kinds", {}).items():
                kinds.setdefault(kind, []).append(seconds)
    return {kind: float(np.median(seconds)) for kind, seconds in kinds.items()}


def of_run(run: Run) -> Speed:
    """Return the speed of the machine during a saved run."""
    return speed(run.data["attnlib"].get("canary", ()), run.device_kind)


def factors(base: Sequence[Speed], new: Sequence[Speed]) -> dict[str, float]:
    """Return new / base of each kind of work, medians over runs; kinds that a side lacks are left out."""
    shared = [kind for kind in NAMES if all(any(kind in one for one in side) for side in (base, new))]
    before, after = ([np.median([one[kind] for one in side if kind in one]) for kind in shared] for side in (base, new))
    return {kind: float(now / old) for kind, old, now in zip(shared, before, after, strict=True)}


def change(base: Sequence[Speed], new: Sequence[Speed]) -> str | None:
    """Return in words how the speed changed from base to new; None if each kind changed by less than ``FAR``."""
    found = factors(base, new)
    if all(1 / FAR < factor < FAR for factor in found.values()):
        return None
    return ", ".join(f"{NAMES[kind]} {factor:.2f}" for kind, factor in found.items()) + " times as long"


def spread(runs: Sequence[Run]) -> str | None:
    """Return in words how far the speeds of several runs lie apart; None if each kind stays within ``FAR`` squared."""
    speeds = [of_run(run) for run in runs] if len(runs) > 1 else []
    kinds = {kind: [one[kind] for one in speeds if kind in one] for kind in NAMES}
    found = {kind: max(own) / min(own) for kind, own in kinds.items() if own}
    if all(factor < FAR**2 for factor in found.values()):
        return None
    return ", ".join(f"{NAMES[kind]} up to {factor:.2f}" for kind, factor in found.items()) + " times as long"


def earlier(folder: Path, machine_info: dict[str, Any], device: str) -> list[Speed]:
    """Return the speeds in the newest saved runs, and in the reference runs, on machines of this kind.

    Args:
        folder: of saved runs.
        machine_info: of the session.
        device: kind of its device.
    """
    paths = [*list(numbered(folder))[-NEWEST:], *sorted((folder / "reference").glob("*.json"))]
    heard = [found for path in paths if (found := _read(path)) is not None]
    kind = kind_of(machine_info)
    speeds = [speed(found.attnlib.canary, device) for found in heard if kind_of(found.machine_info) == kind]
    return [own for own in speeds if own]


class _Ours(msgspec.Struct):
    """The part of a run's section ``attnlib`` that is read here."""

    canary: list[dict[str, Any]] = []


class _Heard(msgspec.Struct):
    """The part of a saved run that is read here."""

    machine_info: dict[str, Any]
    attnlib: _Ours


def _read(path: Path) -> _Heard | None:
    """Return the canary's readings of a saved run; None if the file is no run, which commands that show it say."""
    try:
        return msgspec.json.decode(path.read_bytes(), type=_Heard)
    except (OSError, msgspec.MsgspecError, ValueError, RecursionError):
        return None
