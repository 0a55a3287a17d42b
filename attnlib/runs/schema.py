"""Schema of saved runs, the results contract: fields that every saved run must have. Further ones are kept."""

from collections import Counter
from collections.abc import Mapping
from typing import Annotated, Any, Literal, NamedTuple, TypeVar

import msgspec
from msgspec import Meta, Struct

SCHEMA = 2
READ = (1, SCHEMA)  # in 1 a check of gradients was a benchmark of one round, its findings in ``extra_info.probe``
Status = Literal["ok", "oom", "timeout", "unsupported", "error", "crashed", "interrupted"]
NotNegative = Annotated[float, Meta(ge=0, le=1e12)]
Name = Annotated[str, Meta(pattern=r"^[A-Za-z0-9_.:+=-]{1,200}$")]  # becomes part of labels in tables and figures
Words = Annotated[str, Meta(pattern=r"^[A-Za-z0-9_ ',./-]{1,200}$")]
Count = Annotated[int, Meta(ge=0, le=2**62)]
Size = Annotated[int, Meta(ge=1, le=2**62)]
Real = Annotated[float, Meta(ge=-1e15, le=1e15)]  # beyond is no measurement, and would overflow in sums and powers
Share = Annotated[float, Meta(ge=0, le=1)]
Positive = Annotated[float, Meta(ge=1e-12, le=1e12)]  # seconds
Object = dict[str, Any]
# the part of a data set that a phase is judged on
LEARNED = {"bag": "test", "learn": "test", "depth": "test", "pool": "validation", "tune": "validation"}
CURVES = {  # what figures draw of a check: against what, and what
    "rate": ("depth", "first_layer", "token_embedding"),
    "profile": ("layer", "q", "k", "v", "out", "activation"),
    "collapse": ("layer", "residual"),
    "lengths": ("length", "exact", "per_token"),
}


Scalars = dict[Name, Name | int | float | bool | None]  # all fields of a case
Kind = TypeVar("Kind")


class Case(Struct, frozen=True):
    """The fields of a case that readers use."""

    phase: Name
    pe: Name
    seq_len: Size
    depth: Count
    batch_size: Size
    d_model: Size
    head_dim: Size | None
    device: Name = "cpu"
    steps: Count | None = None
    until_loss: Real | None = None
    # what labels say where it is unusual, in this order
    block: Name = "plain"
    denormals: Name = "flush"
    attention: Name = "sdpa"
    init: Name = "torch_mha"
    model: Name = "stack"
    causal: bool = False
    seed: int = 0
    cache: Name = "hot"
    launch: Name = "eager"
    matmul_precision: Name = "highest"
    data: Name | None = None
    n_train: Count | None = None
    learning_rate: Real | None = None
    norm: Name = "layer"
    kv_heads: Size | None = None
    qk_norm: bool = False
    window: Size | None = None
    softmax: Name = "usual"
    gate: Name = "none"
    value_residual: bool = False
    activation: Name = "relu"
    depth_scale: Name = "none"
    pooling: Name = "mean"
    train_length: Size | None = None
    test_length: Size | None = None

    @property
    def label(self) -> str:
        """The case in words: its phase and axes, and fields that differ from their defaults."""
        words = [self.phase, f"T={self.seq_len}", f"L={self.depth}", self.pe]
        if self.phase == "rate":  # the only axis over widths
            words += [f"D={self.d_model}", f"K={self.head_dim}"]
        for field in msgspec.structs.fields(self)[SHOWN:]:
            value = getattr(self, field.name)
            if value != field.default:
                number = type(value) in (int, float)
                named = number or field.name in NAMED
                word = field.name if value is True else f"{field.name}={value}" if named else str(value)
                words += [word] if word not in self.pe else []  # the label of a switch says it
        return " ".join(words)


def label_of(fields: Mapping[str, Any]) -> str:
    """Return a case in words, given its fields."""
    return msgspec.convert(fields, Case).label


NAMED = (
    "norm",
    "softmax",
    "gate",
    "depth_scale",
    "pooling",
)  # fields whose values alone would not say what they are of
SWITCHES = {  # fields that switches change, with what they are without
    field.name: field.default
    for field in msgspec.structs.fields(Case)
    if field.name
    in (*(name for name in NAMED if name != "pooling"), "kv_heads", "qk_norm", "window", "value_residual", "activation")
}
SHOWN = Case.__struct_fields__.index("block")  # place of the first field that a label may name


class Reading(Struct, forbid_unknown_fields=True):
    """A value with the method that gave it, or null with the reason."""

    value: Annotated[int, Meta(ge=-(2**62), le=2**62)] | Real | None
    method: str
    reason: str | None


class OverReference(Struct):
    """Ratio of a case's time to its reference's, whose rounds alternated with its own; or null with the reason."""

    value: Positive | None
    low: Positive | None = None
    high: Positive | None = None
    blocks: Count = 0
    visits: Count = 0
    interval: str | None = None  # what it comes from
    reference: Scalars = {}
    reason: str | None = None


class Visit(Struct):
    """One visit of a case: its log ratio over the reference, null without one, and its number of rounds a side."""

    log_ratio: Real | None
    interval: tuple[Positive, Positive] | None
    rounds: Size
    blocks: Count = 0
    disturbed: list[str] = []
    at_s: float | None = None
    process: Count | None = None


class LostVisit(Struct):
    """A visit that gave no time, with its number and the reason."""

    visit: Count
    reason: str


class Time(Struct):
    """Fields of a case's times, in seconds: interval, disturbances, canary, ratio, reference's rounds and visits."""

    interval: tuple[Positive, Positive] | None
    disturbed: list[str] = []
    canary_s: list[Positive] = []
    over_reference: OverReference | None = None
    reference_s: list[Positive] | None = None
    visits: list[Visit] = []  # none before there were visits
    visits_planned: Count = 1
    visits_lost: list[LostVisit] = []


class Claim(Struct):
    """A number fitted once per seed: mean, interval, theoretical value, and the bounds that the interval must keep."""

    name: Words
    mean: Real
    low: Real
    high: Real
    theory: Real | None
    least: Real | None
    most: Real | None
    seeds: Count


class Counted(Struct):
    """Counts of the zero and the subnormal numbers among ``numbers``."""

    numbers: Size
    zero: Count
    subnormal: Count


class Training(Struct):
    """Result of a training or another classifier: losses and accuracies on training and held-out examples.

    Choices are made on the validation part and reported on the test part, so a row has numbers of one of them alone.
    """

    n_train: Size
    n_held_out: Size
    left_chance: bool  # on what it learned from
    train_accuracy: Share | None
    seconds: Positive
    reason: str | None = None  # why there are no numbers
    validation_accuracy: Share | None = None
    test_accuracy: Share | None = None
    train_loss: Real | None = None
    validation_loss: Real | None = None
    test_loss: Real | None = None
    learning_rate: Positive | None = None
    pooling: Name | None = None
    epochs: Positive | None = None
    steps: Size | None = None  # that were made
    ended: Name | None = None  # why it ended: ``steps``, or ``learned``, ``stalled`` or ``cap`` of one with until_loss
    learned_at: Size | None = None  # steps after which the loss was below until_loss; null if it never was
    marks: list[tuple[Size, Share]] = []  # steps, and the accuracy on held-out examples after them
    losses: list[Real] = []
    weights: Name | None = None

    def accuracy(self, part: str) -> float | None:
        """Return the accuracy on ``train``, ``validation`` or ``test``."""
        value: float | None = getattr(self, f"{part}_accuracy")
        return value


class Range(Struct, frozen=True):
    """Accuracy on the test examples of a range of lengths: whole answers, and single tokens of answers.

    ``commonest`` is the accuracy of always giving the commonest label of the training texts; null for a task.
    """

    low: Size
    high: Size
    examples: Size
    exact: Share
    per_token: Share
    commonest: Share | None = None


class Lengths(Struct):
    """Result of a training on short sequences, tested on longer ones; ``curves`` has the accuracy at each length.

    ``fits`` says whether almost all new examples of the training lengths were answered right; null for texts, of which
    none can be made.
    """

    learning_rate: Positive
    steps: Count  # that were taken
    ended_early: bool  # since every new example of the training lengths was answered right
    seconds: Positive
    reason: str | None = None  # why there are no numbers
    fits: bool | None = None
    ranges: list[Range] = []  # the training lengths first
    losses: list[Real] = []
    weights: Name | None = None


class Probe(Struct):
    """Findings of a gradient check, counts of subnormal numbers, or the result of a training."""

    claims: list[Claim] = []
    curves: dict[str, list[Real | None]] = {}
    counts: dict[str, Counted] = {}
    training: Training | None = None
    lengths: Lengths | None = None

    def __bool__(self) -> bool:
        """Return True if anything was found."""
        return bool(self.claims or self.curves or self.counts or self.training or self.lengths)


class Origin(Struct, forbid_unknown_fields=True):
    """Origin of a part of the model that is not attnlib's own."""

    name: Name  # as it was asked for
    distribution: str | None
    version: str | None
    source: str | None  # beginning of the SHA-256 of the file that defines it


class GradientNorm(Struct, forbid_unknown_fields=True):
    """Frobenius norm of the gradient of one parameter of a model that is not attnlib's; null if it is not finite."""

    parameter: str
    norm: NotNegative | None


class Row(Struct):
    """A planned case, its status and reason; ``probe`` is the finding of its gradient check or training."""

    case: Case
    case_id: str
    test: str
    status: Status
    reason: str | None = None
    process: Count | None = None
    probe: Probe | None = None
    parts: dict[str, Origin] = {}  # by field of the case, those that are somebody else's


class Interval(Struct, forbid_unknown_fields=True):
    """A ratio and the ends of its 95 % interval."""

    value: Positive
    low: Positive
    high: Positive


class Beside(Struct):
    """Ratio of a call's time to its reference's, whose rounds alternated with its own, and times and bytes of both."""

    ratio: Interval
    seconds: Positive
    reference_seconds: Positive
    verdict: Literal["faster", "slower", "same", "undecided"]
    threshold: Positive
    peak: Reading  # bytes that a call adds
    reference_peak: Reading
    log_ratios: Annotated[list[Real], Meta(min_length=1)]  # one a visit
    backward: bool = False
    disturbed: Count = 0  # visits
    device: Name = "cpu"
    threads: Count | None = None
    notes: list[str] = []


class BesideRounds(Struct):
    """Seconds of the reference's rounds, as many as the call's own rounds, which are in the benchmark's ``stats``."""

    reference_s: Annotated[list[Positive], Meta(min_length=1)]
    visits: list[Visit]
    waited_s: list[NotNegative] | None = None
    reference_waited_s: list[NotNegative] | None = None


class BesideRow(Struct):
    """A planned test that measures a call beside another one: its id, parameters, status, reason and finding."""

    test: str
    params: dict[str, str | int | float | bool | None]
    status: Status
    reason: str | None = None
    process: Count | None = None
    found: Beside | None = None  # also where the test failed behind it

    @property
    def question(self) -> str:
        """The test without its parameters."""
        return self.test.partition("[")[0]

    @property
    def label(self) -> str:
        """The test in words: its function's name and its parameters."""
        name = self.question.rpartition("::")[2]
        return " ".join([name, *(f"{key}={value}" for key, value in self.params.items())])


class Floor(Struct, forbid_unknown_fields=True):
    """Seconds that a step's products, memory and operators would take at the machine's ceilings."""

    products: NotNegative
    memory: NotNegative
    operators: NotNegative
    overlap: bool = False  # True if operators are called while the device works

    @property
    def seconds(self) -> float:
        """Sum of the three; with overlap the larger of products plus memory (device) and operators (host)."""
        if self.overlap:
            return max(self.products + self.memory, self.operators)
        return self.products + self.memory + self.operators

    @property
    def binding(self) -> str:
        """Name of the ceiling with the largest part; with overlap operators count only if they take longest."""
        parts = {"products": self.products, "memory": self.memory, "operators": self.operators}
        if self.overlap and self.operators < self.seconds:
            del parts["operators"]
        return max(parts, key=lambda name: parts[name])


class Cost(Struct):
    """Predicted cost of a case: FLOPs executed and needed, peak bytes and their parts, operators and least time."""

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
    overlap: bool = False
    disturbed: list[str] = []


Kernel = Annotated[str, Meta(pattern=r"^[A-Za-z0-9_+]{1,200}$")]


class Attention(Struct):
    """Attention kernels of a case and of its reference, null if unknown, and whether the case's is fused."""

    kernel: Kernel | None
    fused: bool | None
    reason: str | None
    reference_kernel: Kernel | None = None


class Info(Struct):
    """The ``extra_info`` of a case's benchmark."""

    case: Case
    case_id: str
    time: Time
    memory: dict[str, Reading]
    cost: Cost
    attention: Attention | None = None
    energy: Energy | None = None
    flags: list[str] = []
    probe: Probe | None = None
    gradients: dict[str, GradientNorm] = {}  # of somebody else's model, its first and last parameter


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
    device: str | None = None  # its kind; None in earlier runs
    waited: bool = False  # for a slow spell to pass
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
    """Names on each axis, in the order of their registries."""

    pe: list[Name]
    block: list[Name]
    attention: list[Name] = []
    init: list[Name] = []
    model: list[Name] = []


class Device(Struct):
    """Device that was measured."""

    kind: Name = "cpu"


class Machine(Struct):
    """The section ``machine_info.attnlib`` of a saved run."""

    device: Device | None = None
    versions: dict[str, str | None] | None = None
    memory_bytes: Count | None = None


class MachineInfo(Struct):
    """The section ``machine_info`` of a saved run."""

    attnlib: Machine
    node: str | None = None
    cpu: Object | None = None


class Ours(Struct):
    """The section ``attnlib`` of a saved run; its cases are checked one by one."""

    cases: list[Object]
    axes: Axes
    beside: list[Object] = []  # as the cases
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


class Contents(NamedTuple):
    """Typed rows of a saved run, typed benchmarks of its timed cases by test, and rows of its calls beside others."""

    rows: list[Row]
    timed: dict[str, Timed]
    beside: list[BesideRow]


def problems(run: Any) -> list[str]:
    """Return a line for each thing in ``run`` (decoded JSON) that breaks the contract; an empty list for a good run."""
    return examine(run)[0]


def examine(run: Any) -> tuple[list[str], Contents]:
    """Return a line for each thing in ``run`` (decoded JSON) that breaks the contract, and the run's typed contents."""
    nothing = Contents([], {}, [])
    if not isinstance(run, dict):
        return ["not a JSON object"], nothing
    ours = run.get("attnlib")
    if not isinstance(ours, dict):
        return ["no 'attnlib' section: not a run of this suite"], nothing
    if type(ours.get("schema")) is not int or ours["schema"] not in READ:
        return [f"schema {ours.get('schema')!r:.40}, this version reads {' and '.join(map(str, READ))}"], nothing
    whole, found = convert(run, Run)
    if whole is None:
        return found, nothing
    rows, timed = [], []
    for row in ours["cases"]:
        typed, wrong = examine_row(row, whole.attnlib.axes)
        rows += [typed] if typed else []
        found += wrong
    beside = []
    for row in ours.get("beside", ()):
        own, wrong = examine_beside(row)
        beside += [own] if own else []
        found += wrong
    for benchmark in run["benchmarks"]:
        of_case, wrong = examine_benchmark(benchmark)
        timed += [of_case] if of_case else []
        found += wrong
    if not found:
        found = disagreements(ours["cases"], run["benchmarks"], rows, timed)
        tests = Counter([row.test for row in rows] + [row.test for row in beside])
        found += [f"test {name} is there {count} times" for name, count in tests.items() if count > 1 and beside]
    return found, Contents(rows, {one.fullname: one for one in timed}, beside)


def disagreements(cases: list[Object], benchmarks: list[Object], rows: list[Row], timed: list[Timed]) -> list[str]:
    """Return a line for each row or benchmark of a run that is there twice or does not fit the others."""
    once = {
        "benchmark": [one.fullname for one in timed],
        "test": [row.test for row in rows],
        "case_id": [row.case_id for row in rows],
        "case": [str(sorted(row["case"].items())) for row in cases],
    }
    found = [
        f"{what} {name} is there {count} times"
        for what, names in once.items()
        for name, count in Counter(names).items()
        if count > 1
    ]
    infos = {row["fullname"]: row["extra_info"] for row in benchmarks if "case_id" in row.get("extra_info", ())}
    for row, raw in zip(rows, cases, strict=True):
        info = infos.get(row.test)
        if row.status == "ok" and not info and not row.probe:
            found.append(f"{row.test}: ok without a time or a finding")
        elif info and (info["case"], info["case_id"]) != (raw["case"], row.case_id):
            found.append(f"{row.test}: its time is another case's")
    return found


def examine_row(node: Any, axes: Axes) -> tuple[Row | None, list[str]]:
    """Return the typed row of ``attnlib.cases``, None if it is invalid, and its problems, given the names on axes."""
    row, found = convert(node, Row, "a row of attnlib.cases")
    if row is None:
        return None, found
    if row.status != "ok" and not row.reason:
        return row, [f"{row.test}: status {row.status} without a reason"]
    if found := convert(node["case"], Scalars, f"{row.test}: case")[1]:
        return row, found
    case = row.case
    found = [
        f"{name} {value!r} is not on its axis"
        for name, value, axis in (("pe", case.pe, axes.pe), ("block", case.block, axes.block))
        if value not in axis
    ]
    return row, [f"{row.test}: {text}" for text in found + finding_problems(case, row.probe)]


def examine_beside(node: Any) -> tuple[BesideRow | None, list[str]]:
    """Return the typed row of ``attnlib.beside``, None if it is invalid, and its problems, a line each."""
    row, found = convert(node, BesideRow, "a row of attnlib.beside")
    if row is None:
        return None, found
    if row.status != "ok" and not row.reason:
        found.append(f"{row.test}: status {row.status} without a reason")
    if row.found is None:
        return row, found + ([f"{row.test}: ok without a finding"] if row.status == "ok" else [])
    return row, found + [f"{row.test}: {text}" for text in beside_problems(row.found)]


def beside_problems(found: Beside) -> list[str]:
    """Return the problems of a call's cost over another's, a line each."""
    lines = []
    if not found.ratio.low <= found.ratio.value <= found.ratio.high:
        lines.append("found.ratio has no interval that holds its value")
    for name in ("peak", "reference_peak"):
        reading = getattr(found, name)
        if reading.value is None and not reading.reason:
            lines.append(f"found.{name} is null without a reason")
    return lines


def rounds_problems(node: Object, rounds: Any, name: str) -> list[str]:
    """Return the problems of the rounds of a call that was measured beside another one, a line each."""
    typed, found = convert(rounds, BesideRounds, f"{name}: extra_info.beside")
    stats, wrong = convert(node.get("stats"), Stats, f"{name}: stats")
    if typed is None or stats is None:
        return found + wrong
    counts = {"reference_s": len(typed.reference_s), "visits": sum(visit.rounds for visit in typed.visits)}
    own = len(stats.data)
    return [f"{name}: stats.data has {own} rounds, {key} has {n}" for key, n in counts.items() if n != own]


def examine_benchmark(node: Any) -> tuple[Timed | None, list[str]]:
    """Return the typed benchmark of a case, None for any other benchmark, and its problems, a line each."""
    info = node.get("extra_info", {})
    name = node.get("fullname") if isinstance(node.get("fullname"), str) else "a benchmark"
    if isinstance(info, dict) and "case_id" not in info:
        return None, (rounds_problems(node, info["beside"], name) if "beside" in info else [])
    timed, found = convert(node, Timed, name)
    if timed is None:
        return None, found
    own = timed.extra_info
    if "allocated_peak" not in own.memory:
        return timed, [f"{name}: no memory.allocated_peak"]
    readings = {f"memory.{key}": reading for key, reading in own.memory.items()}
    readings |= {"energy.joules": own.energy.joules} if own.energy else {}
    found = [f"{key} is null without a reason" for key, one in readings.items() if one.value is None and not one.reason]
    if own.energy and own.energy.joules.value is not None and not own.energy.joules.value > 0:
        found.append(f"energy.joules is {own.energy.joules.value}, which no step takes")
    found += ratio_problems(timed) + finding_problems(own.case, own.probe)
    return timed, [f"{name}: {text}" for text in found]


def ratio_problems(timed: Timed) -> list[str]:
    """Return the problems of a case's ratio over its reference; an empty list if it has none."""
    time = timed.extra_info.time
    if (ratio := time.over_reference) is None:
        return []
    if ratio.value is None:
        return [] if ratio.reason else ["time.over_reference is null without a reason"]
    if ratio.low is None or ratio.high is None or not ratio.low <= ratio.value <= ratio.high:
        return ["time.over_reference has no interval that holds its value"]
    if not ratio.reference:
        return ["time.over_reference does not say over what"]
    if not time.reference_s:
        return ["time.over_reference without time.reference_s"]
    rounds = sum(visit.rounds for visit in time.visits)
    counts = {"stats.data": len(timed.stats.data), "time.reference_s": len(time.reference_s)}
    other = {name: count for name, count in counts.items() if rounds not in (0, count)}
    return [f"time.visits have {rounds} rounds, {name} has {count}" for name, count in other.items()]


def finding_problems(case: Case, probe: Probe | None) -> list[str]:
    """Return the problems that tables and figures would have with a finding; an empty list without one."""
    if not probe:
        return []
    if probe.counts and "parameters" not in probe.counts:
        return ["probe.counts has no parameters"]
    if case.phase in LEARNED:
        return training_problems(case, probe.training)
    if case.phase not in CURVES:
        return []
    if case.phase == "lengths" and (found := lengths_problems(case, probe.lengths)):
        return found
    if probe.lengths is not None and probe.lengths.reason:  # it has no numbers
        return []
    curves = probe.curves
    needed = CURVES[case.phase] + (("positional",) if case.phase == "rate" and case.pe == "learned" else ())
    if missing := [name for name in needed if not curves.get(name)]:
        return [f"probe.curves has no {', '.join(missing)}"]
    axis, first = CURVES[case.phase][:2]
    if len({len(points) for points in curves.values()}) > 1:
        return ["probe.curves are of different lengths"]
    if None in curves[axis] or None in (curves[first][0], curves.get("token_embedding", [0])[0]):
        return [f"probe.curves.{axis} or a first point is null"]
    if case.phase == "rate" and not probe.claims:
        return ["probe has no claim"]
    return []


def training_problems(case: Case, training: Training | None) -> list[str]:
    """Return the first problem of a training, such as a missing number or an accuracy on the wrong part."""
    if training is None:
        return ["probe has no training"]
    judged = LEARNED[case.phase]
    other = {"test": "validation", "validation": "test"}[judged]
    if training.accuracy(other) is not None:
        return [f"probe.training of phase {case.phase} has a {other} accuracy"]
    if case.phase != "bag" and training.learning_rate is None:
        return ["probe.training without a learning rate"]
    if case.phase == "depth" and case.depth < 1:
        return ["probe.training of no layers"]
    if None in (training.train_accuracy, training.accuracy(judged)) and (case.phase == "bag" or not training.reason):
        return ["probe.training has no accuracy and no reason"]
    return ["probe.training without data"] if case.data is None else []


def lengths_problems(case: Case, found: Lengths | None) -> list[str]:
    """Return the first problem of a training on short sequences, such as a range that is missing or out of order."""
    if found is None:
        return ["probe has no lengths"]
    if case.data is None or case.train_length is None or case.test_length is None:
        return ["probe.lengths without data, train_length or test_length"]
    if found.reason:
        return []
    if len(found.ranges) < 2:
        return ["probe.lengths has no range of longer examples, and no reason"]
    ends = [end for one in found.ranges for end in (one.low, one.high + 1)]
    if ends != sorted(ends) or found.ranges[0].high != case.train_length:
        return ["probe.lengths.ranges overlap, or do not begin with the training lengths"]
    return []


def probe_problems(fields: Object, node: Any) -> list[str]:
    """Return the problems of a case's finding, given the case's fields."""
    probe, found = convert(node, Probe, "probe")
    return found or finding_problems(msgspec.convert(fields, Case), probe)


def convert(node: Any, kind: type[Kind], name: str = "") -> tuple[Kind | None, list[str]]:
    """Convert a JSON value to ``kind``; return it, or None and msgspec's first error after ``name`` and the path."""
    try:
        return msgspec.convert(node, kind), []
    except msgspec.ValidationError as error:
        text, _, path = str(error).partition(" - at `$")
        return None, [": ".join(part for part in (name, path.strip(".`"), text) if part)]
