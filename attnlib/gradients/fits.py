"""Shared parts of the gradient checks: seeds, tolerance bands, fits over seeds, and a case's closed-form rate."""

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
RATE, UNIT = 0.05, 0.02  # half-widths of a rate's band: relative; in decades a layer, where the rate is almost 0


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
    """Return the closed form's decades a layer; of somebody else's part those that it states, or None.

    With ``value_residual`` the first layer's values, and so its gradient, reach the last layers past all others: 0.
    """
    if (stated := theory_of(case)) is not None:
        return stated.get("rate")
    if case.value_residual:
        return 0.0
    return closed_forms.decay_rate(case)


def band(case: Case) -> float:
    """Return the half-width of the band around a case's rate, in decades a layer."""
    return UNIT if case.init == "unit" or case.value_residual else RATE * abs(decay(case) or 0.0)


def slopes(x: ArrayLike, rows: ArrayLike) -> np.ndarray:
    """Return the slope of log10 of each row against ``x`` ``[n]``: ``[seeds, n]`` to ``[seeds]``."""
    # polyfit fits one line to each column, so seeds become columns: [n, seeds]; row 0 of its result has the slopes
    return np.asarray(np.polyfit(np.asarray(x), np.log10(rows).T, 1)[0])


def mean_log(rows: ArrayLike) -> list[float | None]:
    """Return the mean of log10 over the seeds: ``[seeds, n]`` to n numbers, None where a seed has 0."""
    with np.errstate(divide="ignore"):  # log10(0) is -inf, which becomes None
        return [float(v) if np.isfinite(v) else None for v in np.log10(rows).mean(0)]


def seeded(case: Case, seed: int) -> Workload:
    """Return the workload of a case with another seed."""
    return Workload(replace(case, seed=seed))


def class_loss(work: Workload) -> None:
    """Run the forward and backward pass of the case's own loss."""
    work.build_graph()
    work.backward()


def recorded(work: Workload, loss: Callable[[Workload], None] = class_loss) -> dict[str, Any]:
    """Return the ``Recorder``'s report of one forward and backward pass."""
    with Recorder(work.model) as seen:
        loss(work)
    return seen.report()
