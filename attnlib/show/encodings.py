"""The table of encodings: what each costs, and how it lets gradients and tokens die."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from attnlib.cases.text import size
from attnlib.compare.cells import STEP, Cells, claims, interval_note, middle
from attnlib.compare.intervals import Estimate
from attnlib.runs.load import Cell
from attnlib.show.table import Column, Table
from attnlib.show.units import digits, seconds, with_interval


class Law(NamedTuple):
    """By what law tokens become alike: r -> C r^exponent, the theory's exponent, and C where it is known."""

    exponent: float
    theory: float | None
    decades: float | None

    def __str__(self) -> str:
        word = {3.0: "cubic", 1.0: "geometric"}.get(self.theory or 0.0, "")
        factor = "" if self.decades is None else f", x {10.0 ** min(self.decades, 300):.2g} a layer"
        return f"{word}, exponent {self.exponent:.2f}{factor}"


COLUMNS = {
    "encoding": Column(),
    "train step": Column(with_interval(seconds)),
    "/ none": Column(with_interval(digits(2))),
    "peak": Column(size, number=True),
    "parameters": Column(number=True),
    "attention": Column(),
    "decades a layer": Column(with_interval(digits(3))),
    "tokens become alike": Column(prose=True),
}


def encodings(cells: Cells) -> list[Table]:
    """One row an encoding: a train step in the middle of the grid, and its gradients and tokens in plain stacks.

    Time with its interval, its ratio to ``none`` in the same run, peak memory, the encoding's own parameters, the
    attention kernel, the first layer's decay in decades a layer (torch_mha, D = HK = 64) and the law by which tokens
    become alike (unit gain, no mask). A number that the runs do not hold is ``-``.
    """
    axes = [cells.axis(name, **STEP) for name in ("seq_len", "depth")]
    at = {"seq_len": middle(axes[0]), "depth": middle(axes[1])} if all(axes) else {"seq_len": None, "depth": None}
    base = cells.first(pe="none", **at, **STEP)
    rows, links = [], []
    for pe in cells.axis("pe"):
        found = {"train step": cells.first(pe=pe, **at, **STEP), **checks(cells, pe)}
        if found["train step"] or cells.where(pe=pe, phase="collapse"):
            rows.append({"encoding": pe, **cost(cells, found["train step"], base), **signals(found)})
            links.append({heading: group[0].case_id for heading, group in found.items() if group})
    return [Table(COLUMNS, rows, after=[f"brackets of times: {interval_note(cells)}"], links=links)]


def cost(cells: Cells, group: Sequence[Cell], base: Sequence[Cell]) -> dict[str, Any]:
    """Return the columns of a case's cost, also as a ratio to another case of the same runs; empty without a time."""
    value = cells.time(group)
    own, plain = (next((cell for cell in side if cell.info), None) for side in (group, base))
    if value is None or own is None or own.info is None:
        return {}
    attention = own.info.attention
    kernel = attention.kernel if attention else None
    params = own.cost.params, plain.cost.params if plain else None
    return {
        "train step": value,
        "/ none": cells.ratio(group, base),
        "peak": own.peak,
        "parameters": None if params[0] is None or params[1] is None else params[0] - params[1],
        "attention": "fused" if attention and attention.fused else kernel and kernel.replace("attention_", ""),
    }


def checks(cells: Cells, pe: str) -> dict[str, list[Cell]]:
    """The checks of plain stacks with this encoding, by the heading of what they say."""
    return {
        "decades a layer": cells.first(phase="rate", pe=pe, init="torch_mha", d_model=64, head_dim=16),
        "tokens become alike": cells.first(phase="collapse", pe=pe, block="plain", causal=False),
    }


def signals(found: Mapping[str, Sequence[Cell]]) -> dict[str, Any]:
    """Return the columns of how gradients decay and tokens become alike in a plain stack, from its ``checks``."""
    rate = claims(found["decades a layer"]).get("first_layer")
    law = claims(found["tokens become alike"])
    exponent, factor = law.get("exponent"), law.get("decades a layer")
    return {
        "decades a layer": None if rate is None else Estimate(rate.mean, rate.low, rate.high),
        "tokens become alike": None
        if exponent is None
        else Law(exponent.mean, exponent.theory, None if factor is None else factor.mean),
    }
