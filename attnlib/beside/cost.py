"""The result of a measurement beside a reference, and the verdict on it."""

from dataclasses import dataclass

from attnlib.compare.intervals import Estimate

THRESHOLD = 0.05
WORDS = ("faster", "slower", "same", "undecided")


@dataclass(frozen=True, repr=False)
class Cost:
    """The cost of a call over that of its reference.

    Args:
        ratio: seconds of a call over seconds of a call of the reference, as ``value`` and the ends ``low`` and
            ``high`` of its 95 % interval: the geometric mean over the visits, and Student's interval of it.
        seconds: of a call: ``ratio.value`` times ``reference_seconds``.
        reference_seconds: of a call of the reference, the median of all rounds. On a CPU seconds in which the thread
            could run and waited for a CPU that others had are left out, here and in the ratio (Linux only).
        verdict: ``same`` where the whole interval lies between 1 / (1 + threshold) and 1 + threshold, else ``slower``
            where all of it lies above 1, ``faster`` below 1, ``undecided`` where it holds 1.
        threshold: the largest change that is the same.
        peak_bytes: what a call adds, at its peak, to the bytes of torch's tensors allocated before it, exactly; with
            ``backward=True`` the graph and the gradients too. Memory that others allocate, such as NumPy, is not in
            it. None where the device does not tell, see ``notes``.
        reference_peak_bytes: the same of the reference.
        visits: how often the pair was measured.
        disturbed: in how many of them something else held the machine up.
        notes: what could not be set for the rounds, or is not as before, a line each.
    """

    ratio: Estimate
    seconds: float
    reference_seconds: float
    verdict: str
    threshold: float
    peak_bytes: int | None
    reference_peak_bytes: int | None
    visits: int
    disturbed: int = 0
    notes: tuple[str, ...] = ()

    def __str__(self) -> str:
        value, low, high = self.ratio
        return f"{value:.3f} [{low:.3f}, {high:.3f}] times its reference: {self.verdict}"

    __repr__ = __str__  # what pytest shows of a failed assertion


def verdict_of(ratio: Estimate, threshold: float) -> str:
    """Return ``same``, ``slower``, ``faster`` or ``undecided``, see ``Cost``."""
    limit = 1 + threshold
    if 1 / limit <= ratio.low and ratio.high <= limit:
        return "same"
    if ratio.low > 1:
        return "slower"
    return "faster" if ratio.high < 1 else "undecided"
