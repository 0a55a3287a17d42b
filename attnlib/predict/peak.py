"""What a case will need, found without allocating it: its steps on tensors that have shapes and no storage."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from functools import cache, partial
from typing import Any, TypeVar

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.overrides import TorchFunctionMode
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
from attnlib.predict.flops import algorithmic_flops, executed_flops, total
from attnlib.predict.kernels import FLOPS, MATH, attend, attention_kernel, is_calibrated, product_flops, workspace
from attnlib.predict.ledger import Ledger

METHOD = "steps on tensors without storage, and what kernels of the CPU allocate inside"
MARGIN = 1.02 if is_calibrated() else 1.25  # over the predicted peak: what is proven of this torch, and was of others
STRAIGHT = 3  # layers: from here on each region's peak is a straight line in depth
Key = TypeVar("Key")


@dataclass(frozen=True)
class Unfit:
    """Why a case is not measured here: the status of its row, the reason in words, and the bytes it was judged by."""

    status: str
    reason: str
    predicted_bytes: int | None = None
    available_bytes: int | None = None

    def row(self) -> dict[str, Any]:
        """What its row says."""
        return {name: value for name, value in asdict(self).items() if value is not None}


@contextmanager
def default_dtype(dtype: torch.dtype) -> Iterator[None]:
    """What new tensors are made of."""
    before = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        yield
    finally:
        torch.set_default_dtype(before)


@dataclass(frozen=True)
class Need:
    """What a case needs, in bytes.

    Args:
        regions: of each stretch of its steps, what is alive at its highest moment, by kind: ``parameters``,
            ``gradients``, ``optimiser``, ``tables`` (of encodings, and the batch), ``activations``, ``workspace``.
        held: alive between its steps.
        operators: of one step, how many have so many FLOPs and move so many bytes, see ``Ledger``.
    """

    regions: Mapping[str, Mapping[str, int]]
    held: int
    operators: Mapping[tuple[int, int], int]

    @property
    def parts(self) -> Mapping[str, int]:
        """What is alive at the highest moment of all, by kind."""
        return max(self.regions.values(), key=lambda kinds: sum(kinds.values()))

    @property
    def flops(self) -> int:
        """Of the matrix products of one step."""
        return sum(times * flops for (flops, _), times in self.operators.items())

    @property
    def moved(self) -> int:
        """Bytes that the operators of one step read and write."""
        return sum(times * moved for (_, moved), times in self.operators.items())

    @property
    def peak(self) -> int:
        """The most at once."""
        return sum(self.parts.values())

    def deeper(self, other: "Need", layers: int) -> "Need":
        """This need, and ``layers`` times what ``other``, a layer deeper, adds to it."""
        regions = {region: along(kinds, other.regions[region], layers) for region, kinds in self.regions.items()}
        held = self.held + layers * (other.held - self.held)
        return Need(regions, held, along(self.operators, other.operators, layers))


def need(case: Case) -> Need:
    """Predict a case: its operators are run for shapes alone, with what the CPU's allocate inside.

    An epoch is as its train steps. Past ``STRAIGHT`` layers each one adds the same to every region of the step, so that
    deep stacks cost no more to predict.
    """
    if case.depth > STRAIGHT + 1 and case.model == "stack":
        one, two = (need(replace(case, depth=depth)) for depth in (STRAIGHT, STRAIGHT + 1))
        return one.deeper(two, case.depth - STRAIGHT)
    return _run_for_shapes(
        replace(case, phase={"epoch": "train_step"}.get(case.phase, case.phase), cache="hot", launch="eager"),
        torch.get_num_threads(),
    )


def along(one: Mapping[Key, int], two: Mapping[Key, int], steps: int) -> dict[Key, int]:
    """On the straight lines through two points, ``steps`` beyond the first."""
    return {key: one.get(key, 0) + steps * (two.get(key, 0) - one.get(key, 0)) for key in {**one, **two}}


@cache
def _run_for_shapes(case: Case, threads: int) -> Need:
    threads = threads if case.device.startswith("cpu") else 0  # what kernels of other devices allocate is not known
    seen = Ledger(partial(workspace, threads=threads), product_flops)
    with torch.device("meta"), default_dtype(getattr(torch, case.dtype)), ChosenKernel(case.device), seen:
        work = build(replace(case, device="meta"))
        seen.name("parameters", work.model.parameters())
        seen.name("tables", work.held())
        tell_regions(work, seen)
        for step in range(2 if case.phase == "train_step" else 1):  # the first one makes the optimiser's state
            seen.region = f"{step} start"
            if work.prepare is not None:
                work.prepare()
            seen.operators.clear()
            work.step()
            seen.name("gradients", [p.grad for p in work.model.parameters()])
            seen.name("optimiser", work.held())
        peaks = {region: kinds for region, kinds in seen.peaks().items() if region}
        return Need(peaks, seen.held, seen.operators)


class ChosenKernel(TorchFunctionMode):
    """Run ``scaled_dot_product_attention`` by the kernel that a device would choose, on tensors without storage.

    Args:
        device: ``cpu``, ``cuda:1``, ...
    """

    def __init__(self, device: str) -> None:
        super().__init__()
        self.device = device

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func is not F.scaled_dot_product_attention:
            return func(*args, **(kwargs or {}))
        return self.attention(*args, **(kwargs or {}))

    def attention(
        self, q: Tensor, k: Tensor, v: Tensor, attn_mask: Tensor | None = None, is_causal: bool = False, **_: Any
    ) -> Tensor:
        """Attend: ``[B, H, T, K]``."""
        learned = attn_mask is not None and attn_mask.requires_grad and torch.is_grad_enabled()
        if attn_mask is not None and attn_mask.dtype == torch.bool:  # torch adds 0 and -inf for it
            attn_mask = torch.zeros_like(attn_mask, dtype=q.dtype)
        kernel = attention_kernel(self.device, q.dtype, biased=attn_mask is not None, learned=learned)
        return attend(kernel, q, k, v, attn_mask, is_causal)


def kernel_of(case: Case) -> str:
    """The attention kernel that a case should run; the name of one that is somebody else's, or of the whole model."""
    if own := {"attention", "model"} & case.own_parts.keys():
        return case.own_parts[min(own)]
    if case.attention != "sdpa":
        return MATH
    encoding = meta_encoding(case)
    learned = encoding.learns_bias and case.phase != "forward"
    return attention_kernel(case.device, getattr(torch, case.dtype), biased=encoding.biases, learned=learned)


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
    executed = executed_flops(case, case.batch_size, kernel)
    needed = algorithmic_flops(case, case.batch_size)
    return {"flops": total(executed, case.phase), "flops_algorithmic": total(needed, case.phase)}


def tell_regions(work: Workload, seen: Ledger) -> None:
    """Let the ledger know where a step is: before, in and behind the layers, on its way forward and back."""
    layers = layers_of(work.model)

    def pass_by(x: Tensor, ahead: str, back: str) -> None:
        step, _, region = seen.region.partition(" ")
        if region.endswith("backward"):  # a layer that is recomputed
            return
        seen.region = f"{step} {ahead}"
        if x.requires_grad:
            x.register_hook(lambda _: setattr(seen, "region", f"{step} {back} backward"))

    if layers:
        layers[0].register_forward_pre_hook(lambda _, inputs: pass_by(inputs[0], "layers", "embedding"))
        layers[-1].register_forward_pre_hook(lambda _, inputs: pass_by(inputs[0], "last layer", "layers"))
        layers[-1].register_forward_hook(lambda _, __, x: pass_by(x, "head", "last layer"))


def prediction(case: Case, reference: Case | None = None) -> dict[str, Any]:
    """Peak bytes as a reading: null with a reason where an operator cannot be run without storage.

    Args:
        case: whose peak it is.
        reference: another case whose model is there too, and which takes turns with it.
    """
    if any(compiles(one) for one in (case, reference) if one is not None):
        return reading(None, METHOD, "what a compiler fuses is not predicted")
    try:
        own = need(case)
        other = None if reference is None else need(reference)
    except Exception as error:  # noqa: BLE001 - a step that cannot be predicted may still be measured
        return reading(None, METHOD, str(error).partition("\n")[0] or type(error).__name__)
    return reading(own.peak if other is None else max(own.peak + other.held, own.held + other.peak), METHOD)


def outlook(case: Case, rates: Rates | None) -> dict[str, Any]:
    """What is saved of a case's prediction: its peak and what is in it, its operators, and their floor in seconds.

    Args:
        case: what is predicted.
        rates: that the machine reached; None leaves the floor out.
    """
    peak = prediction(case)
    if peak["value"] is None:
        return {"predicted_peak": peak}
    found = need(case)
    return {
        "predicted_peak": peak,
        "predicted_parts": dict(found.parts),
        "bytes_moved": found.moved,
        "operators": sum(found.operators.values()),
        "floor_s": None if rates is None else rates.floor(found.operators),
    }


def reference_of(case: Case, settings: Settings, device: Device) -> tuple[Case | None, str | None]:
    """The case whose rounds lie between this one's; None with the reason where it is measured alone."""
    if not case.paired or settings.reference is None:
        return None, "not asked for"
    other = replace(case, **settings.reference)
    alone = unfit(other, settings, device) or unfit(case, settings, device, beside=other)
    return (None, f"its reference cannot be measured beside it: {alone.reason}") if alone else (other, None)


def unfit(case: Case, settings: Settings, device: Device, beside: Case | None = None) -> Unfit | None:
    """Why a case cannot be measured here, or would not fit into the memory that it may have; None where it can.

    Args:
        case: what is to be measured.
        settings: the run's choices.
        device: where.
        beside: its reference, if that should fit too.
    """
    if reason := unsupported(case):
        return Unfit("unsupported", reason)
    if case.cache == "cold" and device.cache_bytes() is None:
        return Unfit("unsupported", f"{device.kind} does not tell how large its cache is")
    if settings.memory_limit == 0 or (available := least(device, settings.memory_limit)) is None:
        return None
    predicted = prediction(case, beside)["value"]
    if predicted is None or (needed := int(MARGIN * predicted)) <= available:
        return None
    heap.trim()  # what the process keeps of freed memory counts as taken
    if needed <= (available := least(device, settings.memory_limit) or available):
        return None
    reason = f"predicted to need {size(needed)}, {size(available)} available"
    return Unfit("oom", reason, predicted_bytes=needed, available_bytes=available)


def least(device: Device, limit: int | None) -> int | None:
    """The bytes that a case may take: what is free now, or ``limit`` if that is less; None where neither is known."""
    known = [bytes_ for bytes_ in (available_bytes(device), limit) if bytes_ is not None]
    return min(known, default=None)
