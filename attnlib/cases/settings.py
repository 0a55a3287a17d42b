"""Settings of one run: a preset and the options that override it, read before anything is measured."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import torch

from attnlib.cases.case import NAMES, PARTS, Case
from attnlib.cases.options import OPTIONS, flag_of
from attnlib.cases.switches import STACKS, USUAL, fields_of_switch
from attnlib.errors import message
from attnlib.measure import heap
from attnlib.measure.cores import default_threads, usable_cpus
from attnlib.measure.device import open_device
from attnlib.measure.limits import HAVE_ALARM
from attnlib.model.classifier import POOLING
from attnlib.model.config import choose
from attnlib.model.data import by_length, data_names, data_set, register
from attnlib.model.positional import POSITIONAL
from attnlib.runs.load import encoding_label
from attnlib.runs.text import short_names

# fields that a case and its reference share: of the process, or, as a cache that one side rewrote, felt by the other
SHARED = ("phase", "device", "denormals", "matmul_precision", "cache", "heap")
VARIANTS = (  # of an encoding, each of which costs as much as it
    *("rotary_interleaved", "rotary_partial", "rotary_ntk", "rotary_yarn"),
    *("learned_0.02", "learned_0.71", "learned_offset"),
)
BY_NAME = ("cope",)  # measured if asked for by name, and by ``bench/test_switches.py``
# the main tasks of bench/test_lengths.py come first, the controls last
BY_LENGTH = ("bin_majority", "unique_copy", "sort", "stress", "parity", "repeat_copy")
ONCE = tuple(name for name in POSITIONAL if name not in VARIANTS + BY_NAME)


@dataclass(frozen=True)
class Preset:
    """Axes, widths and budget of a preset; each can be overridden by an option."""

    seq_lens: tuple[int, ...]
    depths: tuple[int, ...]
    budget: float  # seconds of warm-up and rounds a case
    pe: tuple[str, ...]
    case: Mapping[str, Any]
    fixed: tuple[int, int] | None = None  # depth and length where the two slices cross; None: the middles
    # T L of a train step at most, and half of it of a forward or backward pass; nothing where axes are asked for
    most: int | None = None
    reference: tuple[str, ...] | None = None  # fields in which a case's reference is as the run's base; None: pe=none


def widths(d_model: int, n_heads: int, batch_size: int, **fields: Any) -> dict[str, Any]:
    """Return the fields that all cases of a preset share."""
    return {"d_model": d_model, "n_heads": n_heads, "batch_size": batch_size, **fields}


QUIRKS = {"dropout": 0.1, "pooling": "last", "n_classes": 1, "init": "linear", "embedding_scale": 2.0}
PRESETS = {
    "smoke": Preset((16, 32), (1, 2), 0.4, ("none", "learned", "rotary", "t5"), widths(32, 4, 2)),
    "laptop": Preset((64, 128, 256, 512, 1024), (2, 8, 32), 1.0, ONCE, widths(64, 4, 2), (8, 64), most=4096),
    # Sixteen texts, so that a step gives a card more work than its launches take; six heads, so that no encoding has
    # 2^31 scores, from where on kernels index otherwise. Its length: ``python -m attnlib.tests.gpu_preset``.
    "gpu": Preset(
        (512, 1024, 2048, 4096), (2, 8, 32), 1.0, ONCE, widths(768, 6, 16, dtype="bfloat16"), (8, 512), most=32768
    ),
    # one text, so that the largest steps take less than a second; wide enough for feed-forwards to count
    "switches": Preset(
        (128, 256, 512),
        (2, 6),
        0.5,
        ("rotary",),
        widths(256, 8, 1, block="pre_ln", ffn_mult=4, causal=True),
        reference=tuple(USUAL),
    ),
    "seed": Preset(
        (64, 128, 256, 512),
        (2, 4, 8, 16, 32, 64),
        2.0,
        ("sinusoidal", "learned"),
        widths(512, 8, 32, head_dim=512, **QUIRKS),
        fixed=(8, 64),
    ),
}


def threads(asked: int | None) -> int:
    """Return a number of threads if this process may use as many CPUs; for None as many as torch would take.

    Raises:
        ValueError: this process may use fewer CPUs.
    """
    if asked is None:
        return torch.get_num_threads()
    cpus = usable_cpus()
    if asked > cpus:
        only = f"{cpus} CPUs" if cpus > 1 else "one CPU"
        wrong = f"--threads {asked} exceeds the {only} that this process may use"
        raise ValueError(message(wrong, do="take fewer, or all, which is as many as torch would take"))
    return asked


def timeout(seconds: float) -> float:
    """Return a time limit in seconds, unchanged, if this platform has SIGALRM.

    Raises:
        ValueError: the platform lacks SIGALRM.
    """
    if not HAVE_ALARM:
        raise ValueError(message("--case-timeout needs SIGALRM, which this platform lacks", do="leave it out"))
    return seconds


def reference(fields_given: Mapping[str, Any] | None) -> Mapping[str, Any] | None:
    """Return the fields in which a case's reference differs from it; None for no reference.

    Raises:
        ValueError: a field that no reference can have, or no such name; the message names it and the choices.
    """
    allowed = dict.fromkeys(field.name for field in fields(Case) if field.name not in SHARED)
    choices = NAMES | {"pooling": POOLING}
    for name, value in (fields_given or {}).items():
        choose("field of --reference", name, allowed)
        if name in choices:
            choose(name, str(value), choices[name])
    return fields_given


def data_sets(asked: tuple[str, ...]) -> tuple[str, ...]:
    """Return names of data sets and tasks; files ``.csv`` among them are registered.

    Raises:
        ValueError: a name is not registered; the message names it and the choices; **or** see ``register``.
    """
    found = [register(Path(name)) if name.lower().endswith(".csv") else name for name in asked]
    for name in found:
        choose("data set", name, dict.fromkeys(data_names()))
    return tuple(dict.fromkeys(found))


def encodings(names: tuple[str, ...]) -> tuple[str, ...]:
    """Return names of encodings, all of them for ``all``.

    Raises:
        ValueError: a name is not registered; the message names it and the choices.
    """
    found = tuple(POSITIONAL) if names == ("all",) else names
    for name in found:
        choose("pe", name, POSITIONAL)
    return found


def sizes_of(case: Case, data: str) -> dict[str, Any]:
    """Return the fields of a case that follow from its data.

    A training on short sequences has tables for the longest test sequence; a step of it is timed at the longest that it
    is trained on, with one output a sequence.

    Args:
        case: the case, whose ``train_length`` is None for a data set that is learned at all its lengths.
        data: name of its data set or task.

    Raises:
        ValueError: see ``data_set`` and ``by_length``.
    """
    if case.train_length is None:
        known = data_set(data)
        return {"seq_len": known.tokens.shape[1], "vocab_size": known.vocab_size, "n_classes": known.n_classes}
    found = by_length(data, case.train_length, case.test_length)
    timed = case.kind == "timed"
    return {
        "seq_len": found.tokens_in(found.train_length if timed else found.test_length),
        "vocab_size": found.vocab_size,
        "n_classes": found.n_classes,
        "pooling": "mean" if timed else found.pooling,
        "causal": found.causal,
        "test_length": found.test_length,
    }


LOOKED_UP: dict[str, Callable[[Any], Any]] = {  # options whose values must be known here
    "pe": encodings,
    "data": data_sets,
    "threads": threads,
    "reference": reference,
    "case_timeout": timeout,
}


def read(given: Mapping[str, str]) -> dict[str, Any]:
    """Return the values of options by name.

    Raises:
        ValueError: a value is wrong; the message names it and the choices.
    """
    found = {name: OPTIONS[name].read(flag_of(name), text) for name, text in given.items()}
    for name, value in found.items():
        if name in LOOKED_UP:
            found[name] = LOOKED_UP[name](value)
        elif name in NAMES:
            choose(name, value, NAMES[name])
    return found


@dataclass(frozen=True)
class Settings:
    """Settings of one run.

    ``fixed_depth`` and ``fixed_seq_len`` are where the two slices cross: the preset's, or the middle of an axis.
    """

    preset: str
    base: Case
    seq_lens: tuple[int, ...]
    depths: tuple[int, ...]
    pe: tuple[str, ...]
    fixed_depth: int
    fixed_seq_len: int
    budget: float  # seconds a case
    most: int | None = None  # T L of a cell, see ``Preset``
    visits: int = 3  # of a case beside its reference, each at a random moment of the run
    precision: float = 0.02
    reference: Mapping[str, Any] | None = field(default_factory=lambda: {"pe": "none"})  # fields of it; None: alone
    order_seed: int = 1
    num_texts: int = 1000
    data: tuple[str, ...] = ("digits", "stress")  # to learn
    data_by_length: tuple[str, ...] = BY_LENGTH  # to learn on short sequences, for longer ones
    train_length: int | None = None  # of the longest sequences to train on there; None: the study's own
    tokens_per_batch: int | None = None
    threads: int | None = None  # of a step; None on an accelerator, where torch's own number stays
    heap_reason: str | None = None  # why freed memory is not kept although it should be
    case_timeout: float | None = None  # seconds
    memory_limit: int | None = None  # bytes; 0 for no prediction

    @property
    def own_parts(self) -> dict[str, list[str]]:
        """Names of the run's parts that are not attnlib's, by field."""
        named = {field: [getattr(self.base, field), (self.reference or {}).get(field)] for field in PARTS}
        named["pe"] += self.pe
        own = {
            field: [n for n in dict.fromkeys(names) if n and not PARTS[field].owns(n)] for field, names in named.items()
        }
        return {field: names for field, names in own.items() if names}

    @cached_property
    def shown(self) -> dict[str, str]:
        """Short names, in ids and tables, of the parts that are not attnlib's, by name; see ``short_names``."""
        own = [name for names in self.own_parts.values() for name in names]
        found = short_names([*(name for registry in PARTS.values() for name in registry), *own])
        return {name: found[name] for name in own}

    def encoding_label(self, pe: str) -> str:
        """Return the label of an encoding in ids and tables of this run."""
        return encoding_label(self.shown.get(self.base.model, self.base.model), self.shown.get(pe, pe))

    def case(self, switch: str | None = None, **fields: Any) -> Case:
        """Return a case of this run: ``base`` with ``fields`` changed, and those that follow from tokens or data.

        ``switch`` stands for the fields that it changes, see ``attnlib.cases.switches``.
        """
        if switch is not None:
            heads = fields.get("n_heads", self.base.n_heads)
            fields = {"pe": self.pe[0]} | fields | fields_of_switch(switch, heads)
        case = replace(self.base, **fields)
        if self.tokens_per_batch is not None and "batch_size" not in fields:
            case = replace(case, batch_size=max(1, self.tokens_per_batch // case.seq_len))
        if case.data is not None:
            case = replace(case, **sizes_of(case, case.data))
        return case

    @classmethod
    def from_options(cls, options: Mapping[str, str | None]) -> "Settings":
        """Return the settings of a preset as overridden by options.

        Args:
            options: option names without dashes in front, dashes as underscores; None where not given.

        Raises:
            ValueError: a value is wrong; the message names it and the choices.
        """
        given = {name: value for name, value in options.items() if value is not None}
        device = open_device(given.pop("device", "auto"))
        name = given.pop("preset", "auto")
        choose("preset", name, dict.fromkeys(("auto", *PRESETS)))
        name = {"auto": "laptop" if device.kind == "cpu" else "gpu"}.get(name, name)
        preset = PRESETS[name]
        asked = read(given)
        if "data" in asked:
            asked["data_by_length"] = asked["data"]
            for data in asked["data"] if "train_length" in asked else ():
                by_length(data, asked["train_length"])  # refuses too few short or longer texts
        own = {field: asked.pop(name) for name in given if (field := OPTIONS[name].field)}
        chosen: dict[str, Any] = {
            name: getattr(preset, name) for name in ("seq_lens", "depths", "pe", "budget")
        } | asked
        depth, length = preset.fixed or (None, None)
        depth = middle(chosen["depths"]) if depth is None or "depths" in asked else depth
        length = middle(chosen["seq_lens"]) if length is None or "seq_lens" in asked else length
        chosen = {"fixed_depth": depth, "fixed_seq_len": length} | chosen
        own_axes = {"seq_lens", "depths", "fixed_depth", "fixed_seq_len"} & asked.keys()
        chosen["most"] = None if own_axes else preset.most
        if device.kind == "cpu":
            chosen = {"threads": default_threads(torch.get_num_threads())} | chosen
            own = {"heap": "kept"} | own
        usual, family = dict[str, Any](pe="none"), dict[str, Any]()
        if (stack := chosen.pop("stack", None)) is not None:
            heads = (dict(preset.case) | own)["n_heads"]
            family, usual = (choose("stack", kind, STACKS).switches(heads) for kind in (str(stack), "vanilla"))
            usual |= {name: own[name] for name in ("causal", "ffn_mult") if name in own}
            chosen |= {} if "pe" in asked else {"pe": (family["pe"],)}
        base = Case(**dict(preset.case) | {"device": str(device.torch_device)} | family | own)
        if base.model != "stack":  # which need not take an encoding, and has none that it could be without
            usual = {"model": "stack", "pe": "none"}
            chosen |= {} if "pe" in asked else {"pe": ("none",)}
        if preset.reference is not None:
            names: Any = chosen["pe"]
            usual = {name: getattr(base, name) for name in preset.reference} | {"pe": names[0]}
        chosen = {"reference": usual} | chosen
        reference: Any = chosen["reference"] or {}
        replace(base, **reference)  # refuses sizes that make no stack
        return cls(name, base, **chosen)


def on_this_heap(settings: Settings, *, asked: bool) -> Settings:
    """Keep freed memory in the process if the settings ask for it; return the settings with the heap that results.

    To be called before the first large tensor is made.

    Args:
        settings: the run's choices.
        asked: whether ``--heap kept`` was given.

    Raises:
        ValueError: ``--heap kept`` was given, and memory cannot be kept; the message says why.
    """
    if settings.base.heap != "kept" or (reason := heap.keep()) is None:
        return settings
    if asked:
        raise ValueError(message(f"--heap kept is not possible: {reason}", do="choose system"))
    return replace(settings, base=replace(settings.base, heap="system"), heap_reason=reason)


def middle(axis: tuple[int, ...]) -> int:
    """Return the middle value of an axis, the larger one of two."""
    return sorted(axis)[len(axis) // 2]
