"""A part of a stack (an encoding, a block, an attention, an initialisation) in a small stack, to be checked."""

import contextlib
import io
from collections.abc import Iterable, Iterator, Mapping
from functools import cached_property
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from attnlib.cases.case import Case
from attnlib.cases.workload import placed
from attnlib.errors import message
from attnlib.model.attention import ATTENTION, INITS, Projection
from attnlib.model.blocks import BLOCKS
from attnlib.model.classifier import SequenceClassifier, build_model
from attnlib.model.config import choose
from attnlib.model.positional import POSITIONAL, PositionalEncoding
from attnlib.model.registry import Registry, in_one_line

KINDS: dict[str, Registry[Any]] = {"pe": POSITIONAL, "block": BLOCKS, "attention": ATTENTION, "init": INITS}


class Failed(Exception):
    """Raised when a part fails a check; the message says why."""


class NotApplicable(Exception):
    """Raised when a check does not apply to a part; the message says why."""


class Output(NamedTuple):
    """An output of a part, with the shape that it must have.

    Args:
        name: its name in messages.
        value: the output itself, which should be a tensor.
        shape: shape that it must have.
        added: whether it is added to scores; it may then have any floating dtype, and -inf, which hides a key.
    """

    name: str
    value: Any
    shape: tuple[int, ...]
    added: bool = False


class Subject:
    """A part in a small stack.

    Args:
        kind: kind of the part, a key of ``KINDS``.
        name: the part's name in its registry.
        case: the stack, its dtype and device.
    """

    def __init__(self, kind: str, name: str, case: Case) -> None:
        self.kind, self.name, self.case = kind, name, case
        self.title = f"{kind} {name!r}"  # as messages of its registry begin

    @contextlib.contextmanager
    def blamed(self) -> Iterator[None]:
        """Turn any exception inside into ``Failed``; only calls of the part belong inside this context manager."""
        try:
            yield
        except Failed:  # of a call inside, and said already
            raise
        except (Exception, SystemExit) as error:
            text = str(error).strip().partition("\n")[0]
            told = text.startswith(self.title)  # by its registry, in whole words
            reason = text.removeprefix(self.title).lstrip(": ") if told else in_one_line(error)
            raise Failed(reason) from error

    def fresh(self, seed: int = 0) -> SequenceClassifier:
        """Return a new model, initialised from this seed."""
        torch.manual_seed(seed)
        like = torch.empty(0, device=self.case.device, dtype=self.dtype)
        with self.blamed():
            return placed(build_model(self.case), like)

    @cached_property
    def made(self) -> SequenceClassifier:
        """A model as initialised, from seed 0."""
        return self.fresh()

    @cached_property
    def stirred(self) -> SequenceClassifier:
        """A model with perturbed parameters of the part, so that a gate initialised to 0 does not hide it."""
        return self.moved()

    def moved(self) -> SequenceClassifier:
        """Return a new model with parameters perturbed as in ``stirred``, which has not been called yet."""
        model = self.fresh()
        stir(self.parameters(model).values())
        return model

    @property
    def dtype(self) -> torch.dtype:
        """The case's dtype as a ``torch.dtype``."""
        dtype: torch.dtype = getattr(torch, self.case.dtype)
        return dtype

    def normal(self, *shape: int) -> Tensor:
        """Return normal random numbers of the case's dtype, on its device."""
        return torch.randn(shape, device=self.case.device, dtype=self.dtype)

    def heads(self) -> list[Tensor]:
        """Return random q, k and v, ``[B, H, T, K]`` each, laid out as the fused projection leaves them."""
        case = self.case
        fused = self.normal(case.batch_size, case.seq_len, 3, case.n_heads, case.head_width)
        return list(fused.permute(2, 0, 3, 1, 4).unbind(0))

    def normal_inputs(self) -> dict[str, Tensor]:
        """Return random ``x``, ``[B, T, D]``, and ``q``, ``k``, ``v``, ``[B, H, T, K]`` each."""
        case = self.case
        heads = dict(zip("qkv", self.heads(), strict=True))
        return {"x": self.normal(case.batch_size, case.seq_len, case.d_model)} | heads

    def tokens(self, rows: int, seq_len: int) -> Tensor:
        """Return random tokens, int64 ``[rows, seq_len]``."""
        return torch.randint(self.case.vocab_size, (rows, seq_len), device=self.case.device)

    def features(self, model: SequenceClassifier, tokens: Tensor) -> Tensor:
        """Return the stack's output for tokens ``[B, T]``, before pooling: ``[B, T, D]``, without gradients."""
        with torch.no_grad(), self.blamed():
            return model.stack(model.stack.encoding.embed(model.token_embedding(tokens)))  # type: ignore[no-any-return]

    def outputs(self) -> list[Output]:
        """Return every output of the part when it is called by itself."""
        given = {"pe": self.of_encoding, "block": self.of_block, "attention": self.of_attention, "init": self.of_init}
        return given[self.kind]()

    def whole(self) -> list[Output]:
        """Return the output of the stack with the part; an empty list for an initialisation."""
        case = self.case
        if self.kind == "init":
            return []
        y = self.features(self.made, self.tokens(case.batch_size, case.seq_len))
        return [Output("the stack", y, (case.batch_size, case.seq_len, case.d_model))]

    def of_encoding(self) -> list[Output]:
        """Return the output of each method of the encoding."""
        return encoded(self, self.made.stack.encoding, self.normal_inputs())

    def of_block(self) -> list[Output]:
        """Return the output of each sublayer, and refuse a block that does not call its function."""
        case, layer = self.case, self.made.stack.layers[0]
        x, calls, found = self.normal(case.batch_size, case.seq_len, case.d_model), [], []

        def function(y: Tensor) -> Tensor:
            calls.append(y.shape)
            return y.flip(-1)

        for index in range(1 + bool(case.ffn_mult)):
            before = len(calls)
            with torch.no_grad(), self.blamed():
                y = layer.sublayer(x, function, index)  # type: ignore[operator]
            if len(calls) == before:
                wrong = f"sublayer {index} never calls its function, so that the layer would attend to nothing"
                raise Failed(message(wrong, do="call it"))
            found.append(Output(f"sublayer {index}", y, tuple(x.shape)))
        return found

    def of_attention(self) -> list[Output]:
        """Return the attention's output without a bias; ``conformance.check_bias`` gives it one."""
        q, k, v = self.heads()
        with torch.no_grad(), self.blamed():
            return [Output("the output", ATTENTION[self.name](q, k, v, None, self.case.causal), tuple(q.shape))]

    def of_init(self) -> list[Output]:
        """Return the weights and biases after the initialisation of projections that were filled with NaN."""
        D, inner = self.case.d_model, self.case.inner
        pair = {"qkv": Projection(D, 3 * inner), "out": Projection(inner, D)}
        for linear in pair.values():
            linear.to(device=self.case.device, dtype=self.dtype)
        for parameter in (p for linear in pair.values() for p in linear.parameters()):
            nn.init.constant_(parameter, torch.nan)
        shapes = {f"{name}.{part}": tuple(p.shape) for name, one in pair.items() for part, p in one.named_parameters()}
        with self.blamed():
            INITS[self.name](pair["qkv"], pair["out"])
        weights = {f"{name}.{part}": p for name, one in pair.items() for part, p in one.named_parameters()}
        if frozen := [name for name in shapes if not getattr(weights.get(name), "requires_grad", False)]:
            raise Failed(message(f"{frozen[0]} must stay a parameter that takes a gradient"))
        return [Output(name, weights[name].detach(), shape) for name, shape in shapes.items()]

    def parameters(self, model: SequenceClassifier) -> dict[str, Tensor]:
        """Return the parameters that belong to the part, by name; for an attention those of its projection."""
        if self.kind == "pe":
            return dict(model.stack.encoding.named_parameters())
        named = dict(model.stack.layers[0].named_parameters()) if self.case.depth else {}
        if self.kind == "attention":
            return {name: p for name, p in named.items() if name.startswith(("attention.qkv", "attention.attend"))}
        return {name: p for name, p in named.items() if not name.startswith(("attention", "feed_forward"))}

    def holders(self, model: SequenceClassifier) -> list[Any]:
        """Return the objects that hold the part's tensors: modules, and an object of the part's that is none."""
        layer: Any = model.stack.layers[0]
        roots = {"pe": [model.stack.encoding], "block": [layer], "attention": [layer.attention.attend]}
        found: list[Any] = []
        for root in roots.get(self.kind, []):
            found += list(root.modules()) if isinstance(root, nn.Module) else [root]
            own = getattr(root, "own", None)
            found += [own] if own is not None and not isinstance(own, nn.Module) else []
        return found


@torch.no_grad()
def stir(parameters: Iterable[Tensor]) -> None:
    """Enlarge every parameter by up to 10 %, which keeps its sign; zeros become numbers between 0 and 0.05."""
    for parameter in parameters:
        if parameter.is_floating_point():
            parameter.mul_(1 + 0.1 * torch.rand_like(parameter))
            parameter.add_(0.05 * torch.rand_like(parameter) * (parameter == 0))


def encoded(subject: Subject, encoding: PositionalEncoding, inputs: Mapping[str, Tensor]) -> list[Output]:
    """Return the output of each method of an encoding for these ``x``, ``q`` and ``k``; allowed None are left out."""
    x, q, k = (inputs[name] for name in "xqk")
    (B, T, D), (H, K) = x.shape, (q.shape[1], q.shape[-1])
    with torch.no_grad(), subject.blamed():
        turned = encoding.rotate(q, k)
        if not isinstance(turned, tuple) or len(turned) != 2:
            given = f" of {len(turned)}" if isinstance(turned, tuple) else ""
            raise Failed(message(f"rotate must return a tuple of 2 tensors, not a {type(turned).__name__}{given}"))
        found = [
            Output("embed", encoding.embed(x), (B, T, D)),
            *(Output(f"rotate's {name}", y, (B, H, T, K)) for name, y in zip("qk", turned, strict=True)),
            Output("bias", encoding.bias(T), (H, T, T), added=True),
            Output("by_distance", encoding.by_distance(T), (H, 2 * T - 1), added=True),
            Output(
                "pair_bias" if encoding.overrides("pair_bias") else "query_bias", encoding.pair_bias(q, k), (B, H, T, T)
            ),
        ]
    always = ("embed", "rotate's q", "rotate's k")  # None is no answer there
    return [output for output in found if output.value is not None or output.name in always]


def apart(one: Tensor, two: Tensor) -> float:
    """Return the largest difference of two tensors over the first's largest finite number; equal infinities give 0."""
    a, b = one.double(), two.double()
    finite = a[a.isfinite()].abs()
    largest = float(finite.max()) if finite.numel() else 0.0
    return float(torch.where(a == b, 0.0, a - b).abs().max()) / (largest or 1.0)


@contextlib.contextmanager
def aside(device: str) -> Iterator[io.StringIO]:
    """Yield the captured standard output; afterwards restore random state and precision of matrix products."""
    place = torch.device(device)
    devices = [place] if place.type == "cuda" else []
    printed = io.StringIO()
    precision = torch.get_float32_matmul_precision()
    try:
        with torch.random.fork_rng(devices=devices), contextlib.redirect_stdout(printed):
            yield printed
    finally:
        torch.set_float32_matmul_precision(precision)


def small_stack(kind: str, name: str, **fields: Any) -> Case:
    """Return a small case with the part in it; fields of a ``Case`` change it.

    Raises:
        ValueError: a field is unknown, **or** takes no such value.
    """
    usual = {"seq_len": 32, "d_model": 32, "n_heads": 2, "depth": 2, "batch_size": 3, "ffn_mult": int(kind == "block")}
    for field in fields:
        choose("field", field, Case.__dataclass_fields__)
    case = Case(**usual | {"phase": "forward"} | fields | {kind: name})
    if case.depth < 1:
        raise ValueError(message("a part is checked inside a layer: depth must be at least 1", case.depth))
    return case
