"""The table of cases: each with its status, time, memory, and the command that remakes it."""

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
    "case",
    "L",
    "T",
    "status",
    "time",
    "over reference",
    "tokens / s",
    "peak",
    "predicted",
    "energy",
    "of ceiling",
    "how",
)
# options that say in which order and where a run is saved, not how its cases are measured
ELSEWHERE = {"-k", "--order-seed", "--run-name", "--resume", "--resume-from", "--benchmark-json", "--benchmark-save"}
ELSEWHERE |= {"--benchmark-autosave", "--benchmark-storage"}


class Entry(NamedTuple):
    """A value as text, and the number that it is sorted by where the text is none."""

    text: str
    key: float | None = None


class Row(NamedTuple):
    """A case: its values under ``COLUMNS`` but the last, and what that one opens."""

    case_id: str
    entries: list[Entry]
    why: str  # its status, or what else is to be known
    command: str
    runs: list[str]  # what each run measured, where there are several


def rows(cells: Cells) -> list[Row]:
    """Every case of these runs, by phase, depth, length and encoding."""
    order = {pe: place for place, pe in enumerate(cells.names("pe"))}

    def place(group: list[Cell]) -> tuple[Any, ...]:
        """Where it stands."""
        case = group[0].case
        return case.phase, case.depth, case.seq_len, order.get(case.pe, 99), group[0].label

    commands = [options_of(run) for run in cells.runs]
    owner = {id(cell): place for place, run in enumerate(cells.runs) for cell in run.cells}
    found = []
    for group in sorted(cells.by_id.values(), key=place):
        test, own = group[0].test, [owner[id(cell)] for cell in group]
        command = " ".join(["pytest", shlex.quote(test), *commands[own[0]]])
        several = (
            [of_run(cells.runs[i], cell) for i, cell in zip(own, group, strict=True)] if len(cells.runs) > 1 else []
        )
        found.append(Row(group[0].case_id, entries(cells, group), why(group), command, several))
    return found


def entries(cells: Cells, group: list[Cell]) -> list[Entry]:
    """The values of a case; an empty one where the runs do not say."""
    cell, case = measured(group), group[0].case
    name = cell.label.replace(f" T={case.seq_len} L={case.depth}", "", 1)
    statuses = Counter(own.status for own in group)
    status = group[0].status if len(statuses) == 1 else ", ".join(f"{n} {one}" for one, n in statuses.items())
    time, over = cells.time(group), cells.over_reference(group)
    if not any(own.timed for own in group):
        time = None
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
    """The reason of a status, how often it was disturbed, how many claims it holds: what is to be known of a case."""
    reasons = dict.fromkeys(cell.reason for cell in group if cell.reason)
    held_up = sum(cell.disturbed for cell in group)
    flags = dict.fromkeys(flag for cell in group for flag in cell.flags)
    words = [*reasons, *flags, *([f"{held_up} of {len(group)} runs disturbed"] if held_up else [])]
    if found := claims(group):
        words.append("; ".join(f"{name} {claim.mean:.4g}" for name, claim in found.items()))
    if training := next((cell.training for cell in group if cell.training), None):
        accuracies = {part: training.accuracy(part) for part in ("train", "validation", "test")}
        words += [f"{part} accuracy {accuracy:.3f}" for part, accuracy in accuracies.items() if accuracy is not None]
        words += [training.reason] if training.reason else []
    return "; ".join(words)


def of_run(run: Run, cell: Cell) -> str:
    """What one run says of a case."""
    words = [seconds(cell.median)] if cell.timed and cell.median else [cell.status]
    words += [f"{cell.ratio.value:.3f} x"] if cell.ratio else []
    words += ["disturbed"] if cell.disturbed else []
    return f"{run.name}: {', '.join(words)}"


def options_of(run: Run) -> list[str]:
    """The options of a run's command that say how its cases are measured, and its preset."""
    command = run.data["attnlib"].get("command")
    words = [str(word) for word in command[1:]] if isinstance(command, list) else []
    found = [shlex.quote(word) for word in words if word.startswith("-") and word.partition("=")[0] not in ELSEWHERE]
    preset = run.data["attnlib"].get("preset")
    chosen = any(word.startswith("--preset") for word in found) or not preset
    return found if chosen else [*found, f"--preset={shlex.quote(str(preset))}"]
