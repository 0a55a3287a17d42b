"""Tables of saved runs: what each encoding costs and how it lets signals die, and every claim with its theory."""

from collections.abc import Sequence
from html import escape
from typing import Any

from attnlib.runs.cells import Cells, centre, middle
from attnlib.runs.load import Cell
from attnlib.runs.text import seconds, size

Row = dict[str, str]
STEP = {"phase": "train_step", "denormals": "flush"}


def encodings(cells: Cells) -> list[Row]:
    """One row an encoding: a train step in the middle of the grid, and its gradients and tokens in plain stacks.

    Time with its interval, its ratio to ``none`` in the same run, peak memory, the encoding's own parameters, the
    attention kernel, the first layer's decay in decades a layer (torch_mha, D = HK = 64) and the law by which tokens
    become alike (unit gain, no mask). A number that the runs do not hold is ``-``.
    """
    axes = [cells.axis(name, **STEP) for name in ("seq_len", "depth")]
    at = {"seq_len": middle(axes[0]), "depth": middle(axes[1])} if all(axes) else {"seq_len": None, "depth": None}
    base = cells.first(pe="none", **at, **STEP)
    return [
        {"encoding": pe, **cost(cells, cells.first(pe=pe, **at, **STEP), base), **signals(cells, pe)}
        for pe in cells.axis("pe")
        if cells.where(pe=pe, **at, **STEP) or cells.where(pe=pe, phase="collapse")
    ]


def cost(cells: Cells, group: Sequence[Cell], base: Sequence[Cell]) -> Row:
    """What one case costs, and in ratio to another in the same runs."""
    value, ratio = centre(group), cells.ratio(group, base)
    info, none = ([cell.info for cell in side if cell.info] for side in (group, base))
    if value is None or not info:
        return dict.fromkeys(("train step", "/ none", "peak", "parameters", "attention"), "-")
    peak, attention = info[0]["memory"]["allocated_peak"]["value"], info[0].get("attention", {})
    kernel = attention.get("kernel")
    own, plain = (side[0]["cost"].get("params") if side else None for side in (info, none))
    return {
        "train step": f"{seconds(value[0])} [{seconds(value[1])}, {seconds(value[2])}]",
        "/ none": "-" if ratio is None else interval(*ratio, digits=2),
        "peak": "-" if peak is None else size(peak),
        "parameters": "-" if own is None or plain is None else str(own - plain),
        "attention": "-" if kernel is None else ("fused" if attention["fused"] else kernel.replace("attention_", "")),
    }


def signals(cells: Cells, pe: str) -> Row:
    """How gradients and tokens die in a plain stack with this encoding."""
    rate = claims(cells.first(phase="rate", pe=pe, init="torch_mha", d_model=64, head_dim=16))
    law = claims(cells.first(phase="collapse", pe=pe, block="plain", causal=False))
    words = "-"
    if "exponent" in law:
        exponent = law["exponent"]
        words = {3: "cubic", 1: "geometric"}.get(exponent["theory"], "") + f", exponent {exponent['mean']:.2f}"
    if "decades a layer" in law:
        words += f", x {10.0 ** min(law['decades a layer']['mean'], 300):.2g} a layer"
    decay = rate.get("first_layer")
    return {
        "decades a layer": "-" if decay is None else interval(decay["mean"], decay["low"], decay["high"], digits=3),
        "tokens become alike": words,
    }


def claims(group: Sequence[Cell]) -> dict[str, dict[str, Any]]:
    """The claims of a check by name; the same in every run, so the first run's."""
    info = next((cell.info for cell in group if cell.info), None)
    return {claim["name"]: claim for claim in (info or {}).get("probe", {}).get("claims", ())}


def interval(mean: float, low: float, high: float, *, digits: int) -> str:
    """A mean with its interval, where it has one."""
    bounds = "" if low == high else f" [{low:.{digits}f}, {high:.{digits}f}]"
    return f"{mean:.{digits}f}{bounds}"


def findings(cells: Cells) -> list[Row]:
    """One row a claim: what was checked, on which stack, what was fitted, what theory says and the band that it had."""
    rows = []
    for group in sorted(cells.by_id.values(), key=lambda group: group[0].label):
        for claim in claims(group).values():
            bounds = ("" if claim[side] is None else f"{claim[side]:.4g}" for side in ("least", "most"))
            rows.append(
                {
                    "stack": group[0].label,
                    "claim": claim["name"],
                    "fitted": " ".join(f"{claim[key]:.4g}" for key in ("mean", "low", "high")),
                    "theory": "-" if claim["theory"] is None else f"{claim['theory']:.4g}",
                    "band": " .. ".join(bounds),
                }
            )
    return rows


def markdown(rows: Sequence[Row]) -> str:
    """A table in Markdown; nothing in it is markup."""
    head = list(rows[0])
    lines = [head, ["---"] * len(head), *(list(row.values()) for row in rows)]
    return "\n".join(
        "| " + " | ".join(escape(cell, quote=False).replace("|", "\\|") for cell in line) + " |" for line in lines
    )
