"""A case: all fields that identify a measured number, except the machine, as scalars."""

import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from functools import partial
from typing import Any, NamedTuple, TypeVar

import torch

from attnlib.model.attention import ATTENTION, GATES, INITS, SOFTMAXES
from attnlib.model.blocks import ACTIVATIONS, BLOCKS, NORMS, SCALES
from attnlib.model.classifier import build_encoding
from attnlib.model.config import StackConfig, choose
from attnlib.model.own_model import MODELS
from attnlib.model.positional import POSITIONAL, PositionalEncoding
from attnlib.model.registry import Registry, in_one_line

Built = TypeVar("Built")


class Phase(NamedTuple):
    """One way to run a stack.

    Args:
        kind: ``timed``; ``checked`` (gradients against theory); or ``trained`` (on labelled data).
        paired: whether it is measured beside a reference, in rounds that alternate.
        captured: whether a CUDA graph can replay it.
    """

    kind: str = "timed"
    paired: bool = False
    captured: bool = False


PHASES = {  # those that are not timed come after those that are, in this order
    "forward": Phase(paired=True, captured=True),
    "backward": Phase(paired=True),
    "train_step": Phase(paired=True, captured=True),
    "encoding": Phase(),
    "epoch": Phase(),
    **dict.fromkeys(("rate", "profile", "collapse", "control", "flush", "switch", "family"), Phase("checked")),
    **dict.fromkeys(("bag", "pool", "tune", "learn", "depth", "lengths"), Phase("trained")),
}
CHOSEN = "chosen"  # pooling of a training: the one that was best on validation for its data set
DTYPES = ("float32", "float64", "bfloat16", "float16")
# fields that name a part of the model, which may be somebody else's
PARTS: dict[str, Registry[Any]] = {
    "pe": POSITIONAL,
    "block": BLOCKS,
    "attention": ATTENTION,
    "init": INITS,
    "model": MODELS,
}
NAMES: dict[str, Mapping[str, Any]] = {  # fields that are names, and their choices
    **PARTS,
    "dtype": dict.fromkeys(DTYPES),
    "denormals": dict.fromkeys(("flush", "keep")),
    "cache": dict.fromkeys(("hot", "cold")),
    "launch": dict.fromkeys(("eager", "graph")),
    "matmul_precision": dict.fromkeys(("highest", "high", "medium")),
    "heap": dict.fromkeys(("system", "kept")),
    "norm": NORMS,
    "softmax": SOFTMAXES,
    "gate": GATES,
    "activation": ACTIVATIONS,
    "depth_scale": SCALES,
}
# The fields that every id counts, for good. A field that is added later counts only where it differs from its default,
# so that a case keeps its id, and the runs that were saved of it their meaning.
FOUNDING = (
    *("vocab_size", "seq_len", "d_model", "n_heads", "head_dim", "depth", "pe", "block", "attention", "init"),
    *("ffn_mult", "pooling", "causal", "dropout", "n_classes", "embedding_scale", "checkpoint"),
    *("phase", "batch_size", "dtype", "device", "denormals"),
)


@dataclass(frozen=True)
class Case(StackConfig):
    """A stack's configuration and how it is run."""

    phase: str = "train_step"  # one of PHASES
    batch_size: int = 2  # B
    dtype: str = "float32"  # of parameters and activations
    device: str = "cpu"
    denormals: str = "flush"  # what arithmetic does with subnormal numbers: flush (to zero) or keep
    seed: int = 0  # of weights and texts
    compile: bool = False  # by torch.compile's inductor; its first call compiles
    cache: str = "hot"  # or cold: the device's largest cache is rewritten before every step
    launch: str = "eager"  # or graph: the step is captured once as a CUDA graph and replayed
    matmul_precision: str = "highest"  # of float32 products: TF32 or bfloat16 inside with high and medium
    data: str | None = None  # what is learned, a name in attnlib.model.data.DATA; None: random texts
    n_train: int | None = None  # examples to learn from; None: all that there are
    steps: int | None = None  # of the optimiser; with until_loss the most steps before the rate falls
    learning_rate: float | None = None  # at its greatest; None: the best on validation for this data and encoding
    model: str = "stack"  # what is built, a name in attnlib.model.own_model.MODELS
    until_loss: float | None = None  # mean training loss at which a training ends; None: after its steps
    train_length: int | None = None  # letters or symbols of the longest training example; None: any
    test_length: int | None = None  # of the longest test example
    heap: str = "system"  # what a CPU's tensors come from; kept: freed memory is not given back, see measure.heap

    @property
    def kind(self) -> str:
        """Kind of its phase: ``timed``, ``checked`` or ``trained``."""
        return PHASES[self.phase].kind

    @property
    def paired(self) -> bool:
        """True if its phase is measured beside a reference."""
        return PHASES[self.phase].paired

    @property
    def values(self) -> dict[str, Any]:
        """All fields by name, each a number, a text or None; ``asdict`` would copy them at ten times the cost."""
        return {field.name: getattr(self, field.name) for field in fields(self)}

    @property
    def own_parts(self) -> dict[str, str]:
        """Names of the case's parts that are not attnlib's, by field."""
        named = {field: getattr(self, field) for field in PARTS}
        return {field: name for field, name in named.items() if not PARTS[field].owns(name)}

    @property
    def id(self) -> str:
        """Stable hash of the fields, the same on any machine; ``cuda:1`` counts as ``cuda``."""
        usual = {field.name: field.default for field in fields(self)}
        counted = {name: value for name, value in self.values.items() if name in FOUNDING or value != usual[name]}
        counted["device"] = self.device.partition(":")[0]
        return hashlib.sha256(json.dumps(counted, sort_keys=True).encode()).hexdigest()[:12]


def idle_switch(case: Case) -> str | None:
    """Return the reason why a switch of a stack would change nothing, or something else than it says; or None."""
    if case.model != "stack":  # which may make of the fields what it likes
        return None
    block = BLOCKS[case.block]
    branches = case.depth * (2 if case.ffn_mult else 1)
    if case.norm != "layer" and not (block.normed or block.final_norm):
        return f"norm {case.norm} would change nothing: block {case.block} has no norm"
    if case.depth_scale != "none" and (branches == 1 or case.block == "peri_ln"):
        why = "there is one branch" if branches == 1 else "block peri_ln normalises what each branch gives"
        return f"depth_scale {case.depth_scale} would change nothing: {why}"
    if case.depth_scale != "none" and case.block == "plain":
        return f"depth_scale {case.depth_scale} is of branches beside a skip connection, which block plain has none of"
    if case.activation != "relu" and not case.ffn_mult:
        return f"activation {case.activation} would change nothing: ffn_mult=0 is no feed-forward"
    if case.value_residual and case.depth == 1:
        return "value_residual would change nothing: there is one layer"
    if case.sink and not ATTENTION.owns(case.attention):
        return (
            f"softmax plus_one gives attention a key more than there are queries, which {case.attention} may not take"
        )
    if case.window is not None and case.pe == "cope":
        return "cope counts keys up to the query, and a window hides some of them from it"
    return None


def no_flex(case: Case, encoding: PositionalEncoding) -> str | None:
    """Return the reason why FlexAttention cannot run a case; None if it can."""
    if case.phase not in ("forward", "encoding") and case.device.startswith("cpu"):
        return "FlexAttention has no backward pass on a CPU"
    if encoding.biases and not encoding.overrides("by_distance"):
        return f"what {case.pe} adds to the scores is no function of the distance, which FlexAttention is given"
    return None


def unsupported(case: Case) -> str | None:
    """Return the reason why a case cannot be measured; None if it can."""
    if case.pooling == "none" and case.kind == "timed":
        return (
            "pooling none gives logits at every token, which are trained and not timed; choose mean, last or attention"
        )
    if case.phase == "encoding" and case.pe == "none":
        return "none adds nothing that could be timed alone"
    if case.phase == "encoding" and case.compile:
        return "an encoding that is timed alone is not compiled"
    if case.denormals == "keep" and not case.device.startswith("cpu"):
        return f"subnormal numbers cost nothing extra on {case.device}"
    if case.device.startswith("mps") and case.dtype == "float64":
        return "MPS has no float64"
    if case.launch == "graph" and not case.device.startswith("cuda"):
        return f"{case.device} has no CUDA graphs"
    if case.launch == "graph" and not PHASES[case.phase].captured:
        return f"only {' and '.join(name for name, phase in PHASES.items() if phase.captured)} are captured as a graph"
    if case.model != "stack" and not case.paired:
        return f"the phase {case.phase} is one of the stack, not of model {case.model}"
    if reason := idle_switch(case):
        return reason
    try:
        encoding = meta_encoding(case)
    except ValueError as error:  # such as rotary with an odd head width
        return str(error)
    except RuntimeError:  # of somebody else's: the case itself will say it
        if not case.own_parts:
            raise
        return None
    return no_flex(case, encoding) if case.attention == "flex" else None


def meta_encoding(config: StackConfig) -> PositionalEncoding:
    """Build the encoding of a stack on meta tensors; on the CPU if it is not attnlib's and needs storage.

    Raises:
        ValueError: see ``build_encoding``.
    """
    return without_storage(partial(build_encoding, config), own=not POSITIONAL.owns(config.pe))


def meta_model(case: Case) -> torch.nn.Module:
    """Build the model of a case on meta tensors; on the CPU if a part is not attnlib's and needs storage."""
    return without_storage(partial(MODELS[case.model], case), own=bool(case.own_parts))


def without_storage(build: Callable[[], Built], *, own: bool) -> Built:
    """Call ``build`` on the meta device; if it raises there and ``own`` is True, on the CPU."""
    try:
        with torch.device("meta"):
            return build()
    except Exception:
        if not own:
            raise
    return build()  # whose error, if there is one, is the real one


def origins(case: Case) -> dict[str, dict[str, Any]]:
    """Return the origin of each part of a case that is not attnlib's, by field; see ``Registry.origin``."""
    return {field: PARTS[field].origin(name) for field, name in case.own_parts.items()}


def timed_case(fields_given: Mapping[str, Any]) -> Case:
    """Return the timed case with these fields, and the others at their defaults.

    Raises:
        ValueError: an unknown field or name, a phase that is not timed, **or** a case that cannot be measured.
    """
    for name in fields_given:
        choose("field", name, dict.fromkeys(field.name for field in fields(Case)))
    case = Case(**fields_given)
    choose("phase", case.phase, {name: phase for name, phase in PHASES.items() if phase.kind == "timed"})
    for name, registry in NAMES.items():
        choose(name, getattr(case, name), registry)
    if reason := unsupported(case):
        raise ValueError(reason)
    if case.own_parts:
        try:
            meta_model(case)
        except RuntimeError as error:  # see registry.called
            raise ValueError(in_one_line(error)) from error
    return case
