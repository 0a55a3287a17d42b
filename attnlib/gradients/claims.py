"""Claims about fitted numbers: one value a seed, and the limits within which its interval must lie."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from attnlib.compare.intervals import t_interval

Values = Sequence[float] | np.ndarray
Curves = Mapping[str, Sequence[float | None]]


@dataclass(frozen=True)
class Claim:
    """A claim that the whole 95 % t interval of the mean over seeds lies within [``least``, ``most``] (equivalence).

    A run passes if all of its claims hold (an intersection-union test), so it passes wrongly with at most 5 %
    probability, however many claims it has. None as a limit is no limit.
    """

    name: str
    values: tuple[float, ...]  # one a seed
    theory: float | None  # the closed form's value
    least: float | None
    most: float | None

    @property
    def interval(self) -> tuple[float, float, float]:
        """The mean over the seeds with its 95 % t interval."""
        return t_interval(self.values)

    @property
    def problem(self) -> str | None:
        """The reason why the claim fails, or None if it holds."""
        _, low, high = self.interval
        if (self.least is None or low >= self.least) and (self.most is None or high <= self.most):
            return None
        return f"{self.name}: [{low:.4g}, {high:.4g}] is not within [{self.least}, {self.most}]"

    def __str__(self) -> str:
        mean, low, high = self.interval
        theory = "" if self.theory is None else f" theory {self.theory:.4g}"
        if self.theory is self.least is self.most is None:
            theory = " no closed form"
        return f"{self.name} {mean:.4g} [{low:.4g}, {high:.4g}]{theory}"

    def as_json(self) -> dict[str, Any]:
        """Return the claim as it is saved."""
        mean, low, high = self.interval
        limits = {"theory": self.theory, "least": self.least, "most": self.most, "seeds": len(self.values)}
        return {"name": self.name, "mean": mean, "low": low, "high": high} | limits


def near(
    name: str, values: Values, theory: float | Values | None, *, share: float = 0.0, absolute: float = 0.0
) -> Claim:
    """Return the claim that a fitted number agrees with theory, within the wider of a relative and an absolute band.

    Args:
        name: the number's name.
        values: fitted values, one a seed.
        theory: expected value; or one a seed, and the claim is then about the differences around their mean; None
            claims nothing and keeps the interval.
        share: half-width of the band, relative to |theory|.
        absolute: half-width of the band.
    """
    if theory is None:
        return between(name, values, None, None)
    centre = float(np.mean(theory))
    band = max(share * abs(centre), absolute)
    moved = np.asarray(values) - np.asarray(theory) + centre
    return Claim(name, tuple(float(v) for v in moved), centre, centre - band, centre + band)


def between(name: str, values: Values, least: float | None, most: float | None) -> Claim:
    """Return the claim that a fitted number lies in [``least``, ``most``], without a theoretical value."""
    return Claim(name, tuple(float(v) for v in values), None, least, most)


@dataclass(frozen=True)
class Finding:
    """The result of a check: its claims, and curves for figures (axis or quantity to values, means over the seeds)."""

    claims: tuple[Claim, ...]
    curves: Curves = field(default_factory=dict)

    @property
    def problems(self) -> list[str]:
        """The reasons why claims fail, one line each."""
        return [claim.problem for claim in self.claims if claim.problem is not None]

    def __str__(self) -> str:
        return "; ".join(map(str, self.claims))

    def as_json(self) -> dict[str, Any]:
        """Return the result as it is saved in its row's ``probe``."""
        return {"claims": [claim.as_json() for claim in self.claims], "curves": dict(self.curves)}
