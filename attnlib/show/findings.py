"""The table of findings: every claim about gradients, fitted, beside its theory and the band that it had."""

from attnlib.compare.cells import Cells, claims
from attnlib.compare.intervals import Estimate
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
    """One row a claim: what was checked, on which stack, what was fitted, what theory says and the band that it had."""
    found = [
        (group[0], claim)
        for group in sorted(cells.by_id.values(), key=lambda group: group[0].label)
        for claim in claims(group).values()
    ]
    rows = [
        {
            "stack": cell.label,
            "claim": claim["name"],
            "fitted": Estimate(claim["mean"], claim["low"], claim["high"]),
            "theory": claim["theory"],
            "band": (claim["least"], claim["most"]),
        }
        for cell, claim in found
    ]
    return [Table(COLUMNS, rows, links=[{"stack": cell.case_id} for cell, _ in found])]
