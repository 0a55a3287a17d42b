"""Predicted peak memory of a case: its steps are traced on tensors that have shapes and no storage."""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from functools import cache, partial
from typing import Any, TypeVar

import torch
import torch._dynamo  # the first optimiser imports it, which in the modes of a trace fails in torch 2.6
import torch.nn.functional as F
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from attnlib.cases.case import Case, meta_encoding, unsupported
from attnlib.cases.settings import Settings
from attnlib.cases.text import size
from attnlib.cases.workload import Workload, build, compiles
from attnlib.gradients.probes import layers_of
from attnlib.measure import heap
from attnlib.measure.ceilings import Rates
from attnlib.measure.device import Device, reading
from attnlib.measure.memory import available_bytes
from attnlib.measure.rounds import Step
from attnlib.predict.choice import MATH, Card, Choice, Wanted, attention_kernel
from attnlib.predict.flops import algorithmic_flops, executed_flops, total
from attnlib.predict.kernels import FLOPS, attend, is_calibrated, product_flops, workspace
from attnlib.predict.ledger import Ledger

METHOD = "steps on tensors without storage, and what kernels of the CPU allocate inside"
METHOD_ON_CUDA = (
    "steps on tensors without storage, and what flash attention's backward pass allocates inside; what cuDNN and "
    "CUTLASS allocate is not known"
)
CHECKED, UNCHECKED = 1.02, 1.25  # margins on a predicted peak where it was compared with measured ones, and elsewhere
STRAIGHT = 3  # layers; from this depth on the peak of each region is linear in depth
Key = TypeVar("Key")


@dataclass(frozen=True)
class Unfit:
    """Reason why a case is not measured: the status of its row, a text, and the bytes that it needs and may have."""

    status: str
    reason: str
    predicted_bytes: int | None = None
    available_bytes: int | None = None

    def row(self) -> dict[str, Any]:
        """Return the entries of the case's row."""
        return {name: value for name, value in asdict(self).items() if value is not None}


@contextmanager
def default_dtype(dtype: torch.dtype) -> Iterator[None]:
    """Set torch's default dtype, as a context manager."""
    before = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        yield
    finally:
        torch.set_default_dtype(before)


@dataclass(frozen=True)
class Need:
    """Predicted memory and work of a case.

    Args:
        regions: bytes by kind at the peak of each region of the steps; the kinds are ``parameters``, ``gradients``,
            ``optimiser``, ``tables`` (of encodings, and the batch), ``activations`` and ``workspace``.
        held: bytes that are allocated between the steps.
        single: number of operators of one step by FLOPs and bytes moved, see ``Ledger``.
        batched: bytes moved by each operator on lists of tensors, see ``Ledger``.
    """

    regions: Mapping[str, Mapping[str, int]]
    held: int
    single: Mapping[tuple[int, int], int]
    batched: Sequence[int] = ()

    @property
    def operators(self) -> Mapping[tuple[int, int], int]:
        """Number of all operators of one step by FLOPs and bytes moved."""
        return Counter(self.single) + Counter((0, moved) for moved in self.batched)

    @property
    def parts(self) -> Mapping[str, int]:
        """Bytes by kind at the highest peak."""
        return max(self.regions.values(), key=lambda kinds: sum(kinds.values()))

    @property
    def flops(self) -> int:
        """FLOPs of the matrix products of one step."""
        return sum(times * flops for (flops, _), times in self.operators.items())

    @property
    def moved(self) -> int:
        """Bytes that the operators of one step read and write."""
        return sum(times * moved for (_, moved), times in self.operators.items())

    @property
    def peak(self) -> int:
        """Largest number of bytes that are allocated at once."""
        return sum(self.parts.values())

    def deeper(self, other: "Need", layers: int) -> "Need":
        """Extrapolate to ``layers`` more layers, from this and from ``other``, which has one layer more."""
        regions = {region: extrapolate(kinds, other.regions[region], layers) for region, kinds in self.regions.items()}
        held = self.held + layers * (other.held - self.held)
        batched = [one + layers * (two - one) for one, two in zip(self.batched, other.batched, strict=True)]
        return Need(regions, held, extrapolate(self.single, other.single, layers), batched)


def need(case: Case, card: Card | None = None) -> Need:
    """Return the predicted memory and work of a case; an epoch is predicted as its train steps.

    The steps are traced without storage. Stacks deeper than ``STRAIGHT`` layers are extrapolated, since each further
    layer adds the same. ``card`` stands for a case's device ``cuda``, see ``attention_kernel``.

    Raises:
        RuntimeError: an operator cannot be run without storage.
    """
    if case.depth > STRAIGHT + 1 and case.model == "stack":
        one, two = (need(replace(case, depth=depth), card) for depth in (STRAIGHT, STRAIGHT + 1))
        return one.deeper(two, case.depth - STRAIGHT)
    phase = "train_step" if case.phase == "epoch" else case.phase
    return _trace(replace(case, phase=phase, cache="hot", launch="eager"), torch.get_num_threads(), card)


def extrapolate(one: Mapping[Key, int], two: Mapping[Key, int], steps: int) -> dict[Key, int]:
    """Return the values on the lines through ``one``, at step 0, and ``two``, at step 1."""
    return {key: one.get(key, 0) + steps * (two.get(key, 0) - one.get(key, 0)) for key in {**one, **two}}


@cache
def _trace(case: Case, threads: int, card: Card | None) -> Need:
    """Run the steps of a case on tensors without storage, and return what they need."""
    threads = threads if case.device.startswith("cpu") else 0
    seen = Ledger(partial(workspace, threads=threads), product_flops)
    with torch.device("meta"), default_dtype(getattr(torch, case.dtype)), kernels_of(case.device, card), seen:
        work = build(replace(case, device="meta"))
        if case.device.startswith("cuda"):  # there torch updates all parameters at once, and not on tensors like these
            work.optimizer.param_groups[0]["foreach"] = True
        seen.name("parameters", work.model.parameters())
        seen.name("tables", work.held())
        track_region(work, seen)
        for step in range(2 if case.phase == "train_step" else 1):  # the first step creates the optimiser's state
            seen.region = f"{step} start"
            if work.prepare is not None:
                work.prepare()
            seen.forget_operators()  # those of the last step are kept
            work.step()
            # tensors get their kind while they are alive; their events so far are counted under it too
            seen.name("gradients", [p.grad for p in work.model.parameters()])
            seen.name("optimiser", work.held())
        peaks = {region: kinds for region, kinds in seen.peaks().items() if region}
        return Need(peaks, seen.held, seen.operators, seen.batched)


@contextmanager
def kernels_of(device: str, card: Card | None = None) -> Iterator[None]:
    """Have ``scaled_dot_product_attention`` run the kernel that a device would choose, on tensors without storage.

    The function is replaced for as long as this lasts: a mode of torch's would be off in a backward pass, in which
    recomputed layers attend again.
    """

    def attend_there(
        q: Tensor,
        k: Tensor,
        v: Tensor,
        attn_mask: Tensor | None = None,
        dropout_p: float = 0.0,  # noqa: ARG001 - as torch's own signature
        is_causal: bool = False,
        **_: Any,
    ) -> Tensor:
        trains = torch.is_grad_enabled() and any(x.requires_grad for x in (q, k, v))
        learned = torch.is_grad_enabled() and attn_mask is not None and attn_mask.requires_grad
        wanted = Wanted(q.dtype, q.shape[-1], attn_mask is not None, learned, trains)
        if attn_mask is not None and attn_mask.dtype == torch.bool:  # torch adds 0 and -inf for it
            attn_mask = torch.zeros_like(attn_mask, dtype=q.dtype)
        return attend(attention_kernel(device, wanted, card).kernel, q, k, v, attn_mask, is_causal)

    torchs_own = F.scaled_dot_product_attention
    F.scaled_dot_product_attention = attend_there  # type: ignore[assignment]
    try:
        yield
    finally:
        F.scaled_dot_product_attention = torchs_own


def kernel_of(case: Case, card: Card | None = None) -> Choice:
    """Return the attention kernel that torch should choose for a case, or the name of somebody else's part."""
    if own := {"attention", "model"} & case.own_parts.keys():
        return Choice(case.own_parts[min(own)])
    if case.attention != "sdpa":
        return Choice(MATH)
    encoding, trains = meta_encoding(case), case.phase != "forward"
    learned = encoding.learns_bias and trains
    biased = encoding.biases or case.masked_by_bias
    wanted = Wanted(getattr(torch, case.dtype), case.head_width, biased, learned, trains)
    return attention_kernel(case.device, wanted, card)


def step_flops(case: Case, kernel: str, step: Step, prepare: Step | None) -> dict[str, int | None]:
    """Return the FLOPs of a step, of matrix products.

    Args:
        case: in a phase that has a reference; the others have none.
        kernel: of attention.
        step: of the case, to count where there is no formula.
        prepare: what has to be called before it.

    Returns:
        ``flops``, that the kernels execute, and ``flops_algorithmic``, that the mathematics needs: by formula; of
        somebody else's block, attention or model as torch's counter sees one step, and null.
    """
    if not case.paired:
        return {"flops": None, "flops_algorithmic": None}
    if case.own_parts.keys() - {"pe", "init"}:
        if prepare is not None:
            prepare()
        with FlopCounterMode(display=False, custom_mapping=FLOPS) as counter:
            step()
        return {"flops": int(counter.get_total_flops()), "flops_algorithmic": None}
    try:
        executed = executed_flops(case, case.batch_size, kernel)
        needed = algorithmic_flops(case, case.batch_size)
    except Exception:
        if not case.own_parts:
            raise
        return {"flops": None, "flops_algorithmic": None}  # somebody else's encoding cannot be counted alone
    return {"flops": total(executed, case.phase), "flops_algorithmic": total(needed, case.phase)}


def track_region(work: Workload, seen: Ledger) -> None:
    """Register hooks that set the ledger's region: embedding, layers, last layer or head, forward or backward."""
    layers = layers_of(work.model)

    def enter(x: Tensor, forward: str, backward: str) -> None:
        """Begin a region of the forward pass; where its input gets its gradient, one of the backward pass begins."""
        step, _, region = seen.region.partition(" ")
        if region.endswith("backward"):  # a layer that is recomputed
            return
        seen.region = f"{step} {forward}"
        if x.requires_grad:
            x.register_hook(lambda _: setattr(seen, "region", f"{step} {backward} backward"))

    if layers:
        layers[0].register_forward_pre_hook(lambda _, inputs: enter(inputs[0], "layers", "embedding"))
        layers[-1].register_forward_pre_hook(lambda _, inputs: enter(inputs[0], "last layer", "layers"))
        layers[-1].register_forward_hook(lambda _, __, x: enter(x, "head", "last layer"))


def prediction(case: Case, reference: Case | None = None, card: Card | None = None) -> dict[str, Any]:
    """Return the predicted peak bytes as a reading, which is null with a reason if there is no prediction.

    With a reference, which takes turns with the case, both models are in memory.
    """
    cases = [case] if reference is None else [case, reference]
    method = METHOD_ON_CUDA if case.device.startswith("cuda") else METHOD
    if any(map(compiles, cases)):
        return reading(None, method, "compiled steps cannot be traced")
    try:
        needs = [need(one, card) for one in cases]
    except Exception as error:  # noqa: BLE001 - a step that cannot be predicted may still be measured
        return reading(None, method, str(error).partition("\n")[0] or type(error).__name__)
    # while one steps, the others hold what they keep between steps; a graph keeps all that its step takes
    kept = [one.peak if own.launch == "graph" else one.held for own, one in zip(cases, needs, strict=True)]
    most = max(sum(kept) - own + one.peak for own, one in zip(kept, needs, strict=True))
    return reading(most, method)


def outlook(case: Case, rates: Rates | None, card: Card | None = None) -> dict[str, Any]:
    """Return the prediction of a case as it is saved.

    Returns:
        ``predicted_peak``, a reading; unless that is null ``predicted_parts`` in bytes, ``bytes_moved``, the number
        of ``operators``, and ``floor_s``, the least seconds of a step, null without rates of the machine.
    """
    peak = prediction(case, card=card)
    if peak["value"] is None:
        return {"predicted_peak": peak}
    needed = need(case, card)
    return {
        "predicted_peak": peak,
        "predicted_parts": dict(needed.parts),
        "bytes_moved": needed.moved,
        "operators": sum(needed.operators.values()),
        "floor_s": None if rates is None else rates.floor(needed.operators),
    }


def reference_of(case: Case, settings: Settings, device: Device) -> tuple[Case | None, str | None]:
    """Return the reference that a case takes turns with; or None and the reason why it is measured alone."""
    if not case.paired or settings.reference is None:
        return None, "not asked for"
    other = replace(case, **settings.reference)
    alone = unfit(other, settings, device) or unfit(case, settings, device, beside=other)
    return (None, f"its reference cannot be measured beside it: {alone.reason}") if alone else (other, None)


def unfit(case: Case, settings: Settings, device: Device, beside: Case | None = None) -> Unfit | None:
    """Return the reason why a case cannot be measured or does not fit into memory; None if it can be measured.

    With ``beside``, its reference, both must fit into memory together.
    """
    if reason := unsupported(case):
        return Unfit("unsupported", reason)
    if case.cache == "cold" and device.cache_bytes() is None:
        return Unfit("unsupported", f"{device.kind} does not tell how large its cache is")
    if settings.memory_limit == 0 or (available := least(device, settings.memory_limit)) is None:
        return None
    predicted = prediction(case, beside)["value"]
    if predicted is None or (needed := with_margin(case, predicted)) <= available:
        return None
    heap.trim()  # freed memory that the process keeps would count as used
    if needed <= (available := least(device, settings.memory_limit) or available):
        return None
    reason = f"predicted to need {size(needed)}, {size(available)} available"
    return Unfit("oom", reason, predicted_bytes=needed, available_bytes=available)


def with_margin(case: Case, predicted: int) -> int:
    """Return the bytes that must be free for a case: its predicted peak and a margin for what is not predicted."""
    checked = is_calibrated() and case.device.startswith("cpu")  # no peak was ever measured on another device
    return int((CHECKED if checked else UNCHECKED) * predicted)


def needed_bytes(case: Case, settings: Settings, device: Device) -> dict[str, int]:
    """Return what the row of a case says that ran out of memory: ``predicted_bytes`` and ``available_bytes``.

    A number that is not known is left out.
    """
    reference = replace(case, **settings.reference) if case.paired and settings.reference is not None else None
    predicted = prediction(case, reference)["value"]
    available = least(device, settings.memory_limit or None)
    row = {"predicted_bytes": None if predicted is None else with_margin(case, predicted), "available_bytes": available}
    return {name: value for name, value in row.items() if value is not None}


def least(device: Device, limit: int | None) -> int | None:
    """Return the bytes that are free now, or ``limit`` if that is less; None if neither is known."""
    return min((free for free in (available_bytes(device), limit) if free is not None), default=None)
