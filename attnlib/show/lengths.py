"""The tables of trainings on short sequences: tiers of encodings, and accuracy by range of lengths."""

from attnlib.compare.cells import Cells
from attnlib.compare.intervals import Estimate
from attnlib.learning.length_study import Extrapolated, Question, Repeated, questions, repeated
from attnlib.show.table import Column, Table
from attnlib.show.units import digits, signed, with_interval

TWO, THREE = with_interval(digits(2)), with_interval(digits(3))


TIERS = {
    "trained on": Column(),
    "tier": Column(number=True),
    "encoding": Column(),
    "longer, right": Column(THREE),
    "minus the tier's first": Column(signed),
    "fit": Column(),
    "step / none": Column(TWO),
}


def lengths(cells: Cells) -> list[Table]:
    """Return the tables of what was trained on short sequences: tiers, then the accuracy of each task or text."""
    found = questions(cells)
    return [by_tier(cells, found), *map(by_range, found)] if found else []


def title(question: Question) -> str:
    """Return the data with its training lengths, and the stack where it is not the study's."""
    case = question.case
    return f"{case.data} 1 to {case.train_length}" + (f", L={case.depth} D={case.d_model}" if case.depth == 1 else "")


def by_tier(cells: Cells, found: list[Question]) -> Table:
    """Encodings from best to worst in the first range of longer sequences, by tier, with the time of a step."""
    rows = []
    for question in found:
        own = {one.case.pe: one for one in question.encodings}
        rows += [
            {
                "trained on": title(question),
                "tier": tiered.tier,
                "encoding": tiered.name,
                "longer, right": own[tiered.name].spans[1].exact,
                "minus the tier's first": tiered.behind,
                "fit": fit(own[tiered.name]),
                "step / none": step_over_none(cells, own[tiered.name]),
            }
            for tiered in question.tiers
        ]
    after = [
        "longer: up to twice the training lengths; right: whole answers, mean over all seeds [95 % interval]",
        "encodings of a tier cannot be told apart from its first: the interval of their difference, paired by seed and "
        "wide enough to hold for all pairs of a task together, contains 0",
        "fit: seeds that answer 99 % of new examples of the training lengths right; step / none: a training step at "
        "the longest training sequences over the same without encoding",
    ]
    return Table(TIERS, rows, after=[*after, *map(in_words, repeated(cells))], keys=3)


def fit(one: Extrapolated) -> str | None:
    """Return how many seeds fit the training lengths; None where it is not known."""
    return None if one.fitting is None else f"{one.fitting} of {len(one.seeds) + one.missing}"


def step_over_none(cells: Cells, one: Extrapolated) -> Estimate | None:
    """Return the ratio of a training step's time to the same without encoding; None if the run did not time it."""
    same = {name: getattr(one.case, name) for name in ("data", "train_length", "batch_size", "depth", "d_model")}
    own, none = (cells.first(phase="train_step", pe=pe, **same) for pe in (one.case.pe, "none"))
    return cells.ratio(own, none)


def by_range(question: Question) -> Table:
    """Accuracy of each encoding in each range of lengths, of all seeds and of those that fit the training lengths."""
    spans = next((one.spans for one in question.encodings if one.spans), [])
    names = [f"{one.low} to {one.high}" for one in spans]
    columns = {"encoding": Column(), "fit": Column()}
    columns |= {f"right, {name}": Column(THREE) for name in names}
    if any(one.fitting is not None for one in question.encodings):
        columns |= {f"of those that fit, {name}": Column(THREE) for name in names[1:]}
        columns |= {f"tokens, {name}": Column(THREE) for name in names[1:]}
    columns |= {"steps": Column(number=True)}
    rows = [row(one, names) for one in question.encodings]
    after = [f"{one.case.pe}: {one.missing} seeds have no result" for one in question.encodings if one.missing]
    ranges = next((one.ranges for one in question.encodings if one.ranges), ())
    commonest = [f"{one.commonest:.3f} at {one.low} to {one.high}" for one in ranges if one.commonest is not None]
    after += [f"always the commonest label: {', '.join(commonest)}"] if commonest else []
    case = question.case
    recipe = f"at most {case.steps} steps of {case.batch_size}, learning rate {case.learning_rate:g}"
    return Table(columns, rows, before=[f"{title(question)}: {recipe}"], after=after)


def row(one: Extrapolated, names: list[str]) -> dict[str, object]:
    """One encoding's line; ``steps`` are the mean of those that its seeds took."""
    found: dict[str, object] = {"encoding": one.case.pe, "fit": fit(one)}
    for name, span in zip(names, one.spans, strict=False):
        found |= {
            f"right, {name}": span.exact,
            f"of those that fit, {name}": span.fitting,
            f"tokens, {name}": span.per_token,
        }
    steps = [result.steps for result in one.results]
    return found | {"steps": round(sum(steps) / len(steps)) if steps else None}


def in_words(one: Repeated) -> str:
    """Return a line that compares a published accuracy with this run's."""
    here = "no seed fit the training lengths" if one.here is None else f"{one.here:.4f} here"
    agrees = "the same within 0.02" if one.same else "not the same within 0.02"
    return (
        f"bin_majority, learned_offset, L=1 H=1 D=16, trained on 1 to 50, at {one.low} to {one.high}: "
        f"{one.published:.4f} in arXiv 2410.02140, {here}, {agrees}"
    )
