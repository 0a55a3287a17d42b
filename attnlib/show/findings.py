"""The tables of findings: every claim about gradients beside its theory, and what was learned."""

from attnlib.compare.cells import Cells, claims
from attnlib.compare.intervals import Estimate
from attnlib.show.learning import learning
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
    learned = learning(cells)
    if not found and learned:
        return learned
    return [Table(COLUMNS, rows, links=[{"stack": cell.case_id} for cell, _ in found]), *learned]
