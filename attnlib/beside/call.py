"""A callable as one of two that take turns: checked, called, and gone back through."""

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
from torch import Tensor

from attnlib.errors import message
from attnlib.measure.clock import device_clock
from attnlib.measure.memory import is_out_of_memory
from attnlib.measure.noise import CpuWait
from attnlib.measure.rounds import Step, timed


class Call:
    """One side of a measurement: a call of a function, or the backward pass of what it returns.

    Args:
        name: in messages.
        function: called without arguments.
        backward: whether the backward pass is the step; the call that makes its graph is then no part of it.
    """

    def __init__(self, name: str, function: Callable[[], Any], *, backward: bool) -> None:
        self.name, self.function, self.backward = name, function, backward
        self.cpu_wait: CpuWait | None = None  # read at every reading of the clock
        self.waits: list[float | None] = []
        self.outputs: tuple[Tensor, ...] = ()  # to go back from
        self.seeds: tuple[Tensor, ...] = ()  # their gradients, all ones
        self.leaves: tuple[Tensor, ...] = ()  # that get a gradient
        self.before: tuple[Tensor | None, ...] = ()  # their gradients before it was called

    @property
    def prepare(self) -> Step | None:
        """Return the function that makes the graph untimed before every step, or None without ``backward``."""
        return self.make_graph if self.backward else None

    @property
    def step(self) -> Step:
        """Return the timed function: the call, or its backward pass."""
        return self.go_back if self.backward else self.run

    def clock(self) -> float:
        """Return seconds once the device has finished, and note how long this thread has waited for a CPU so far."""
        if self.cpu_wait is not None:
            self.waits.append(self.cpu_wait())
        return device_clock()

    def run(self) -> None:
        """Call the function, and let its result go."""
        self.result()

    def result(self) -> Any:
        """Call the function.

        Raises:
            AssertionError: it raised; the message says what.
            MemoryError, RuntimeError: no memory was left.
        """
        __tracebackhide__ = True
        try:
            return self.function()
        except Exception as error:
            if is_out_of_memory(error):
                raise
            text = str(error).partition("\n")[0]
            raise AssertionError(message(f"{self.name} raised {type(error).__name__}: {text}")) from error

    def make_graph(self) -> None:
        """Call the function with every gradient None; keep what it returns."""
        __tracebackhide__ = True
        for leaf in self.leaves:
            leaf.grad = None
        self.outputs = differentiable(self.result(), self.name)

    def go_back(self) -> None:
        """Run the backward pass from all outputs; the graph is used up."""
        __tracebackhide__ = True
        outputs, self.outputs = self.outputs, ()
        try:
            torch.autograd.backward(outputs, self.seeds)
        except RuntimeError as error:
            if is_out_of_memory(error):
                raise
            text = str(error).partition("\n")[0]
            wrong = f"the backward pass of {self.name} raised RuntimeError: {text}"
            raise AssertionError(message(wrong)) from error

    def check(self) -> float:
        """Run the step for the first time and refuse a wrong result; return its seconds.

        Raises:
            AssertionError: the function raised, **or** returned NaN, **or**, going back, nothing that needs a
                gradient, **or** a gradient is missing or not finite.
        """
        __tracebackhide__ = True
        if not self.backward:
            start = self.clock()
            result = self.result()
            seconds = self.clock() - start
            if any(bool(y.isnan().any()) for y in tensors_in(result) if y.is_floating_point() or y.is_complex()):
                raise AssertionError(message(f"{self.name} returned NaN"))
            return seconds
        self.make_graph()
        self.seeds = tuple(torch.ones_like(y) for y in self.outputs)
        self.leaves = tuple(leaves_of(self.outputs))
        self.before = tuple(leaf.grad for leaf in self.leaves)
        for leaf in self.leaves:
            leaf.grad = None
        seconds = timed(self.step, None, self.clock)
        if not self.leaves or any(leaf.grad is None for leaf in self.leaves):
            wrong = f"the backward pass of {self.name} gave no gradient to a tensor that needs one"
            raise AssertionError(message(wrong))
        if bad := sum(not bool(leaf.grad.isfinite().all()) for leaf in self.leaves if leaf.grad is not None):
            raise AssertionError(message(f"{bad} of {len(self.leaves)} gradients of {self.name} are not finite"))
        return seconds

    def forget(self) -> None:
        """Let go of graph and gradients, so that nothing is freed while memory is weighed."""
        self.outputs = ()
        for leaf in self.leaves:
            leaf.grad = None

    def restore(self) -> None:
        """Give the tensors the gradients back that they had before the first call."""
        self.outputs = ()
        for leaf, gradient in zip(self.leaves, self.before, strict=True):
            leaf.grad = gradient


def tensors_in(result: Any) -> tuple[Tensor, ...]:
    """Return the tensors of a result: itself, or those in a tuple or list."""
    found = result if isinstance(result, (tuple, list)) else (result,)
    return tuple(y for y in found if isinstance(y, Tensor))


def differentiable(result: Any, name: str) -> tuple[Tensor, ...]:
    """Return the tensors of a result that a backward pass can start from.

    Raises:
        AssertionError: there are none; the message names what there is.
    """
    __tracebackhide__ = True
    found = tuple(y for y in tensors_in(result) if y.requires_grad)
    if not found:
        what = "tensors without requires_grad" if tensors_in(result) else type(result).__name__
        advice = "backward=True takes a tensor or a tuple that needs a gradient"
        raise AssertionError(message(f"{name} returned {what}", do=advice))
    return found


def leaves_of(outputs: Sequence[Tensor]) -> Iterator[Tensor]:
    """Yield the tensors that a backward pass from these outputs gives a gradient to."""
    yield from (y for y in outputs if y.grad_fn is None)
    nodes, seen = [y.grad_fn for y in outputs if y.grad_fn is not None], set()
    while nodes:
        node = nodes.pop()
        if node in seen:
            continue
        seen.add(node)
        if isinstance(leaf := getattr(node, "variable", None), Tensor):  # where gradients are accumulated
            yield leaf
        nodes += [other for other, _ in node.next_functions if other is not None]
