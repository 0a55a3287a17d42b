"""A paragraph for the methods section of a paper, from what saved runs record."""

from collections.abc import Iterable, Sequence
from typing import Any

from attnlib.compare.cells import Cells
from attnlib.compare.pairs import fields_in_words
from attnlib.runs.load import Cell, Run
from attnlib.runs.schema import OverReference
from attnlib.runs.share import visit_counts
from attnlib.show.report.machine import machine

# options of pytest that differ from run to run, or say where a run is saved
OMITTED = ("--benchmark-", "--order-seed", "--run-name", "--resume", "--retry-crashed")
SAID = {"torch", "Python"}  # facts of the machine that the first sentence has


def methods(cells: Cells) -> str:
    """Return the paragraph on how the numbers of runs of one machine were made."""
    sentences = [software(cells.runs), hardware(cells), stacks(cells.runs[0]), times(cells), visits(cells.runs)]
    return " ".join([*(sentence for sentence in sentences if sentence), *memory(cells)])


def software(runs: Sequence[Run]) -> str:
    """Return the sentence on versions, commits and commands."""
    info = runs[0].data["machine_info"]["attnlib"]
    known = {"Python": info.get("python")} | (info.get("versions") or {})
    attnlib, torch, python = (known.get(name) or "of unknown version" for name in ("attnlib", "torch", "Python"))
    commits = listed(dict.fromkeys(commit_of(run) for run in runs))
    commands = listed(dict.fromkeys(command_of(run) for run in runs))
    count = "one run" if len(runs) == 1 else f"{len(runs)} runs"
    return (
        f"Times and memory were measured with attnlib {attnlib} (commit {commits}), PyTorch {torch} and Python"
        f" {python}, in {count} of {commands}."
    )


def commit_of(run: Run) -> str:
    """Return the beginning of a run's commit, and that there were changes."""
    commit = run.data["commit_info"]
    changed = " with changes that are not committed" if commit.get("dirty") else ""
    return f"{str(commit.get('id') or 'unknown')[:12]}{changed}"


def command_of(run: Run) -> str:
    """Return the command of a run in back-ticks, without ``OMITTED`` options."""
    words = run.data["attnlib"].get("command") or ["pytest"]
    return f"`{' '.join(word for word in words if not word.startswith(OMITTED))}`"


def hardware(cells: Cells) -> str:
    """Return the sentence on the machine; an empty text if nothing of it was saved."""
    facts = [f"{name} {value}" for name, value in machine(cells).items() if name not in SAID]
    return f"The machine: {', '.join(facts)}." if facts else ""


def stacks(run: Run) -> str:
    """Return the sentence on the stacks and their sizes; an empty text for a run without cases or settings."""
    settings: dict[str, Any] = run.data["attnlib"].get("settings") or {}
    base: dict[str, Any] = settings.get("base") or {}
    if not base or not run.cells:
        return ""
    return (
        f"Unless a case says otherwise, stacks have width {base['d_model']}, {base['n_heads']} heads, block"
        f" {base['block']}, initialisation {base['init']}, batch size {base['batch_size']} and dtype {base['dtype']};"
        f" lengths are {listed(settings['seq_lens'])}, depths {listed(settings['depths'])}."
    )


def times(cells: Cells) -> str:
    """Return the sentences on ratios, times and their intervals; an empty text if nothing was timed."""
    timed = [cell for run in cells.runs for cell in run.cells if cell.timed]
    ratios = [cell.ratio for cell in timed if cell.ratio]
    if not ratios:
        own = "Times are medians of a case's rounds, with 95 % intervals from order statistics."
        return own if timed else ""
    references = listed(dict.fromkeys(reference_in_words(ratio.reference) for ratio in ratios))
    return (
        f"Rounds of a case alternate with rounds of its reference ({references}){of_visits(timed)}. A case's time is"
        f" its ratio times the reference's mean time in the run; intervals are 95 % {intervals(cells.runs, ratios)}."
    )


def reference_in_words(reference: dict[str, Any]) -> str:
    """Return the fields of a reference that differ from the case, as ``encoding none``."""
    words = fields_in_words(reference)
    return f"encoding {words}" if "pe" in reference else words


def of_visits(timed: Sequence[Cell]) -> str:
    """Return the clause on the visits of timed cases, and how a ratio comes from them; an empty text without visits."""
    visited = [(cell.info.time.visits_planned, cell.visited) for cell in timed if cell.info and cell.visited]
    if not visited:
        return ""
    planned = listed(dict.fromkeys(count for count, _ in visited))
    further = sum(own.further for _, own in visited)
    median = f" (the median for {further} that had further visits)" if further else ""
    return f", in {planned} visits at random moments of a run; its ratio is the geometric mean over them{median}"


def intervals(runs: Sequence[Run], ratios: Sequence[OverReference]) -> str:
    """Return what the intervals of ratios rest on."""
    if len(runs) > 1:
        return "t intervals over the runs"
    if {ratio.interval for ratio in ratios} == {"visits"}:
        return "t intervals over the visits, with the spread of similar cases pooled"
    return "intervals over pairs of rounds"


def visits(runs: Sequence[Run]) -> str:
    """Return the sentence on disturbed visits; an empty text for runs without visits."""
    quiet, count = (sum(column) for column in zip(*map(visit_counts, runs), strict=True))
    if not count:
        return ""
    share = f"{100 * quiet / count:.1f} %"
    return f"{quiet} of {count} visits ({share}) were undisturbed by other work, at the first attempt or the second."


def memory(cells: Cells) -> list[str]:
    """Return a sentence for each way in which peak memory was read."""
    readings = (cell.info.memory["allocated_peak"] for run in cells.runs for cell in run.cells if cell.info)
    ways = dict.fromkeys(reading.method for reading in readings if reading.value is not None)
    return [f"Peak memory is of one step of its own, untimed: {way}." for way in ways]


def listed(values: Iterable[Any]) -> str:
    """Return values with commas and a last ``and``."""
    *most, last = map(str, values)
    return f"{', '.join(most)} and {last}" if most else last
