"""The registry of figures of saved runs. Matplotlib is imported only when a figure is drawn."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from matplotlib.figure import Figure

    from attnlib.compare.cells import Cells

FIGURES = {  # name of a figure, and of the function that draws it, to the module of that function
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
    "accuracy_over_steps": "learning",
    "depth_accuracy": "learning",
    "accuracy_cost": "learning",
    "length_accuracy": "lengths",
    "beside": "beside",
    "switch_cost": "switches",
}


def find_figure(name: str) -> Callable[[Cells], Figure | None]:
    """Return the function that draws this figure from saved runs, or returns None if they have no data for it."""
    draw: Callable[[Cells], Figure | None] = getattr(import_module(f"{__name__}.{FIGURES[name]}"), name)
    return draw
