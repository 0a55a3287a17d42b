"""Result of a comparison of saved runs: verdicts on cases and on groups of cases, and an exit code."""

from dataclasses import asdict, dataclass
from typing import Any

from attnlib.compare.verdicts import Verdict

# what became of a case, the worst first; that it was interrupted says nothing of the code
WORST = ("error", "crashed", "unsupported", "oom", "timeout", "interrupted", "ok")
TIMELESS = WORST[:5]
OVER = " over its reference"  # how the name of a group of ratios ends
LIMITED = ("oom", "timeout")  # what other limits can bring about


@dataclass(frozen=True)
class Summary:
    """One case on one side: exact figures, what was timed, and how many of its runs were disturbed."""

    status: str
    value: float | None  # median over the runs: seconds, or the ratio over a reference
    reference: str | None = None  # which reference, in words; None where it is seconds
    bytes: int | None = None
    flops: int | None = None
    params: int | None = None
    runs: int = 0
    disturbed: int = 0


@dataclass(frozen=True)
class Compared:
    """One case, with the verdict on its time; ``base`` or ``new`` is None if that side lacks the case."""

    case_id: str
    label: str
    base: Summary | None
    new: Summary | None
    verdict: Verdict
    changes: tuple[str, ...]  # what differs exactly, in words: bytes 100 -> 101
    other_limits: bool  # whether the sides were given other limits of time or memory

    @property
    def over_reference(self) -> bool:
        """True if the verdict is on the ratio over a reference, False if it is on seconds."""
        return bool(self.base and self.base.reference)

    @property
    def peaks(self) -> tuple[int, int] | None:
        """Peak bytes of base and new; None unless both are known."""
        if self.base is None or self.new is None or self.base.bytes is None or self.new.bytes is None:
            return None
        return self.base.bytes, self.new.bytes

    @property
    def regressed(self) -> bool:
        """True if the case is slower, uses more bytes, or no longer runs."""
        if self.base is None or self.new is None:
            return False
        lost = self.base.status == "ok" and self.new.status in TIMELESS
        lost = lost and not (self.other_limits and self.new.status in LIMITED)
        more = self.peaks is not None and self.peaks[1] > self.peaks[0]
        return lost or more or self.verdict.word == "slower"


@dataclass(frozen=True)
class Comparison:
    """A verdict per group (geometric mean over its cases), and a row per case and per reference.

    ``notes`` say why verdicts are undecided, or that they are forced.
    """

    phases: dict[str, Verdict]
    rows: tuple[Compared, ...]
    references: tuple[Compared, ...]  # the references' own times
    machine: tuple[str, ...]
    notes: tuple[str, ...]
    selected: bool  # whether the two sides were told to measure other cases
    canary: Verdict | None  # of the machine itself
    threshold: float
    tests: tuple[int, int]  # of phases, of cases
    changes: tuple[str, ...] = ()  # of parts that are somebody else's, a line each

    @property
    def vanished(self) -> list[Compared]:
        """Rows of the cases that only the base has."""
        return [row for row in self.rows if row.new is None]

    def exit_code(self, *, allow_undecided: bool = False, allow_missing: bool = False) -> int:
        """Return 0 for no regression, 1 for a regression, and 2 if undecided or if the sides share no case.

        A case that vanished is a regression, unless the new side's command chose other cases, **or** ``allow_missing``.
        Decided means that at least one ratio and one time are, as far as there are any: what slows a case and its
        reference alike shows in no ratio.
        """
        sorts = [
            [row.verdict for row in self.rows if row.over_reference],
            [row.verdict for row in (*self.rows, *self.references) if not row.over_reference],
        ]
        verdicts = [*self.phases.values(), *(verdict for sort in sorts for verdict in sort)]
        if not any(row.base and row.new for row in self.rows):
            return 2
        if self.vanished and not (allow_missing or self.selected):
            return 1
        if any(row.regressed for row in self.rows) or any(v.word == "slower" for v in verdicts):
            return 1
        sorts[1] += [verdict for name, verdict in self.phases.items() if not name.endswith(OVER)]
        sorts[0] += [verdict for name, verdict in self.phases.items() if name.endswith(OVER)]
        decided = all(any(v.word != "undecided" for v in sort) for sort in sorts if sort)
        return 0 if allow_undecided or decided else 2

    def as_json(self) -> dict[str, Any]:
        """Return all of it as JSON objects."""
        return {
            "threshold": self.threshold,
            "tests": {"phases": self.tests[0], "cases": self.tests[1]},
            "machine": self.machine,
            "notes": self.notes,
            "canary": None if self.canary is None else asdict(self.canary),
            "phases": {name: asdict(verdict) for name, verdict in self.phases.items()},
            "cases": [asdict(row) | {"regressed": row.regressed} for row in self.rows],
            "references": [asdict(row) for row in self.references],
        }
