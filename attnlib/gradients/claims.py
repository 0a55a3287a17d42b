"""What a reading must show: a number fitted once a seed, and where its interval must lie."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from attnlib.compare.intervals import t_interval

Values = Sequence[float] | np.ndarray
Curves = Mapping[str, Sequence[float | None]]


@dataclass(frozen=True)
class Claim:
    """The 95 % t interval of the mean over seeds lies within [``least``, ``most``], whole: equivalence, not difference.

    All claims of a run must hold together (an intersection-union test), so their number makes passing wrongly no
    likelier than 5 %; what it costs is power, which fixed seeds pay once. None as a limit is no limit.
    """

    name: str
    values: tuple[float, ...]  # one a seed
    theory: float | None  # what a closed form says
    least: float | None
    most: float | None

    @property
    def interval(self) -> tuple[float, float, float]:
        """Mean over the seeds with its 95 % t interval."""
        return t_interval(self.values)

    @property
    def problem(self) -> str | None:
        """What is wrong, or None."""
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
        """What is saved."""
        mean, low, high = self.interval
        return {
            "name": self.name,
            "mean": mean,
            "low": low,
            "high": high,
            "theory": self.theory,
            "least": self.least,
            "most": self.most,
            "seeds": len(self.values),
        }


def near(
    name: str, values: Values, theory: float | Values | None, *, share: float = 0.0, absolute: float = 0.0
) -> Claim:
    """A claim of agreement with theory, within a share of it or an absolute band, whichever is wider.

    Args:
        name: what was fitted.
        values: one a seed.
        theory: what it should be; with one a seed, the differences are judged around their mean; None judges nothing.
        share: half-width of the band over |theory|.
        absolute: half-width of the band.
    """
    if theory is None:
        return between(name, values, None, None)
    centre = float(np.mean(theory))
    band = max(share * abs(centre), absolute)
    moved = np.asarray(values) - np.asarray(theory) + centre
    return Claim(name, tuple(float(v) for v in moved), centre, centre - band, centre + band)


def between(name: str, values: Values, least: float | None, most: float | None) -> Claim:
    """A claim that a number lies in a range for which there is no single value."""
    return Claim(name, tuple(float(v) for v in values), None, least, most)


@dataclass(frozen=True)
class Finding:
    """What one check fitted, and the curves that figures draw: means over the seeds, on the axes that they name."""

    claims: tuple[Claim, ...]
    curves: Curves = field(default_factory=dict)

    @property
    def problems(self) -> list[str]:
        """What is wrong, a line each."""
        return [claim.problem for claim in self.claims if claim.problem is not None]

    def __str__(self) -> str:
        return "; ".join(map(str, self.claims))

    def as_json(self) -> dict[str, Any]:
        """What is saved as its row's ``probe``."""
        return {"claims": [claim.as_json() for claim in self.claims], "curves": dict(self.curves)}
