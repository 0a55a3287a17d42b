"""Tables of predictions and measurements side by side."""

from collections.abc import Sequence
from typing import Any

from attnlib.show.table import Column, Table
from attnlib.show.units import digits, with_interval


def agreement_tables(found: Sequence[Any], temperatures: Sequence[tuple[str, float, float]]) -> list[Table]:
    """Return a row a number of each stack, and a row an initialisation.

    Args:
        found: see ``attnlib.gradients.agreement.Agreement``.
        temperatures: an initialisation, its beta, and the critical beta.
    """
    columns = {
        "stack": Column(),
        "number": Column(),
        "closed form": Column(ends),
        "recursion": Column("{:.4g}".format, number=True),
        "measured": Column(with_interval(digits(4)), number=True),
        "": Column(),
    }
    rows = [
        {
            "stack": one.stack,
            "number": one.number,
            "closed form": one.closed or None,
            "recursion": one.recursion,
            "measured": one.measured,
            "": one.verdict,
        }
        for one in found
    ]
    three = Column("{:.3g}".format, number=True)
    scores = Table(
        {"init": Column(), "beta": three, "critical beta": three},
        [dict(zip(("init", "beta", "critical beta"), row, strict=True)) for row in temperatures],
        after=["beta^2 log T is the variance of the scores; below the critical one attention averages its tokens"],
    )
    return [Table(columns, rows, after=["measured: mean of 8 seeds, 95 % t interval", ""], keys=2), scores]


def ends(closed: tuple[float, ...]) -> str:
    """Write a number, or two bounds."""
    return " .. ".join(f"{value:.4g}" for value in closed)
