"""The table of cases: status, time, memory, and the command that measures a case again."""

import shlex
from collections import Counter
from typing import Any, NamedTuple

import numpy as np

from attnlib.cases.text import size
from attnlib.compare.cells import Cells, claims, measured
from attnlib.runs.load import Cell, Run
from attnlib.show.units import digits, joules, many, percent, seconds, with_interval

TIME, RATIO = with_interval(seconds), with_interval(digits(2))
COLUMNS = (
    "case", "L", "T", "status", "time", "over reference", "tokens / s", "peak", "predicted",
    "energy", "of ceiling", "how",
)  # fmt: skip
# options on the order of cases and on where a run is saved, without effect on how a case is measured
ELSEWHERE = {"-k", "--order-seed", "--run-name", "--resume", "--resume-from", "--benchmark-json", "--benchmark-save"}
ELSEWHERE |= {"--benchmark-autosave", "--benchmark-storage"}


class Entry(NamedTuple):
    """A value as text, and the number to sort it by, unless it is sorted by its text."""

    text: str
    key: float | None = None


class Row(NamedTuple):
    """A case: its values under ``COLUMNS`` without the last, and the contents of the last one."""

    case_id: str
    entries: list[Entry]
    why: str  # reasons of its status, claims and accuracies
    command: str
    runs: list[str]  # the result of each run, if there are several


def rows(cells: Cells) -> list[Row]:
    """Return the row of every case, sorted by phase, depth, length and encoding."""
    order = {pe: place for place, pe in enumerate(cells.names("pe"))}

    def place(group: list[Cell]) -> tuple[Any, ...]:
        case = group[0].case
        return case.phase, case.depth, case.seq_len, order.get(case.pe, 99), group[0].label

    commands = [options_of(run) for run in cells.runs]
    owner = {id(cell): place for place, run in enumerate(cells.runs) for cell in run.cells}
    found = []
    for group in sorted(cells.by_id.values(), key=place):
        test, own = group[0].test, [owner[id(cell)] for cell in group]
        command = " ".join(["pytest", shlex.quote(test), *commands[own[0]]])
        results = [of_run(cells.runs[i], cell) for i, cell in zip(own, group, strict=True)]
        several = results if len(cells.runs) > 1 else []
        found.append(Row(group[0].case_id, entries(cells, group), why(group), command, several))
    return found


def entries(cells: Cells, group: list[Cell]) -> list[Entry]:
    """Return the values of a case, empty where the runs have none."""
    cell, case = measured(group), group[0].case
    name = cell.label.replace(f" T={case.seq_len} L={case.depth}", "", 1)
    statuses = Counter(own.status for own in group)
    status = group[0].status if len(statuses) == 1 else ", ".join(f"{n} {one}" for one, n in statuses.items())
    time = cells.time(group) if any(own.timed for own in group) else None
    over = cells.over_reference(group)
    tokens = case.batch_size * case.seq_len / time.value if time else None
    shares = [own.share_of_ceiling for own in group if own.share_of_ceiling]
    share = float(np.median(shares)) if shares else None
    return [
        Entry(name),
        Entry(str(case.depth)),
        Entry(str(case.seq_len)),
        Entry(status),
        Entry(TIME(time), time.value) if time else Entry(""),
        Entry(RATIO(over), over.value) if over else Entry(""),
        Entry(many(tokens).strip(), tokens) if tokens else Entry(""),
        Entry(size(cell.peak), cell.peak) if cell.peak is not None else Entry(""),
        Entry(size(cell.predicted), cell.predicted) if cell.predicted is not None else Entry(""),
        Entry(joules(cell.joules), cell.joules) if cell.joules is not None else Entry(""),
        Entry(percent(share), share) if share else Entry(""),
    ]


def why(group: list[Cell]) -> str:
    """Return the notes on a case: reasons of its status, flags, disturbances, fitted claims and accuracies."""
    reasons = dict.fromkeys(cell.reason for cell in group if cell.reason)
    disturbed = sum(cell.disturbed for cell in group)
    flags = dict.fromkeys(flag for cell in group for flag in cell.flags)
    words = [*reasons, *flags, *([f"{disturbed} of {len(group)} runs disturbed"] if disturbed else [])]
    if found := claims(group):
        words.append("; ".join(f"{name} {claim.mean:.4g}" for name, claim in found.items()))
    if training := next((cell.training for cell in group if cell.training), None):
        accuracies = {part: training.accuracy(part) for part in ("train", "validation", "test")}
        words += [f"{part} accuracy {accuracy:.3f}" for part, accuracy in accuracies.items() if accuracy is not None]
        words += [training.reason] if training.reason else []
    return "; ".join(words)


def of_run(run: Run, cell: Cell) -> str:
    """Return the result of a case in one run: time or status, ratio, and a mark if disturbed."""
    words = [seconds(cell.median)] if cell.timed and cell.median else [cell.status]
    words += [f"{cell.ratio.value:.3f} x"] if cell.ratio else []
    words += ["disturbed"] if cell.disturbed else []
    return f"{run.name}: {', '.join(words)}"


def options_of(run: Run) -> list[str]:
    """Return the options of a run's command that affect how a case is measured, with its preset."""
    command = run.data["attnlib"].get("command")
    words = [str(word) for word in command[1:]] if isinstance(command, list) else []
    found = [shlex.quote(word) for word in words if word.startswith("-") and word.partition("=")[0] not in ELSEWHERE]
    preset = run.data["attnlib"].get("preset")
    chosen = any(word.startswith("--preset") for word in found) or not preset
    return found if chosen else [*found, f"--preset={shlex.quote(str(preset))}"]
