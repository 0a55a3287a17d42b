"""The tables of findings: every claim about gradients beside its theory, and what was learned."""

from attnlib.compare.cells import Cells, claims
from attnlib.compare.intervals import Estimate
from attnlib.show.learning import learning
from attnlib.show.lengths import lengths
from attnlib.show.table import Column, Table


def three(estimate: Estimate) -> str:
    """A mean and the ends of its interval, four digits each."""
    return " ".join(f"{number:.4g}" for number in estimate)


def band(limits: tuple[float | None, float | None]) -> str:
    """Two limits; one that is None is left open."""
    return " .. ".join("" if limit is None else f"{limit:.4g}" for limit in limits)


COLUMNS = {
    "stack": Column(),
    "claim": Column(),
    "fitted": Column(three),
    "theory": Column("{:.4g}".format, number=True),
    "band": Column(band),
}


NORMS = {
    "model": Column(),
    "phase": Column(),
    **{name: Column(number=True) for name in ("T", "L")},
    **{f"|gradient| of its {end} parameter": Column("{:.3g}".format, number=True) for end in ("first", "last")},
}


def findings(cells: Cells) -> list[Table]:
    """One row a claim: on which stack, what was fitted, what theory says, its band; then what was learned."""
    found = [
        (group[0], claim)
        for group in sorted(cells.by_id.values(), key=lambda group: group[0].label)
        for claim in claims(group).values()
    ]
    rows = [
        {
            "stack": cell.label,
            "claim": claim.name,
            "fitted": Estimate(claim.mean, claim.low, claim.high),
            "theory": claim.theory,
            "band": (claim.least, claim.most),
        }
        for cell, claim in found
    ]
    learned = [*learning(cells), *lengths(cells), *model_gradients(cells)]
    if not found and learned:
        return learned
    return [Table(COLUMNS, rows, links=[{"stack": cell.case_id} for cell, _ in found], keys=2), *learned]


def model_gradients(cells: Cells) -> list[Table]:
    """Return the gradient norms of the first and last parameter of other people's models over depth; none of stacks."""
    groups = [group for group in cells.by_id.values() if group[0].info and group[0].info.gradients]
    rows = []
    for group in sorted(groups, key=lambda group: (group[0].case.phase, group[0].case.seq_len, group[0].case.depth)):
        case, ends = group[0].case, group[0].info.gradients if group[0].info else {}
        row = {"model": case.pe, "phase": case.phase, "T": case.seq_len, "L": case.depth}
        rows.append(row | {f"|gradient| of its {end} parameter": own.norm for end, own in ends.items()})
    names = {
        f"{end}: {own.parameter}": None
        for group in groups
        if group[0].info
        for end, own in group[0].info.gradients.items()
    }
    return [Table(NORMS, rows, after=list(names), keys=4)] if rows else []
