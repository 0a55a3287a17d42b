"""Comparisons as tables: of saved runs, and of live workers."""

from typing import Any

from attnlib.cases.text import size
from attnlib.compare import saved
from attnlib.compare.comparison import Comparison, Summary
from attnlib.compare.verdicts import Verdict
from attnlib.live import ab
from attnlib.show.table import Column, Table
from attnlib.show.units import digits, seconds


def time(summary: Summary) -> str:
    """Seconds, or the ratio over a reference, and how many of its runs were disturbed; the status without a time."""
    if summary.value is None:
        return summary.status
    disturbed = f" ({summary.disturbed} of {summary.runs} disturbed)" if summary.disturbed else ""
    return (f"{summary.value:.3f} x {summary.reference}" if summary.reference else seconds(summary.value)) + disturbed


def peak(both: tuple[int, int]) -> str:
    """The size where equal, the difference in bytes where not."""
    base, new = both
    return f"= {size(base)}" if base == new else f"{new - base:+,} B"


VERDICT = {
    "ratio": Column(digits(3), number=True),
    "interval": Column(lambda ends: f"[{ends[0]:.3f}, {ends[1]:.3f}]"),
    "detectable": Column(digits(2), number=True),
    "verdict": Column(": ".join, prose=True),
}
SAVED = {
    "case": Column(),
    "base": Column(time, number=True),
    "new": Column(time, number=True),
    **VERDICT,
    "peak": Column(peak, number=True),
}
BLUNT = "what slows a case and its reference alike shows in the reference's time only, which is blunt: use attnlib ab"
LIVE = {"case": Column(), "pairs": Column(number=True), **VERDICT}


def verdict_cells(verdict: Verdict, note: str | None = None) -> dict[str, Any]:
    """Return ratio, interval, smallest detectable ratio, and the word with its reason unless ``note`` has said it."""
    return {
        "ratio": verdict.ratio,
        "interval": None if verdict.low is None else (verdict.low, verdict.high),
        "detectable": verdict.detectable,
        "verdict": [verdict.word, *([verdict.reason] if verdict.reason and verdict.reason != note else [])],
    }


def compared(comparison: Comparison) -> Table:
    """One row a phase, then one a case, then one a reference."""
    note = comparison.notes[0] if comparison.notes else None
    rows = [
        {"case": f"{phase}, all cases", **verdict_cells(verdict, note)} for phase, verdict in comparison.phases.items()
    ]
    rows += [
        {
            "case": row.label,
            "base": row.base,
            "new": row.new,
            **verdict_cells(row.verdict, note),
            "peak": row.peaks,
        }
        for row in (*comparison.rows, *comparison.references)
    ]
    leading = [{"case": row.case_id} for row in (*comparison.rows, *comparison.references)]
    links: list[dict[str, str]] = [{} for _ in comparison.phases] + leading
    return Table(SAVED, rows, _before(comparison), _after(comparison), links)


def _before(comparison: Comparison) -> list[str]:
    return [*(f"different machine or settings: {line}" for line in comparison.machine), *comparison.changes] + [
        f"{'times ' if note == saved.DRIFTED else ''}undecided: {note}" if not note.startswith("forced") else note
        for note in comparison.notes
    ]


def _after(comparison: Comparison) -> list[str]:
    """Return the lines below the table: how to read it, then every exact change."""
    phases, cases = comparison.tests
    heard = comparison.canary
    canary = Table({name: VERDICT[name] for name in ("ratio", "interval")}, [verdict_cells(heard)] if heard else [])
    changed = [row for row in comparison.rows if row.changes]
    gone = f", {len(comparison.vanished)} of the base are gone" if comparison.vanished else ""
    gone += " (other cases were chosen)" if comparison.vanished and comparison.selected else ""
    return [
        f"{phases} tests of phases and {cases} of cases; intervals hold together with {1 - saved.ERROR:.0%}; threshold "
        f"{comparison.threshold:.0%}; detectable: the smallest ratio that would have been called slower",
        *([BLUNT] if comparison.references else []),
        *([] if heard is None else [f"canary: new / base {' '.join(canary.texts()[0].values())}"]),
        f"exact: {len(comparison.rows)} cases, changed in {len(changed)}{gone}",
        *(f"  {row.label}: {'; '.join(row.changes)}" for row in changed),
    ]


def contested(match: ab.Match) -> Table:
    """One row a case of a match; how it is to be read, and which pairs were lost."""
    rows = [
        {"case": contest.label, "pairs": len(contest.logs), **verdict_cells(contest.verdict)}
        for contest in match.contests
    ]
    after = [
        f"{len(match.contests)} cases, {match.pairs} pairs of workers, {match.looks} looks; intervals hold together "
        f"with {1 - ab.ERROR:.0%}; threshold {match.threshold:.0%}; ratio: new / base",
        *(f"{len(match.dropped)} pairs were dropped: {why}" for why in match.dropped[-1:]),
    ]
    if (seconds := match.budget_needed()) is not None:
        budget = f"{float(f'{seconds:.2g}'):.0f}"  # two digits
        after.append(f"about --budget {budget} would decide the undecided cases, if they spread as they do now")
    return Table(LIVE, rows, after=after)
