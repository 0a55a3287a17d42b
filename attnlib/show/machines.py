"""The tables of machines side by side: ratios first, then what holds on all of them, then seconds."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from attnlib.compare.cells import time_note
from attnlib.compare.machines import (
    LONGER,
    OPPOSITE,
    SHORTER,
    SIGNS,
    UNDECIDED,
    Machine,
    Place,
    Sign,
    all_places,
    differing,
    encodings,
    measured_places,
    reference_times,
    references,
    refuse_unlike,
    signs,
)
from attnlib.compare.pairs import fields_in_words, floor
from attnlib.errors import message
from attnlib.show.costs import COST, cost, ratios_of
from attnlib.show.table import Column, Table
from attnlib.show.units import seconds, with_interval

OVERVIEW = {
    "machine": Column(),
    "runs": Column(number=True),
    "timed cases": Column(number=True),
    "disturbed": Column(number=True),
    "torch": Column(),
    "threads": Column(number=True),
    "the reference": Column(prose=True),
}
PLACE = {"L": Column(number=True), "T": Column(number=True)}
APART = "of different size"
MEANING = {
    LONGER: "on every machine the 95 % interval lies above 1",
    SHORTER: "on every machine below 1",
    OPPOSITE: "above 1 on one machine and below 1 on another",
    UNDECIDED: "on at least one machine it contains 1",
    APART: "the intervals of two machines do not overlap",
}


def machine_tables(found: Sequence[Machine]) -> dict[str, list[Table]]:
    """Return the tables of these machines under their titles, in the order in which they are read.

    Raises:
        ValueError: no case was measured beside a reference, **or** the machines measured unlike stacks.
    """
    refuse_unlike(differing(found))
    if not (over := references(found)):
        raise ValueError(message("no case of these runs was measured beside a reference, so there are no ratios"))
    name = " or ".join(dict.fromkeys(map(fields_in_words, over)))
    return {
        "Machines": [overview(found)],
        f"Time over {name}": ratio_tables(found, name),
        "What holds" if len(found) == 1 else "What holds on all machines": sign_tables(found, name),
        "Seconds": [second_table(found, name)],
    }


def overview(found: Sequence[Machine]) -> Table:
    """Return a row a machine: its runs, its timed cases, and the ratios of the reference to itself."""
    rows = []
    for machine in found:
        cells = [cell for run in machine.cells.runs for cell in run.cells if cell.timed]
        kind = machine.cells.runs[0].kind
        values = (len(machine.cells.runs), len(cells), sum(cell.disturbed for cell in cells))
        row = (machine.name, *values, kind["torch"], kind["threads"], floor(cells))
        rows.append(dict(zip(OVERVIEW, row, strict=True)))
    one = ["one machine: what holds here may not hold on another"] if len(found) == 1 else []
    return Table(OVERVIEW, rows, after=[*one, ""])


def ratio_tables(found: Sequence[Machine], name: str) -> list[Table]:
    """Return a table a phase with a row a place and machine and a column an encoding; ``name`` is the reference's."""
    measured = [measured_places(machine.cells) for machine in found]
    tables = []
    for phase, places in by_phase(all_places(measured)).items():
        rows: list[dict[str, Any]] = []
        for place in places:
            for machine, own in zip(found, measured, strict=True):
                if groups := own.get(place):
                    ratios = {pe: machine.cells.over_reference(group) for pe, group in groups.items()}
                    rows.append({"L": place.depth, "T": place.seq_len, "machine": machine.name} | ratios)
        heads = PLACE | ({"machine": Column()} if len(found) > 1 else {})
        used = [pe for pe in encodings(found) if any(pe in row for row in rows)]
        before = [ratios_of(phase, name)]
        tables.append(Table(heads | dict.fromkeys(used, COST), rows, before=before, after=[""], keys=len(heads)))
    notes = dict.fromkeys(f"intervals{on_machine(machine, found)}: {time_note(machine.cells)}" for machine in found)
    return [*tables[:-1], replace(tables[-1], after=[*notes, ""])]


def on_machine(machine: Machine, found: Sequence[Machine]) -> str:
    """Return the words that name a machine, if there are several."""
    return f" on {machine.name}" if len(found) > 1 else ""


def sign_tables(found: Sequence[Machine], name: str) -> list[Table]:
    """Return a table a phase with a row an encoding, a column for each that it stands over, and its signs there."""
    own: dict[str, list[Sign]] = {}
    for sign in signs(found):
        own.setdefault(sign.phase, []).append(sign)
    tables = [sign_table(phase, of_phase, name, several=len(found) > 1) for phase, of_phase in own.items()]
    if not tables:
        return [Table({"encoding": Column()}, [], after=["these machines have no ratio at the same place", ""])]
    used = [word for word in MEANING if len(found) > 1 or word not in (OPPOSITE, APART)]
    note = [
        "places: depths and lengths that every machine has measured",
        *(f"{word}: {MEANING[word]}" for word in used),
    ]
    return [*tables[:-1], replace(tables[-1], after=[*tables[-1].after[:-1], *note, ""])]


def sign_table(phase: str, found: Sequence[Sign], name: str, *, several: bool) -> Table:
    """Return the table of the signs of one phase.

    Args:
        phase: of all of them.
        found: signs of the ratios of each encoding over the reference, and over each other.
        name: the reference's.
        several: True if there are several machines, whose signs and sizes may differ.
    """
    rows: dict[str, dict[str, str]] = {}
    for sign in found:
        rows.setdefault(sign.pe, {"encoding": sign.pe})[f"over {sign.over or name}"] = in_words(sign)
    heads = dict.fromkeys((head for row in rows.values() for head in row), Column(prose=True)) | {"encoding": Column()}
    counts = {word: sum(len(sign.places(word)) for sign in found) for word in SIGNS if several or word != OPPOSITE}
    counts |= {APART: sum(len(sign.apart) for sign in found)} if several else {}
    words = ", ".join(f"{count} {word}" for word, count in counts.items())
    before = f"{phase}: of {sum(len(sign.ratios) for sign in found)} ratios {words}"
    return Table(heads, list(rows.values()), before=[before], after=[*opposites(found, name), ""])


def in_words(sign: Sign) -> str:
    """Return the sign that a ratio has at all places, or else at how many it has which."""
    counts = {word: len(sign.places(word)) for word in SIGNS}
    held = [word for word, count in counts.items() if count]
    return held[0] if len(held) == 1 else ", ".join(f"{counts[word]} {word}" for word in held)


def opposites(found: Sequence[Sign], name: str) -> list[str]:
    """Return a line for each ratio and place whose sign is opposite on two machines, with its value on each machine."""
    lines = []
    for sign in found:
        for place in sign.places(OPPOSITE):
            values = ", ".join(f"{cost(ratio)} on {machine}" for machine, ratio in sign.ratios[place].items())
            lines.append(f"{sign.pe} over {sign.over or name}, L = {place.depth}, T = {place.seq_len}: {values}")
    return lines


def second_table(found: Sequence[Machine], name: str) -> Table:
    """Return a row a place and a column a machine with the seconds of the reference."""
    times = [reference_times(machine.cells) for machine in found]
    heads = {"phase": Column()} | PLACE
    heads |= {machine.name: Column(with_interval(seconds), number=True) for machine in found}
    rows = [
        dict(zip(heads, (place.phase, place.depth, place.seq_len, *(own.get(place) for own in times)), strict=True))
        for place in all_places([measured_places(machine.cells) for machine in found])
    ]
    kept = [row for row in rows if any(row[machine.name] is not None for machine in found)]
    return Table(heads, kept, before=[f"time of a step of {name}"], keys=3)


def by_phase(places: Sequence[Place]) -> dict[str, list[Place]]:
    """Return places by their phase."""
    found: dict[str, list[Place]] = {}
    for place in places:
        found.setdefault(place.phase, []).append(place)
    return found
