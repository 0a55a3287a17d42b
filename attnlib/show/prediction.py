"""Tables of a step's predicted cost: FLOPs by component, peak memory by kind, time, and a line to quote."""

from collections.abc import Mapping
from typing import Any

from attnlib import __version__
from attnlib.cases.text import size
from attnlib.runs.schema import Floor, label_of
from attnlib.show.table import Column, Table
from attnlib.show.units import many, seconds

FLOPS = Column(lambda value: f"{many(value)}FLOP", number=True)


def predicted(found: Mapping[str, Any], reached: str | None = None) -> list[Table]:
    """Return the tables of a forecast.

    Args:
        found: the forecast, as ``predict.forecast.forecast`` makes it.
        reached: in words, the share of the ceilings that like cases of a saved run reached.
    """
    return [*([products(found["flops"])] if found["flops"] else []), memory(found, reached)]


def products(flops: Mapping[str, Mapping[str, tuple[int, int]]]) -> Table:
    """FLOPs of matrix products by component, forward and backward: what is needed, and what kernels execute."""
    rows: list[dict[str, Any]] = [{"FLOPs": name} for name in flops["algorithmic"]]
    total: dict[str, Any] = {"FLOPs": "sum"}
    for kind in flops:
        for index, direction in enumerate(("forward", "backward")):
            for row in rows:
                row[f"{kind}, {direction}"] = flops[kind][row["FLOPs"]][index]
            total[f"{kind}, {direction}"] = sum(row[f"{kind}, {direction}"] for row in rows)
    return Table({"FLOPs": Column()} | dict.fromkeys(list(total)[1:], FLOPS), [*rows, total])


def memory(found: Mapping[str, Any], reached: str | None) -> Table:
    """Return the predicted peak by kind, with lines on time and what it rests on."""
    peak, case, after = found["predicted_peak"]["value"], found["case"], []
    if peak is None:
        return Table({}, [], after=[f"peak: not predicted: {found['predicted_peak']['reason']}"])
    if found["calibrated"]:
        after += [f"peaks were held against torch {found['calibrated']}, and this is {found['torch']}: they may differ"]
    time = "no time: the device is not here"
    if found["floor_s"]:
        floor = Floor(**found["floor_s"])
        time = f"{'about' if found['ceilings_disturbed'] else 'at least'} {seconds(floor.seconds)}"
        after += [f"at this machine's ceilings: {seconds(floor.seconds)}, most of it {floor.binding}"]
        if found["ceilings_disturbed"]:
            reasons = "; ".join(found["ceilings_disturbed"])
            after += [
                f"something else used the machine while its ceilings were read, so a step may take less: {reasons}"
            ]
        after += [f"like cases ran at {reached}"] if reached else []
    known = f" ({found['kernel_known']})" if found["kernel_known"] else ""
    after += [
        f"{found['operators']} operators, which move {size(found['bytes_moved'])}; "
        f"attention by {found['kernel']}{known}"
    ]
    widths = f"D={case['d_model']} H={case['n_heads']} B={case['batch_size']} {case['dtype']}"
    where = (
        f"{case['device']}, {found['threads']} thread{'s' * (found['threads'] > 1)}"
        if case["device"] == "cpu"
        else case["device"]
    )
    executed = [sum(flops) for flops in (found["flops"] or {}).get("executed", {}).values()]
    work = f", {many(sum(executed))}FLOP forward and back" if executed else ""
    after += [
        f"attnlib {__version__}, torch {found['torch']}, {where}: {label_of(case)} {widths}: "
        f"{found['params']:,} parameters{work}, peak {size(peak)}, {time}"
    ]
    parts = [{"peak memory": kind, "bytes": value} for kind, value in found["predicted_parts"].items() if value]
    rows = [*parts, {"peak memory": "sum", "bytes": peak}]
    return Table({"peak memory": Column(), "bytes": Column(lambda n: f"{n:,}", number=True)}, rows, after=after)
