"""Saved runs of several machines side by side: ratios over the reference, and their signs on all machines."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any, NamedTuple

from attnlib.compare.cells import AXES, Cells, belong_together, differing_fields
from attnlib.compare.intervals import Estimate
from attnlib.compare.pairs import is_itself, reference_of
from attnlib.errors import message
from attnlib.runs.load import Cell, Run

LONGER, SHORTER, OPPOSITE, UNDECIDED = SIGNS = ("longer", "shorter", "opposite", "undecided")


class Machine(NamedTuple):
    """A machine under a name of its own, and the cells of its runs."""

    name: str
    cells: Cells


class Place(NamedTuple):
    """Phase, number of layers and sequence length of cases that differ in their encoding only."""

    phase: str
    depth: int
    seq_len: int


Places = dict[Place, dict[str, list[Cell]]]  # the cells of each case, one a run, by place and encoding


@dataclass(frozen=True)
class Sign:
    """A ratio of times at every place that all machines have measured.

    Args:
        phase: of the steps.
        pe: encoding whose time is divided.
        over: encoding by whose time it is divided; None for the reference.
        ratios: the ratio on each machine, by place and name of the machine.
    """

    phase: str
    pe: str
    over: str | None
    ratios: dict[Place, dict[str, Estimate]]

    def places(self, sign: str) -> list[Place]:
        """Return the places at which the machines together have this sign, see ``common_sign``."""
        return [place for place, found in self.ratios.items() if common_sign(list(found.values())) == sign]

    @property
    def apart(self) -> list[Place]:
        """Places at which the intervals of two machines do not overlap."""
        return [
            place
            for place, found in self.ratios.items()
            if max(ratio.low for ratio in found.values()) > min(ratio.high for ratio in found.values())
        ]


def machines(runs: Sequence[Run]) -> list[Machine]:
    """Return the machines of these runs, in the order of their first runs.

    Raises:
        ValueError: the runs of a machine are of unlike stacks, which have no mean.
    """
    groups: list[list[Run]] = []
    for run in runs:
        own = next((group for group in groups if belong_together(run, group[0])), None)
        if own is None:
            groups.append([run])
        else:
            own.append(run)
    for group in groups:
        refuse_unlike(differing_fields(group))
    return [Machine(*own) for own in zip(names([group[0] for group in groups]), map(Cells, groups), strict=True)]


def refuse_unlike(fields: str) -> None:
    """Refuse runs that differ in these fields.

    Raises:
        ValueError: there are such fields.
    """
    if fields:
        raise ValueError(message(f"unlike stacks cannot share a table: {fields}", do="choose runs of one kind"))


def differing(found: Sequence[Machine]) -> str:
    """Return the fields, except device, in which the stacks of machines differ; an empty text if in none."""
    return differing_fields([run for machine in found for run in machine.cells.runs], AXES | {"device"})


def names(runs: Sequence[Run]) -> list[str]:
    """Return a name for the machine of each run: its device, and in what it differs from others of this name."""
    plain = [device_name(run) for run in runs]
    found: list[str] = []
    for run, name in zip(runs, plain, strict=True):
        alike = [other.machines[0] for other, same in zip(runs, plain, strict=True) if same == name]
        own = {field: value for field, value in run.machines[0].items() if isinstance(value, str | int | float)}
        words = [f"{field} {value}" for field, value in own.items() if any(one[field] != value for one in alike)]
        whole = f"{name} ({', '.join(words)})" if words else name
        found.append(f"{whole} [{found.count(whole) + 1}]" if whole in found else whole)
    return found


def device_name(run: Run) -> str:
    """Return the name of the device that a run measured: of a graphics card, or else of the processor."""
    machine = run.machines[0]
    return str(machine["device"] or machine["cpu"] or f"unknown {run.device_kind}")


def measured_places(cells: Cells) -> Places:
    """Return the cases that were measured beside a reference; of the phases the train step comes first."""
    found: Places = {}
    for phase in sorted(cells.axis("phase"), reverse=True):
        groups = [group for group in cells.where(phase=phase) if any(cell.ratio for cell in group)]
        for group in sorted(groups, key=lambda own: (own[0].case.depth, own[0].case.seq_len)):
            case = group[0].case
            found.setdefault(Place(phase, case.depth, case.seq_len), {})[case.pe] = group
    return found


def all_places(measured: Sequence[Places]) -> list[Place]:
    """Return the places that any machine has measured, the train step's first, then by depth and length."""
    found = {place for own in measured for place in own}
    phases = sorted({place.phase for place in found}, reverse=True)
    return sorted(found, key=lambda place: (phases.index(place.phase), place.depth, place.seq_len))


def encodings(found: Sequence[Machine]) -> list[str]:
    """Return the encodings of all machines in registry order."""
    return list(dict.fromkeys(name for machine in found for name in machine.cells.names("pe")))


def references(found: Sequence[Machine]) -> list[dict[str, Any]]:
    """Return the fields by which references differ from their cases; a list of one, or empty without references."""
    cells = [cell for machine in found for run in machine.cells.runs for cell in run.cells]
    fields = [cell.ratio.reference for cell in cells if cell.ratio]
    return [own for place, own in enumerate(fields) if own not in fields[:place]]


def signs(found: Sequence[Machine]) -> Iterator[Sign]:
    """Yield, phase by phase, the ratio of each encoding over the reference, then of each encoding over each other."""
    measured = [measured_places(machine.cells) for machine in found]
    order = encodings(found)
    for phase in dict.fromkeys(place.phase for place in all_places(measured)):
        pairs = [(pe, None) for pe in order] + [(pe, over) for over, pe in combinations(order, 2)]
        for pe, over in pairs:
            sign = Sign(phase, pe, over, shared_ratios(found, measured, phase, pe, over))
            if sign.ratios:
                yield sign


def shared_ratios(
    found: Sequence[Machine], measured: Sequence[Places], phase: str, pe: str, over: str | None
) -> dict[Place, dict[str, Estimate]]:
    """Return the ratios of a ``Sign``: by place and machine, where every machine has one."""
    ratios: dict[Place, dict[str, Estimate]] = {}
    for place in (place for place in all_places(measured) if place.phase == phase):
        own = {
            machine.name: ratio
            for machine, places in zip(found, measured, strict=True)
            if (ratio := ratio_at(machine.cells, places.get(place, {}), pe, over))
        }
        if len(own) == len(found):
            ratios[place] = own
    return ratios


def ratio_at(cells: Cells, groups: dict[str, list[Cell]], pe: str, over: str | None) -> Estimate | None:
    """Return the ratio of an encoding's time to another's, or to its reference's, at one place of one machine.

    None if one of the two was not measured there, **or** they were measured beside different references, **or** the
    encoding is the reference itself.
    """
    group, base = groups.get(pe, []), groups.get(over, []) if over else []
    if over is None:
        return None if any(map(is_itself, group)) else cells.over_reference(group)
    if any(map(is_itself, [*group, *base])) or beside(group) != beside(base):
        return None
    return cells.ratio(group, base)


def beside(group: Sequence[Cell]) -> set[Any]:
    """Return the references of a case."""
    return {reference_of(cell) for cell in group if cell.ratio}


def common_sign(ratios: Sequence[Estimate]) -> str:
    """Return on which side of 1 the intervals of all machines lie: ``longer`` or ``shorter``.

    ``opposite`` if one lies above 1 and another one below it, and otherwise ``undecided``: at least one contains 1.
    """
    found = {LONGER if ratio.low > 1 else SHORTER if ratio.high < 1 else UNDECIDED for ratio in ratios}
    if {LONGER, SHORTER} <= found:
        return OPPOSITE
    return found.pop() if len(found) == 1 else UNDECIDED


def reference_times(cells: Cells) -> dict[Place, Estimate]:
    """Return the seconds of the reference at each place where all encodings share one."""
    found = {}
    for place, groups in measured_places(cells).items():
        shared = set().union(*map(beside, groups.values()))
        time = cells.reference_time(next(iter(groups.values()))) if len(shared) == 1 else None
        if time is not None:
            found[place] = time
    return found


def as_json(found: Sequence[Machine]) -> dict[str, Any]:
    """Return machines, ratios over the reference, signs and seconds as JSON objects."""
    rows = []
    for machine in found:
        for place, groups in measured_places(machine.cells).items():
            ratios = {pe: machine.cells.over_reference(group) for pe, group in groups.items()}
            rows += [
                {**place._asdict(), "pe": pe, "machine": machine.name, **ratio._asdict()}
                for pe, ratio in ratios.items()
                if ratio
            ]
    return {
        "machines": [
            {"name": machine.name, "runs": [run.name for run in machine.cells.runs], **machine.cells.runs[0].kind}
            for machine in found
        ],
        "references": references(found),
        "ratios": rows,
        "signs": [
            {"phase": sign.phase, "pe": sign.pe, "over": sign.over}
            | {word: [place._asdict() for place in sign.places(word)] for word in SIGNS}
            | {"apart": [place._asdict() for place in sign.apart]}
            for sign in signs(found)
        ],
        "reference_s": [
            {**place._asdict(), "machine": machine.name, **time._asdict()}
            for machine in found
            for place, time in reference_times(machine.cells).items()
        ],
    }
