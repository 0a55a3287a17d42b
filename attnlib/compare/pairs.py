"""Times and ratios of cases whose rounds lay beside those of a reference.

A reference is visited by every case that has it, at random moments of the run: its time is the geometric mean over
these visits, and a case's time is that times its ratio. So no time hangs on the moment of one visit.
"""

from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

import numpy as np

from attnlib.compare.intervals import Estimate, t_interval
from attnlib.runs.load import Cell
from attnlib.runs.schema import SWITCHES
from attnlib.runs.visits import pools

Key = tuple[tuple[str, Any], ...]  # the fields of a case


def key_of(case: Mapping[str, Any]) -> Key:
    """Return the key of a case: its fields, sorted by name."""
    return tuple(sorted(case.items()))


def reference_of(cell: Cell) -> Key | None:
    """The case that a cell's rounds lay beside; None where it was measured alone."""
    return None if cell.ratio is None else key_of(cell.fields | cell.ratio.reference)


def over_reference(cell: Cell) -> Estimate | None:
    """A cell's time over its reference's; None where it was measured alone."""
    ratio = cell.ratio
    if ratio is None or ratio.value is None or ratio.low is None or ratio.high is None:
        return None
    return Estimate(ratio.value, ratio.low, ratio.high)


def fields_in_words(reference: dict[str, Any]) -> str:
    """Return the fields of a reference in words, as ``none`` for pe=none, or ``attention=math``.

    Of a reference that sets all switches, those that are off are left out.
    """
    whole = SWITCHES.keys() <= reference.keys()
    on = {name: value for name, value in reference.items() if not (whole and value == SWITCHES.get(name, ...))}
    return ", ".join(str(v) if name in ("pe", "model") else f"{name}={v}" for name, v in (on or reference).items())


def kernels_apart(kernel: str | None, other: str | None, reference: Mapping[str, Any]) -> str | None:
    """Return the attention kernels of a case and its reference in words, such as ``cudnn over efficient``.

    None where they are the same, where one is not known, and where attention is what is compared.

    Args:
        kernel: of the case.
        other: of its reference.
        reference: fields of the reference in which it differs from the case.
    """
    if None in (kernel, other) or kernel == other or "attention" in reference:
        return None
    return f"{short_kernel(str(kernel))} over {short_kernel(str(other))}"


def short_kernel(name: str) -> str:
    """Return torch's name of an attention kernel without the word attention."""
    return name.replace("attention_", "").replace("_attention", "")


def is_itself(cell: Cell) -> bool:
    """Return True if a cell is its own reference, so that its ratio is 1 but for noise."""
    return cell.ratio is not None and reference_of(cell) == key_of(cell.fields)


def pooled(cells: Iterable[Cell]) -> dict[Key, Estimate]:
    """Return the seconds of each reference in one run, with the 95 % t interval over its visits; one visit has none.

    A disturbed visit counts only where every visit was.
    """
    visits: dict[Key, list[Cell]] = {}
    for cell in cells:
        if (key := reference_of(cell)) is not None:
            visits.setdefault(key, []).append(cell)
    found = {}
    for key, own in visits.items():
        quiet = [cell for cell in own if not cell.disturbed] or own
        logs = [np.log(seconds) for cell in quiet for seconds in cell.reference_medians]
        found[key] = Estimate(*np.exp(t_interval(logs)).tolist())
    return found


def times(cells: Iterable[Cell]) -> dict[str, Estimate]:
    """Return the seconds of each case of one run, by case id: by its ratio, or else the median of its own rounds."""
    cells, found = list(cells), {}
    references = pooled(cells)
    for cell in cells:
        ratio, key = over_reference(cell), reference_of(cell)
        if ratio is not None and key is not None:
            found[cell.case_id] = references[key] if is_itself(cell) else product(references[key], ratio)
        elif cell.median is not None:
            low, high = (cell.info and cell.info.time.interval) or (cell.median, cell.median)
            found[cell.case_id] = Estimate(cell.median, low, high)
    return found


def ratio(cell: Cell, base: Cell) -> Estimate | None:
    """A cell's time over another's in the same run; without an interval where no pair says it."""
    own, other = over_reference(cell), over_reference(base)
    if own is not None and reference_of(cell) == key_of(base.fields):
        return own
    if own is not None and other is not None and reference_of(cell) == reference_of(base):
        return product(own, Estimate(1 / other.value, 1 / other.high, 1 / other.low))
    if cell.median is None or base.median is None:
        return None
    return Estimate(*(3 * [cell.median / base.median]))


def product(a: Estimate, b: Estimate) -> Estimate:
    """Return the product of two independent estimates; relative half-widths add up as the root of squares."""
    value = a.value * b.value
    down, up = (np.hypot(np.log(a.value / a[i]), np.log(b.value / b[i])) for i in (1, 2))
    return Estimate(value, float(value * np.exp(-down)), float(value * np.exp(up)))


class Floor(NamedTuple):
    """Ratios of cases to themselves: how far they are from 1, and how many of their intervals contain 1."""

    rms: float  # of the log ratio
    worst: float
    held: int
    cells: int

    def __str__(self) -> str:
        return f"over itself: {self.rms:.1%} rms, worst {self.worst:.3f}, {self.held} of {self.cells} intervals hold 1"


class Spread(NamedTuple):
    """Standard deviation of the log ratio of like cases from visit to visit."""

    kind: str  # of attention kernel: fused or written out
    seq_len: int
    deviation: float

    def __str__(self) -> str:
        return f"{self.deviation:.1%} ({self.kind}, T = {self.seq_len})"


def spreads(cells: Iterable[Cell]) -> list[Spread]:
    """Return the spread between visits of each group of cases, the largest first."""
    found = [one for cell in cells if (one := cell.visited) is not None]
    own = [Spread(*group, float(np.sqrt(pool.variance))) for group, pool in pools(found).items()]
    return sorted(own, key=lambda spread: -spread.deviation)


def floor(cells: Iterable[Cell]) -> Floor | None:
    """Return the noise floor, from the cells that are their own reference; None without any."""
    own = [over for cell in cells if is_itself(cell) and (over := over_reference(cell))]
    if not own:
        return None
    logs = np.log([estimate.value for estimate in own])
    held = sum(estimate.low <= 1 <= estimate.high for estimate in own)
    return Floor(float(np.sqrt(np.mean(logs**2))), own[int(np.abs(logs).argmax())].value, held, len(own))
