"""Figures of saved runs, by what they show, and their registry: a name, and what draws it or says that it cannot."""

from collections.abc import Callable

from matplotlib.figure import Figure

from attnlib.compare.cells import Cells
from attnlib.show.figures import cost, gradients, learning, scaling

FIGURES: dict[str, Callable[[Cells], Figure | None]] = {
    f.__name__: f
    for f in (
        cost.encoding_cost,
        cost.time_against_seq_len,
        cost.time_against_depth,
        cost.heat_map,
        cost.memory,
        cost.energy,
        scaling.scaling,
        scaling.time_per_token,
        gradients.gradients,
        gradients.profiles,
        gradients.collapse,
        gradients.denormals,
        learning.learned_accuracy,
        learning.depth_accuracy,
        learning.accuracy_cost,
    )
}
