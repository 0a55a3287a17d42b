"""Comparisons in words: the rows of their tables and the lines around them."""

from attnlib.runs.compare import ERROR, Comparison, Row, Side
from attnlib.runs.text import seconds, size
from attnlib.runs.verdicts import Verdict

Cells = dict[str, str]


def verdict_cells(verdict: Verdict, note: str | None = None) -> Cells:
    """Ratio, interval, what could have been seen, and the word with its reason unless ``note`` said it for all."""
    interval = "-" if verdict.low is None else f"[{verdict.low:.3f}, {verdict.high:.3f}]"
    reason = f": {verdict.reason}" if verdict.reason and verdict.reason != note else ""
    return {
        "ratio": "-" if verdict.ratio is None else f"{verdict.ratio:.3f}",
        "interval": interval,
        "could see": "-" if verdict.detectable is None else f"{verdict.detectable:.2f}",
        "verdict": verdict.word + reason,
    }


def compared(comparison: Comparison) -> list[Cells]:
    """One row a phase, then one a case."""
    note = comparison.notes[0] if comparison.notes else None
    rows = [
        {"case": f"{phase}, all cases", "base": "", "new": "", **verdict_cells(verdict, note), "peak": ""}
        for phase, verdict in comparison.phases.items()
    ]
    return rows + [
        {
            "case": row.label,
            "base": side_time(row.base),
            "new": side_time(row.new),
            **verdict_cells(row.verdict, note),
            "peak": peak(row),
        }
        for row in comparison.rows
    ]


def side_time(side: Side | None) -> str:
    """Median seconds, with its disturbed runs; the status where there is no time."""
    if side is None:
        return "-"
    if side.seconds is None:
        return side.status
    return seconds(side.seconds) + (f" ({side.disturbed} of {side.runs} disturbed)" if side.disturbed else "")


def peak(row: Row) -> str:
    """The size where equal, the difference in bytes where not."""
    if not row.base or not row.new or row.base.bytes is None or row.new.bytes is None:
        return "-"
    return f"= {size(row.base.bytes)}" if row.base.bytes == row.new.bytes else f"{row.new.bytes - row.base.bytes:+,} B"


def before(comparison: Comparison) -> list[str]:
    """What must be known before the table is read."""
    return [f"different machine or settings: {line}" for line in comparison.machine] + [
        f"undecided: {note}" if not note.startswith("forced") else note for note in comparison.notes
    ]


def after(comparison: Comparison) -> list[str]:
    """How the table is to be read, then every exact change, a line each."""
    phases, cases = comparison.tests
    heard = comparison.canary
    changed = [row for row in comparison.rows if row.changes]
    return [
        f"{phases} tests of phases and {cases} of cases; intervals hold together with {1 - ERROR:.0%}; threshold "
        f"{comparison.threshold:.0%}; could see: the ratio that would have been called slower",
        *([] if heard is None else [f"canary: new / base {heard.ratio:.3f} [{heard.low:.3f}, {heard.high:.3f}]"]),
        f"exact: {len(comparison.rows)} cases, changed in {len(changed)}",
        *(f"  {row.label}: {'; '.join(row.changes)}" for row in changed),
    ]
