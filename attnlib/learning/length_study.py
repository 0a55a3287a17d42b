"""Results of trainings on short sequences by data, encoding and range of lengths, and the tiers of encodings."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from attnlib.compare.cells import Cells
from attnlib.compare.intervals import Estimate, mean_share
from attnlib.learning.tiers import Tiered, tiers
from attnlib.runs.load import Cell
from attnlib.runs.schema import Case, Lengths, Range

APART = ("pe", "seed")  # fields in which trainings of a question differ
SMALLEST = {"data": "bin_majority", "train_length": 50, "d_model": 16, "n_heads": 1, "depth": 1, "pe": "learned_offset"}
PUBLISHED = {(51, 100): 0.9999, (101, 150): 0.9996}  # of it, by range: arXiv 2410.02140, mean of five runs that fit
CLOSE = 0.02  # largest difference from a published accuracy that counts as the same


class Span(NamedTuple):
    """Accuracy of an encoding in a range of lengths.

    Args:
        low: the shortest length.
        high: the longest length.
        exact: share of answers that are right as a whole, over the seeds.
        per_token: share of the answers' tokens that are right.
        fitting: ``exact`` of the seeds that fit the training lengths; None if none does.
    """

    low: int
    high: int
    exact: Estimate
    per_token: Estimate
    fitting: Estimate | None


class Extrapolated(NamedTuple):
    """The trainings of one encoding on a task or texts.

    Args:
        case: of the first seed.
        seeds: the trainings that have a result, by seed.
        missing: number of seeds without one: the training failed.
    """

    case: Case
    seeds: Mapping[int, Cell]
    missing: int

    @property
    def results(self) -> list[Lengths]:
        """Results of the seeds."""
        return [cell.by_length for cell in self.seeds.values() if cell.by_length]

    @property
    def fitting(self) -> int | None:
        """Number of seeds that fit the training lengths; None where it is not known, as of texts."""
        known = [one.fits for one in self.results]
        return None if None in known else sum(map(bool, known))

    @property
    def spans(self) -> list[Span]:
        """Accuracy in each range, the training lengths first."""
        return [span([one.ranges[place] for one in self.results], self.results) for place in range(len(self.ranges))]

    @property
    def ranges(self) -> Sequence[Range]:
        """Ranges of lengths, as the first seed has them."""
        return self.results[0].ranges if self.results else ()

    @property
    def beyond(self) -> dict[int, float]:
        """Share of right answers in the first range of longer sequences, by seed."""
        return {seed: cell.by_length.ranges[1].exact for seed, cell in self.seeds.items() if cell.by_length}

    def curve(self) -> tuple[list[float], list[float]]:
        """Return the lengths, and the share of right answers at each, mean over the seeds."""
        curves = [cell.probe.curves for cell in self.seeds.values() if cell.probe]
        means = np.mean([np.array(curve["exact"], dtype=float) for curve in curves], axis=0)
        return [float(length or 0) for length in curves[0]["length"]], means.tolist()


def span(ranges: Sequence[Range], results: Sequence[Lengths]) -> Span:
    """Return the accuracy in one range, given the range of each seed and the results that they come from."""
    fitting = [one.exact for one, result in zip(ranges, results, strict=True) if result.fits]
    return Span(
        low=ranges[0].low,
        high=ranges[0].high,
        exact=mean_share([one.exact for one in ranges]),
        per_token=mean_share([one.per_token for one in ranges]),
        fitting=mean_share(fitting) if fitting else None,
    )


class Question(NamedTuple):
    """All encodings that were trained alike on a task or texts; tiers are by the first range of longer sequences."""

    encodings: list[Extrapolated]
    tiers: list[Tiered]

    @property
    def case(self) -> Case:
        """Case of the first training."""
        return self.encodings[0].case


def questions(cells: Cells) -> list[Question]:
    """Return the results of each task or text, in the order of the run, and of their encodings in the registry's."""
    found: dict[tuple[str, ...], dict[str, list[Cell]]] = {}
    for group in cells.where(phase="lengths"):
        same = tuple(f"{name}={value}" for name, value in sorted(group[0].fields.items()) if name not in APART)
        own = next((cell for cell in group if cell.by_length), group[0])
        found.setdefault(same, {}).setdefault(own.case.pe, []).append(own)
    order = cells.names("pe").index
    return [question([extrapolated(own[pe]) for pe in sorted(own, key=order)]) for own in found.values()]


def extrapolated(cells: Sequence[Cell]) -> Extrapolated:
    """Return the trainings of one encoding, one cell a seed."""
    ended = {cell.case.seed: cell for cell in cells if cell.by_length and cell.by_length.reason is None}
    return Extrapolated(cells[0].case, dict(sorted(ended.items())), len(cells) - len(ended))


def question(encodings: list[Extrapolated]) -> Question:
    """Return encodings that were trained alike, with their tiers."""
    ended = {one.case.pe: one for one in encodings if one.seeds}
    examples = {one.ranges[1].examples for one in ended.values()}
    step = 1 / max(examples, default=1)
    return Question(encodings, tiers({pe: one.beyond for pe, one in ended.items()}, step))


class Repeated(NamedTuple):
    """A published accuracy in a range of lengths beside this run's, of the seeds that fit the training lengths."""

    low: int
    high: int
    published: float
    here: float | None

    @property
    def same(self) -> bool:
        """True if both agree within ``CLOSE``."""
        return self.here is not None and abs(self.here - self.published) <= CLOSE


def repeated(cells: Cells) -> list[Repeated]:
    """Return the published row beside this run's; an empty list if the run has no training of it."""
    own = [cell for group in cells.where(phase="lengths", **SMALLEST) for cell in group]
    if not own:
        return []
    spans = {(one.low, one.high): one.fitting for one in extrapolated(own).spans}
    return [
        Repeated(low, high, published, None if (here := spans.get((low, high))) is None else here.value)
        for (low, high), published in PUBLISHED.items()
    ]
