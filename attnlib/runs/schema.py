"""The results contract, as code."""

import math
from collections.abc import Iterator
from typing import Any

SCHEMA = 1
STATUSES = ("ok", "oom", "timeout", "unsupported", "error", "crashed", "interrupted")
TOP = ("machine_info", "commit_info", "benchmarks", "datetime", "version")  # what other readers need
CASE = {  # what readers use
    *("phase", "seq_len", "depth", "pe", "block", "attention", "denormals", "init", "batch_size"),
    *("causal", "d_model", "head_dim"),
}
CLAIM = {"name", "mean", "low", "high", "theory", "least", "most", "seeds"}
READING = {"value", "method", "reason"}


def problems(run: Any) -> list[str]:
    """Everything in ``run`` (decoded JSON) that breaks the contract, a line each; an empty list for a good run."""
    if not isinstance(run, dict):
        return ["not a JSON object"]
    found = [f"no {key!r}" for key in TOP if key not in run]
    ours = run.get("attnlib")
    if not isinstance(ours, dict):
        return ["no 'attnlib' section: not a run of this suite", *found]
    if ours.get("schema") != SCHEMA:
        return [*found, f"schema {ours.get('schema')!r}, this version reads {SCHEMA}"]
    if found:
        return found
    if not isinstance(run["machine_info"], dict) or not isinstance(run["machine_info"].get("attnlib"), dict):
        found.append("machine_info has no 'attnlib'")
    if not isinstance(run["benchmarks"], list) or not isinstance(ours.get("cases"), list):
        return [*found, "'benchmarks' or 'attnlib.cases' is not a list"]
    axes = ours.get("axes")
    if not isinstance(axes, dict) or not all(isinstance(axes.get(name), list) for name in ("pe", "block")):
        found.append("no attnlib.axes with pe and block")
    canary = ours.get("canary", [])
    if not isinstance(canary, list) or not all(isinstance(r, dict) and _positive(r.get("seconds")) for r in canary):
        found.append("attnlib.canary is not a list of readings in seconds")
    found += [text for row in ours["cases"] for text in _case_problems(row)]
    found += [text for row in run["benchmarks"] for text in _benchmark_problems(row)]
    found += [f"{path} is not finite" for path, value in numbers(run) if not math.isfinite(value)]
    return found


def numbers(node: Any, path: str = "run") -> Iterator[tuple[str, float]]:
    """Every number in decoded JSON with its path."""
    if isinstance(node, float):
        yield path, node
    elif isinstance(node, dict):
        for key, value in node.items():
            yield from numbers(value, f"{path}.{key}")
    elif isinstance(node, list):
        for index, value in enumerate(node):
            yield from numbers(value, f"{path}[{index}]")


def _case_problems(row: Any) -> list[str]:
    if (
        not isinstance(row, dict)
        or not isinstance(row.get("case"), dict)
        or not all(isinstance(row.get(key), str) for key in ("case_id", "test"))
    ):
        return ["a row of attnlib.cases has no case, case_id or test"]
    if missing := CASE - set(row["case"]):
        return [f"{row.get('test')}: case lacks {', '.join(sorted(missing))}"]
    if row.get("status") not in STATUSES:
        return [f"{row.get('test')}: unknown status {row.get('status')!r}"]
    if row["status"] != "ok" and not row.get("reason"):
        return [f"{row.get('test')}: status {row['status']} without a reason"]
    return []


def _positive(value: Any) -> bool:
    return isinstance(value, (int, float)) and value > 0


def _list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [None]


def _probe_problems(probe: Any) -> list[str]:
    if not isinstance(probe, dict):
        return ["probe is not an object"]
    claims = probe.get("claims", [])
    if not isinstance(claims, list) or not all(isinstance(claim, dict) for claim in claims):
        return ["probe.claims is not a list of objects"]
    found = [f"a claim lacks {', '.join(sorted(CLAIM - set(claim)))}" for claim in claims if CLAIM - set(claim)]
    if claims and not isinstance(probe.get("curves"), dict):
        found.append("probe has claims and no curves")
    return found


def _benchmark_problems(row: Any) -> list[str]:
    if not isinstance(row, dict) or not all(isinstance(row.get(key), dict) for key in ("extra_info", "stats")):
        return ["a benchmark has no extra_info or stats"]
    name, info = row.get("fullname"), row["extra_info"]
    if "case_id" not in info:  # a benchmark that is no case, such as a ratio of peers
        return []
    found = [f"{name}: no extra_info.{key}" for key in ("case", "time", "memory", "cost") if key not in info]
    data = row["stats"].get("data")
    if not isinstance(data, list) or not data or not all(isinstance(x, (int, float)) for x in data):
        found.append(f"{name}: no raw samples")
    if not isinstance(info.get("time"), dict) or "interval" not in info["time"]:
        found.append(f"{name}: no time.interval")
    elif not isinstance(info["time"].get("disturbed", []), list):
        found.append(f"{name}: time.disturbed is not a list")
    elif not all(_positive(value) for value in _list(info["time"].get("canary_s", []))):
        found.append(f"{name}: time.canary_s is not a list of seconds")
    if not isinstance(info.get("cost"), dict):
        found.append(f"{name}: cost is not an object")
    found += [f"{name}: {text}" for text in _probe_problems(info.get("probe", {}))]
    memory = info.get("memory")
    if not isinstance(memory, dict) or "allocated_peak" not in memory:
        found.append(f"{name}: no memory.allocated_peak")
    for key, value in memory.items() if isinstance(memory, dict) else ():
        if not isinstance(value, dict) or set(value) != READING or (value["value"] is None and not value["reason"]):
            found.append(f"{name}: memory.{key} is no reading")
    return found
