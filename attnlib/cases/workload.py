"""Workloads: a case's model and step, to be checked, timed and measured for memory."""

import math
import sys
from collections.abc import Iterator
from dataclasses import replace
from typing import Any, TypeVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from attnlib.cases.case import Case
from attnlib.errors import message
from attnlib.measure import heap, memory
from attnlib.measure.clock import device_clock
from attnlib.measure.device import Device, Unavailable, open_device, reading
from attnlib.measure.operators import operators
from attnlib.measure.rounds import Step, timed
from attnlib.model.attention import blocks_seen
from attnlib.model.classifier import SequenceClassifier
from attnlib.model.data import random_texts
from attnlib.model.own_model import MODELS, evaluating

Model = TypeVar("Model", bound=nn.Module)
SAME = 0.02  # of the largest logit: what two calls may differ by in half precision
SDPA = "aten::_scaled_dot_product_"


def loss_of(logits: Tensor, labels: Tensor) -> Tensor:
    """Return binary cross-entropy for a single logit (the original's sigmoid and BCE in one), else cross-entropy."""
    if logits.shape[-1] == 1:
        return F.binary_cross_entropy_with_logits(logits[:, 0], labels.to(logits.dtype))
    return F.cross_entropy(logits, labels)


def placed(model: Model, like: Tensor) -> Model:
    """Return the model with device and dtype of ``like``; one that has them is left alone: fake tensors cannot move."""
    if all(p.device == like.device and p.dtype == like.dtype for p in model.parameters()):
        return model
    return model.to(like)


class Workload:
    """A model, a batch and one step of the case's phase, seeded, on the case's device.

    Args:
        case: the case to build; its phase is ``forward``, ``backward`` or ``train_step``.
    """

    clock = staticmethod(device_clock)

    def __init__(self, case: Case) -> None:
        torch.manual_seed(case.seed)
        torch.set_float32_matmul_precision(case.matmul_precision)
        self.case = case
        # a SequenceClassifier, or somebody else's module
        self.model: Any = placed(
            MODELS[case.model](case), torch.empty(0, device=case.device, dtype=getattr(torch, case.dtype))
        )
        self.network = torch.compile(self.model) if case.compile else self.model
        self.tokens, self.labels = self.texts(case.batch_size)
        self.optimizer = torch.optim.SGD(self.model.parameters(), lr=1e-3, momentum=0.9)
        self.loss: Tensor | None = None
        self.replay: Step | None = None  # of a step that was captured
        self.gradient_ends: dict[str, dict[str, Any]] = {}  # norms at initialisation, of somebody else's model
        self.flushes = 0  # of the whole cache, before a step

    # properties, not attributes: a bound method kept on its object would keep models alive until a collection
    @property
    def prepare(self) -> Step | None:
        """Return the function that is called untimed before every step, or None."""
        return self.cool if self.case.cache == "cold" else self.makes_graph

    @property
    def makes_graph(self) -> Step | None:
        """Return the function that makes the graph of a backward pass; None in other phases, which make their own."""
        return self.build_graph if self.case.phase == "backward" else None

    @property
    def step(self) -> Step:
        """Return the timed function: the method named as the phase, or the replay of its CUDA graph."""
        step: Step = self.replay or getattr(self, self.case.phase)
        return step

    def cool(self) -> None:
        """Build a backward pass's graph, then rewrite the device's largest cache, so that the step starts cold."""
        if self.makes_graph is not None:
            self.makes_graph()
        self.flushes += self.device.flush() > 0

    @property
    def device(self) -> Device:
        """Return the device of the case."""
        return open_device(self.case.device)

    def texts(self, n_texts: int) -> tuple[Tensor, Tensor]:
        """Return random texts for this case: tokens ``[n_texts, T]`` and labels ``[n_texts]``."""
        case = self.case
        return random_texts(
            n_texts=n_texts,
            seq_len=case.seq_len,
            vocab_size=case.vocab_size,
            n_classes=case.n_classes,
            seed=case.seed,
            device=case.device,
        )

    def forward(self) -> None:
        """Run one forward pass without gradients."""
        with torch.no_grad():
            self.network(self.tokens)

    def build_graph(self) -> None:
        """Run forward pass and loss for ``backward`` to go back through, with every gradient None."""
        self.optimizer.zero_grad(set_to_none=True)
        self.loss = loss_of(self.network(self.tokens), self.labels)

    def backward(self) -> None:
        """Run one backward pass, which uses up the graph of ``build_graph``."""
        if self.loss is None:
            raise RuntimeError(message("backward needs a graph", do="call build_graph first"))
        self.loss.backward()
        self.loss = None

    def train_step(self) -> None:
        """Run one train step: zero_grad, forward, loss, backward, optimiser step."""
        self.build_graph()
        self.backward()
        self.optimizer.step()

    def check(self) -> float:
        """Run the step for the first time and refuse a wrong result; nothing is timed before.

        Returns:
            seconds of this first call.

        Raises:
            AssertionError: logits of the wrong shape, **or** not finite, **or** no gradient reached the head; for
                a model that is not attnlib's also another dtype, **or** logits that differ from call to call.
            Unavailable: the step should be compiled or replayed, and cannot be.
        """
        seconds = self.first_call()
        self.gradient_ends = self.read_gradient_ends()
        if self.case.launch == "graph":
            self.replay = self.device.capture(self.step)
            self.replay()
        if problem := self.problem():
            own = f"model {self.case.model!r}: " if self.case.model != "stack" else ""
            raise AssertionError(message(f"{own}{problem}"))
        return seconds

    def first_call(self) -> float:
        """Run the step for the first time and return its seconds.

        Raises:
            Unavailable: the step should be compiled, and was not.
        """
        seconds = timed(self.step, self.prepare, self.clock)
        if (compiled := self.compiled()) and not compiled["graphs"]:
            raise Unavailable(
                message("torch.compile ran the step uncompiled", do="unset TORCH_COMPILE_DISABLE if it is set")
            )
        return seconds

    def problem(self) -> str | None:
        """Return what is wrong with the logits, or with the gradients of the first step; None if nothing is."""
        with torch.no_grad():
            logits = self.network(self.tokens)
        expected = (self.case.batch_size, self.case.n_classes)
        if logits.shape != expected:
            return message(f"logits must have shape {expected}", tuple(logits.shape))
        if not bool(logits.isfinite().all()):
            return "logits are not finite"
        own = not isinstance(self.model, SequenceClassifier)
        if own and logits.dtype != getattr(torch, self.case.dtype):
            return message(f"logits must be torch.{self.case.dtype}", logits.dtype)
        if own and (moved := self.moved_between_calls()) > SAME:
            return f"two calls without dropout differ by {moved:.2g} of the largest logit"
        reached = self.model.own.parameters() if own else self.model.head.parameters()
        if self.case.phase == "train_step" and not any(p.grad is not None and bool(p.grad.any()) for p in reached):
            return "a train step gave no parameter a gradient"
        return None

    def moved_between_calls(self) -> float:
        """Return by how much the logits of two calls in evaluation mode differ, over the largest of them."""
        with evaluating(self.model), torch.no_grad():
            one, two = (self.model(self.tokens).double() for _ in range(2))
        return float((one - two).abs().max() / one.abs().max().clamp_min(1e-30))

    def read_gradient_ends(self) -> dict[str, dict[str, Any]]:
        """Return the gradient norms of the first and the last parameter of a model that is not attnlib's, by end."""
        if self.case.model == "stack":
            return {}
        named = [(name, p.grad) for name, p in self.model.own.named_parameters() if p.grad is not None]
        ends = {"first": named[0], "last": named[-1]} if named else {}
        norms = {end: (name, float(gradient.detach().double().norm())) for end, (name, gradient) in ends.items()}
        return {
            end: {"parameter": name, "norm": norm if math.isfinite(norm) else None}
            for end, (name, norm) in norms.items()
        }

    def attention(self) -> dict[str, Any]:
        """Return the attention kernel that the model runs in this phase, and the reason if it is not a fused one.

        Returns:
            ``kernel``: torch's name for it, null where none runs; ``fused``; ``reason``; ``method``.
        """

        def look() -> None:
            with torch.set_grad_enabled(self.case.phase != "forward"):
                self.model(self.tokens)

        method = "operator names of a forward pass in torch.profiler"
        own = self.case.own_parts.keys() & {"attention", "model"}
        if self.case.attention != "sdpa" and not own:
            fused = self.case.attention == "flex"
            return {"kernel": self.case.attention, "fused": fused, "reason": "asked for", "method": "configuration"}
        kernels = sorted(name.removeprefix(SDPA) for name in operators(look) if name.startswith(SDPA))
        if not kernels:
            reason = "it calls no kernel of torch's" if own else "the step runs no attention"
            return {"kernel": None, "fused": None, "reason": reason, "method": method}
        fused = "attention_math" not in kernels
        learned = self.case.phase != "forward" and not own and self.model.stack.encoding.learns_bias
        why = f"the bias of {self.case.pe} needs a gradient" if learned else "torch's choice"
        return {"kernel": "+".join(kernels), "fused": fused, "reason": None if fused else why, "method": method}

    def compiled(self) -> dict[str, int] | None:
        """Return counts of torch.compile's work since ``fresh_start``, or None for a case that is not compiled.

        Returns:
            ``graphs``; ``graph_breaks`` between them; ``recompiles``, graphs beyond the first of each piece; ``eager``,
            pieces that run uncompiled, as after too many recompiles.
        """
        if not compiles(self.case):
            return None
        from torch._dynamo.utils import counters  # takes most of a second, which others need not pay

        graphs, broken = counters["stats"]["unique_graphs"], sum(counters["graph_break"].values())
        # without gradients, and with: more graphs than that were compiled again, for other shapes or values
        again = max(0, graphs - 2 * (1 + broken))
        eager = counters["frames"]["total"] - counters["frames"]["ok"]
        return {"graphs": graphs, "graph_breaks": broken, "recompiles": again, "eager": eager}

    def held(self) -> Iterator[Tensor]:
        """Yield the tensors that live throughout: parameters, buffers, optimiser state, batch."""
        yield from self.model.parameters()
        yield from self.model.buffers()
        for state in self.optimizer.state.values():
            yield from (value for value in state.values() if isinstance(value, Tensor))
        yield from (self.tokens, self.labels)

    def weigh(self, device: Device) -> memory.Readings:
        """Return the peak memory of one step, from a separate pass."""
        self.optimizer.zero_grad(set_to_none=True)
        self.loss = None
        found = memory.peak_memory(device, self.step, self.makes_graph, self.held())
        if self.replay is not None:  # its bytes were taken when it was captured, and are not given back
            why = "a graph that is replayed allocates nothing"
            found |= {name: reading(None, found[name]["method"], why) for name in ("allocated_peak", "requested_peak")}
        return found


class EncodingAlone(Workload):
    """Workload of the forward and backward pass of a positional encoding without the stack around it.

    One step adds to ``[B, T, D]``, turns q and k ``[B, H, T, K]`` and makes the biases, as far as the encoding does so,
    and goes back through each to what it came from.
    """

    def __init__(self, case: Case) -> None:
        super().__init__(replace(case, depth=0))
        self.case = case
        like = {"device": case.device, "dtype": getattr(torch, case.dtype), "requires_grad": True}
        heads = (case.batch_size, case.n_heads, case.seq_len, case.head_width)
        self.x = torch.randn(case.batch_size, case.seq_len, case.d_model, **like)
        self.q = torch.randn(heads, **like)
        self.k = torch.randn(case.batch_size, case.groups, *heads[2:], **like)

    def outputs(self) -> list[Tensor]:
        """Return the tensors that the encoding made or changed."""
        encoding = self.model.stack.encoding
        q, k = encoding.rotate(self.q, self.k)
        keys = k.repeat_interleave(len(q[0]) // len(k[0]), 1) if len(q[0]) > len(k[0]) else k
        made = (encoding.embed(self.x), q, k, encoding.bias(self.case.seq_len), encoding.pair_bias(q, keys))
        return [y for y in made if y is not None and y is not self.x and y is not self.q and y is not self.k]

    def encoding(self) -> None:
        """Run one forward and backward pass."""
        outputs = [y for y in self.outputs() if y.requires_grad]
        inputs = [self.x, self.q, self.k, *self.model.stack.encoding.parameters()]
        if outputs:
            torch.autograd.grad(outputs, inputs, [torch.ones_like(y) for y in outputs], allow_unused=True)

    def check(self) -> float:
        """Run the step for the first time, refuse outputs that are not finite, and return its seconds."""
        seconds = timed(self.step, self.prepare, self.clock)
        if not all(bool(y.isfinite().all()) for y in self.outputs()):
            raise AssertionError(message("the encoding's output is not finite"))
        return seconds

    def held(self) -> Iterator[Tensor]:
        """Yield the tensors of the stack and the inputs."""
        yield from super().held()
        yield from (self.x, self.q, self.k)


class Epoch(Workload):
    """Workload of one pass over ``num_texts`` texts in batches, as the original timed it, data selection included."""

    def __init__(self, case: Case, num_texts: int) -> None:
        super().__init__(case)
        self.all_tokens, self.all_labels = self.texts(num_texts)

    def epoch(self) -> None:
        """Train once on every batch; the last may be smaller."""
        batch = self.case.batch_size
        for tokens, labels in zip(self.all_tokens.split(batch), self.all_labels.split(batch), strict=True):
            self.tokens, self.labels = tokens, labels
            self.train_step()

    def check(self) -> float:
        """Run the first epoch, refuse weights that are not finite, and return its seconds."""
        seconds = self.first_call()
        if not all(bool(p.isfinite().all()) for p in self.model.parameters()):
            raise AssertionError(message("weights are not finite after an epoch"))
        return seconds


def compiles(case: Case) -> bool:
    """Return True if a case runs through torch's compiler."""
    return case.compile or (case.attention == "flex" and case.depth > 0)


def fresh_start(case: Case) -> None:
    """Reset what earlier cases left in the process: the compiler's caches and the heap's thresholds.

    After eight recompiles a function would silently run uncompiled; and the thresholds of a heap that gives memory
    back depend on what was freed.
    """
    if case.heap == "system" and case.device.startswith("cpu"):
        heap.level()
    if "torch._dynamo" not in sys.modules:  # nothing was compiled yet; importing it takes most of a second
        return
    from torch._dynamo.utils import counters

    torch.compiler.reset()
    counters.clear()
    blocks_seen.cache_clear()


def build(case: Case, num_texts: int = 1000) -> Workload:
    """Return the workload of a case, ready on its device."""
    if case.phase == "encoding":
        return EncodingAlone(case)
    return Epoch(case, num_texts) if case.phase == "epoch" else Workload(case)
