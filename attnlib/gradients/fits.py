"""What the checks of gradients share: seeds, bands, fits over seeds, and the closed form that belongs to a case."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from attnlib.cases.case import PARTS, Case
from attnlib.cases.workload import Workload
from attnlib.gradients import closed_forms
from attnlib.gradients.probes import Recorder

SEEDS = range(8)
RATE, UNIT = 0.05, 0.02  # bands of a rate: a share of it; decades where it is almost 0


def theory_of(case: Case) -> dict[str, float] | None:
    """Return what the parts of a case that are somebody else's state of themselves, in their attribute ``theory``.

    Returns:
        ``rate``, decades a layer, and ``collapse_exponent``, as far as they are stated; None where all parts are ours.
    """
    if not case.own_parts:
        return None
    stated: dict[str, float] = {}
    for field, name in case.own_parts.items():
        stated |= getattr(PARTS[field].imported(name), "theory", {})
    return stated


def decay(case: Case) -> float | None:
    """Return the closed form's decades a layer; of somebody else's part those that it states, or None."""
    if (stated := theory_of(case)) is not None:
        return stated.get("rate")
    return closed_forms.decay_rate(case.init, d_model=case.d_model, inner=case.inner)


def band(case: Case) -> float:
    """Return the half-width of what counts as the same rate, in decades a layer."""
    return UNIT if case.init == "unit" else RATE * abs(decay(case) or 0.0)


def slopes(x: ArrayLike, rows: ArrayLike) -> np.ndarray:
    """Slope of log10 of each row against ``x``: ``[seeds, n]`` to ``[seeds]``."""
    return np.asarray(np.polyfit(np.asarray(x), np.log10(rows).T, 1)[0])


def mean_log(rows: ArrayLike) -> list[float | None]:
    """Mean over the seeds of log10: ``[seeds, n]`` to n numbers, null where one of the seeds has 0."""
    with np.errstate(divide="ignore"):
        return [float(v) if np.isfinite(v) else None for v in np.log10(rows).mean(0)]


def seeded(case: Case, seed: int) -> Workload:
    """The case drawn by another seed."""
    return Workload(replace(case, seed=seed))


def class_loss(work: Workload) -> None:
    """Forward and backward of the case's own loss."""
    work.build_graph()
    work.backward()


def recorded(work: Workload, loss: Callable[[Workload], None] = class_loss) -> dict[str, Any]:
    """The report of one forward and backward pass."""
    with Recorder(work.model) as seen:
        loss(work)
    return seen.report()
