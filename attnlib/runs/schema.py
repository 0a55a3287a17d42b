"""The results contract, as code: what every saved run must hold for its readers. More may be there, and is kept."""

from collections import Counter
from typing import Annotated, Any, Literal

from msgspec import UNSET, Meta, Struct, UnsetType

from attnlib.runs.findings import Count, Name, Object, Positive, Probe, Real, Size, probe_problems, problem

SCHEMA = 2
READ = (1, SCHEMA)  # in 1 a check of gradients was a benchmark of one round, its findings in ``extra_info.probe``
Status = Literal["ok", "oom", "timeout", "unsupported", "error", "crashed", "interrupted"]
NotNegative = Annotated[float, Meta(ge=0, le=1e12)]
Scalars = dict[Name, Name | int | float | bool | None]  # all fields of a case


class Case(Struct):
    """The fields of a case that readers use."""

    phase: Name
    pe: Name
    block: Name
    attention: Name
    init: Name
    denormals: Name
    seq_len: Size
    depth: Count
    batch_size: Size
    d_model: Size
    head_dim: Size | None
    causal: bool


class Reading(Struct, forbid_unknown_fields=True):
    """A value, or null and why."""

    value: Annotated[int, Meta(ge=-(2**62), le=2**62)] | Real | None
    method: str
    reason: str | None


class OverReference(Struct):
    """A case's time over that of the same case with other fields, its rounds beside theirs; or null and why."""

    value: Positive | None
    low: Positive | None = None
    high: Positive | None = None
    blocks: Count = 0
    visits: Count = 0
    interval: str | None = None  # what it comes from
    reference: Scalars = {}
    reason: str | None = None


class Visit(Struct):
    """One visit of a case: its log ratio over the reference, null without one, and how many rounds it has of each."""

    log_ratio: Real | None
    interval: tuple[Positive, Positive] | None
    rounds: Size
    blocks: Count = 0
    disturbed: list[str] = []
    at_s: float | None = None
    process: Count | None = None


class Lost(Struct):
    """A visit that came to nothing."""

    visit: Count
    reason: str


class Time(Struct):
    """How the samples were taken, in seconds."""

    interval: tuple[Positive, Positive] | None
    disturbed: list[str] = []
    canary_s: list[Positive] = []
    over_reference: OverReference | UnsetType = UNSET
    reference_s: list[Positive] | None = None
    visits: list[Visit] = []  # none before there were visits
    visits_planned: Count = 1
    visits_lost: list[Lost] = []


class Row(Struct):
    """A planned case and what became of it; ``probe`` is what a check of gradients found."""

    case: Case
    case_id: str
    test: str
    status: Status
    reason: str | None = None
    process: Count | None = None
    probe: Probe | UnsetType = UNSET


class Floor(Struct, forbid_unknown_fields=True):
    """Seconds that a step's products, memory and operators would take at the machine's ceilings."""

    products: NotNegative
    memory: NotNegative
    operators: NotNegative


class Cost(Struct):
    """What a case should cost: FLOPs executed and needed, peak bytes and what is in them, operators and their floor."""

    params: Count | None = None
    flops: Count | None = None
    flops_algorithmic: Count | None = None
    predicted_peak: Reading | None = None
    predicted_parts: dict[str, int] = {}
    bytes_moved: Count | None = None
    operators: Count | None = None
    floor_s: Floor | None = None


class Energy(Struct):
    """Joules of one step, and the window of steps that it is the mean of."""

    joules: Reading
    window_s: NotNegative | None = None
    steps: Count = 0
    power_w: Reading | None = None


class Rates(Struct):
    """A reading of the ceilings."""

    dtype: Name
    flops_per_s: Annotated[float, Meta(gt=0, le=1e18)]
    copies: list[tuple[Count, Positive]]
    operator_s: Positive


class Attention(Struct):
    """Which attention kernel ran."""

    kernel: Annotated[str, Meta(pattern=r"^[A-Za-z0-9_+]{1,200}$")] | None
    fused: bool | None
    reason: str | None


class Info(Struct):
    """``extra_info`` of a case."""

    case: Case
    case_id: str
    time: Time
    memory: dict[str, Reading]
    cost: Cost
    attention: Attention | UnsetType = UNSET
    energy: Energy | UnsetType = UNSET
    flags: list[str] = []
    probe: Probe | UnsetType = UNSET


class Stats(Struct):
    """Seconds of every round."""

    data: Annotated[list[Positive], Meta(min_length=1)]


class Timed(Struct):
    """A benchmark that is a case."""

    fullname: str
    extra_info: Info
    stats: Stats


class Canary(Struct):
    """One reading of the canary."""

    seconds: Positive
    kinds: dict[Name, Positive] = {}
    rates: Rates | None = None
    at_s: float | None = None
    process: Count | None = None


class Process(Struct):
    """When and where a process worked on the run."""

    node: str | None = None
    uuid: str | None = None
    affinity: list[int] | None = None
    started: str | None = None


class Axes(Struct, forbid_unknown_fields=True):
    """The order of names, as their registries have it."""

    pe: list[Name]
    block: list[Name]
    attention: list[Name] = []
    init: list[Name] = []


class Device(Struct):
    """What was measured."""

    kind: Name = "cpu"


class Machine(Struct):
    """``machine_info.attnlib``."""

    device: Device | None = None
    versions: dict[str, str | None] | None = None
    memory_bytes: Count | None = None


class MachineInfo(Struct):
    """``machine_info``."""

    attnlib: Machine
    node: str | None = None
    cpu: Object | None = None


class Ours(Struct):
    """The section ``attnlib``; its cases are checked one by one."""

    cases: list[Object]
    axes: Axes
    canary: list[Canary] = []
    processes: list[Process] = []
    nodes: dict[str, MachineInfo] = {}
    wall_s: NotNegative | None = None


class Run(Struct):
    """A saved run; its benchmarks are checked one by one."""

    machine_info: MachineInfo
    commit_info: Object
    benchmarks: list[Object]
    datetime: str
    version: str
    attnlib: Ours


def problems(run: Any) -> list[str]:
    """Everything in ``run`` (decoded JSON) that breaks the contract, a line each; an empty list for a good run."""
    if not isinstance(run, dict):
        return ["not a JSON object"]
    ours = run.get("attnlib")
    if not isinstance(ours, dict):
        return ["no 'attnlib' section: not a run of this suite"]
    if type(ours.get("schema")) is not int or ours["schema"] not in READ:
        return [f"schema {ours.get('schema')!r:.40}, this version reads {' and '.join(map(str, READ))}"]
    if found := problem(run, Run):
        return found
    found += [text for row in ours["cases"] for text in row_problems(row, ours["axes"])]
    found += [text for row in run["benchmarks"] for text in benchmark_problems(row)]
    if found:
        return found
    of_cases = [row for row in run["benchmarks"] if "case_id" in row.get("extra_info", ())]
    timed = {row["fullname"]: row["extra_info"] for row in of_cases}
    once = {"benchmark": [row["fullname"] for row in of_cases]}
    once |= {name: [row[name] for row in ours["cases"]] for name in ("test", "case_id")}
    once["case"] = [str(sorted(row["case"].items())) for row in ours["cases"]]
    for what, names in once.items():
        found += [f"{what} {name} is there {count} times" for name, count in Counter(names).items() if count > 1]
    for row in ours["cases"]:
        info = timed.get(row["test"], {})
        if row["status"] == "ok" and not info and not row.get("probe"):
            found.append(f"{row['test']}: ok without a time or a finding")
        elif info and (info["case"], info["case_id"]) != (row["case"], row["case_id"]):
            found.append(f"{row['test']}: its time is another case's")
    return found


def row_problems(row: Any, axes: Object) -> list[str]:
    """What is wrong with one row of ``attnlib.cases``, given the names on the axes."""
    if found := problem(row, Row, "a row of attnlib.cases"):
        return found
    if row["status"] != "ok" and not row.get("reason"):
        return [f"{row['test']}: status {row['status']} without a reason"]
    case = row["case"]
    if found := problem(case, Scalars, f"{row['test']}: case"):
        return found
    found = [f"{name} {case[name]!r} is not on its axis" for name in ("pe", "block") if case[name] not in axes[name]]
    return [f"{row['test']}: {text}" for text in found + probe_problems(case, row.get("probe", {}))]


def benchmark_problems(row: Any) -> list[str]:
    """What is wrong with one benchmark; one that is no case, such as a ratio of peers, may be anything."""
    info = row.get("extra_info", {})
    if isinstance(info, dict) and "case_id" not in info:
        return []
    name = row.get("fullname") if isinstance(row.get("fullname"), str) else "a benchmark"
    if found := problem(row, Timed, name):
        return found
    if "allocated_peak" not in info["memory"]:
        return [f"{name}: no memory.allocated_peak"]
    found = [
        f"{name}: memory.{key} is null without a reason"
        for key, r in info["memory"].items()
        if r["value"] is None and not r["reason"]
    ]
    joules = info.get("energy", {}).get("joules")
    if joules and joules["value"] is None and not joules["reason"]:
        found.append(f"{name}: energy.joules is null without a reason")
    if joules and joules["value"] is not None and not joules["value"] > 0:
        found.append(f"{name}: energy.joules is {joules['value']}, which no step takes")
    found += [f"{name}: {text}" for text in pair_problems(row)]
    return found + [f"{name}: {text}" for text in probe_problems(info["case"], info.get("probe", {}))]


def pair_problems(row: Any) -> list[str]:
    """What is wrong with the ratio over the reference; nothing where a case has none."""
    time = row["extra_info"]["time"]
    if (over := time.get("over_reference")) is None:
        return []
    if over["value"] is None:
        return [] if over.get("reason") else ["time.over_reference is null without a reason"]
    if over.get("low") is None or over.get("high") is None or not over["low"] <= over["value"] <= over["high"]:
        return ["time.over_reference has no interval that holds its value"]
    if not over.get("reference"):
        return ["time.over_reference does not say over what"]
    if not time.get("reference_s"):
        return ["time.over_reference without time.reference_s"]
    rounds = sum(visit["rounds"] for visit in time.get("visits", ()))
    counts = {"stats.data": len(row["stats"]["data"]), "time.reference_s": len(time["reference_s"])}
    other = {name: count for name, count in counts.items() if rounds not in (0, count)}
    return [f"time.visits have {rounds} rounds, {name} has {count}" for name, count in other.items()]
