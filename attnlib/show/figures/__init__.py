"""The registry of figures of saved runs. Matplotlib is imported only when one is drawn."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from matplotlib.figure import Figure

    from attnlib.compare.cells import Cells

FIGURES = {  # by name: the module here that has a function of this name
    "encoding_cost": "cost",
    "time_against_seq_len": "cost",
    "time_against_depth": "cost",
    "heat_map": "cost",
    "memory": "cost",
    "energy": "cost",
    "scaling": "scaling",
    "time_per_token": "scaling",
    "gradients": "gradients",
    "profiles": "gradients",
    "collapse": "gradients",
    "denormals": "gradients",
    "learned_accuracy": "learning",
    "depth_accuracy": "learning",
    "accuracy_cost": "learning",
    "beside": "beside",
}


def find_figure(name: str) -> Callable[[Cells], Figure | None]:
    """Return the function that draws the figure of this name, or returns None where the runs have no data for it."""
    draw: Callable[[Cells], Figure | None] = getattr(import_module(f"{__name__}.{FIGURES[name]}"), name)
    return draw
