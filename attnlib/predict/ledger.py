"""A record of the memory that operators allocate and move, while they run on tensors without storage."""

import math
import weakref
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torch._ops import OpOverload
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

aten = torch.ops.aten
WORKSPACE, OTHER = "workspace", "activations"
# The backward pass adds to gradients in place, but in a dispatch mode such as ``Ledger`` it calls these out of place.
IN_PLACE = {
    aten.add.Tensor: aten.add_.Tensor,
    aten.index_add.default: aten.index_add_.default,
    aten.scatter_add.default: aten.scatter_add_.default,
}


class Ledger(TorchDispatchMode):
    """Dispatch mode that records storages, from allocation until they are freed, and FLOPs and bytes of operators.

    It records inside of ``with``; read ``peaks()`` and ``operators`` afterwards. Peaks are kept apart by ``region``,
    which may be set at any time.

    Args:
        inside: function from an operator and its positional arguments to the bytes that it allocates while it runs.
        flops: function from an operator, its arguments and its result to its FLOPs.
    """

    def __init__(
        self,
        inside: Callable[[OpOverload, Sequence[Any]], int],
        flops: Callable[[OpOverload, Sequence[Any], Mapping[str, Any], Any], int],
    ) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.inside, self.flops = inside, flops
        self.region = ""
        # number of operators by FLOPs and bytes, where each reads its inputs and writes its outputs once; without views
        self.operators: Counter[tuple[int, int]] = Counter()
        # bytes of each operator on lists of tensors: deeper stacks have longer lists and not more of these operators
        self.batched: list[int] = []
        self.live: dict[int, int] = {}  # number of each storage, by its address
        self.made = 0  # storages so far
        self.kinds: dict[int, str] = {}  # kind of each storage, by its number
        self.events: list[tuple[str, int, int]] = []  # region, number of a storage (-1: workspace), change in bytes

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        inside = self.inside(func, args)
        run = IN_PLACE[func] if func in IN_PLACE and _adds_a_gradient(func, args) else func
        result = run(*args, **(kwargs or {}))
        outputs = [x for x in tree_leaves(result) if isinstance(x, Tensor)]
        for x in outputs:
            self.book(x.untyped_storage())
        # the operator's own buffers are gone when it returns, but were there together with inputs and outputs
        if inside:
            self.events += [(self.region, -1, inside), (self.region, -1, -inside)]
        if not _is_view(func):
            inputs = [x for x in tree_leaves((args, kwargs)) if isinstance(x, Tensor)]
            # operators such as ``_foreach_add_`` return nothing: what they write to are arguments
            moved = sum(map(distinct_bytes, (*inputs, *(outputs or _changed(func, args)))))
            if "_foreach_" in func.name():
                self.batched.append(moved)
            else:
                self.operators[self.flops(func, args, kwargs or {}, result), moved] += 1
        return result

    def forget_operators(self) -> None:
        """Forget the operators so far, and not the storages."""
        self.operators, self.batched = Counter(), []

    def book(self, storage: torch.UntypedStorage) -> None:
        """Record a storage, unless it is recorded already, and have ``free`` called when it is freed."""
        key = storage._cdata
        if key not in self.live:
            # a freed storage's address may be used again, so events have a number that is not
            self.live[key] = self.made
            self.made += 1
            self.events.append((self.region, self.live[key], storage.nbytes()))
            weakref.finalize(storage, self.free, key, storage.nbytes())

    def free(self, key: int, size: int) -> None:
        """Record that a storage was freed."""
        self.events.append((self.region, self.live.pop(key), -size))

    def name(self, kind: str, tensors: Iterable[Tensor | None]) -> None:
        """Set the kind of tensors that are alive; without a kind they are ``activations``."""
        for x in tensors:
            if x is not None and (key := x.untyped_storage()._cdata) in self.live:
                self.kinds.setdefault(self.live[key], kind)  # named twice it keeps its first name

    @property
    def held(self) -> int:
        """Bytes that are allocated now."""
        return sum(change for _, _, change in self.events)

    def peaks(self) -> dict[str, dict[str, int]]:
        """Return for each region the bytes by kind at its peak."""
        peaks: dict[str, dict[str, int]] = {}
        now: Counter[str] = Counter()
        # below 0, so that a region in which nothing is allocated has a peak too
        total, highest = 0, dict.fromkeys((region for region, _, _ in self.events), -1)
        for region, number, change in self.events:
            now[WORKSPACE if number < 0 else self.kinds.get(number, OTHER)] += change
            total += change
            if total > highest[region]:
                highest[region], peaks[region] = total, dict(now)
        return peaks


def distinct_bytes(x: Tensor) -> int:
    """Return the bytes of a tensor, in which numbers repeated by a stride of 0 count once."""
    sizes = zip(x.shape, x.stride(), strict=True)
    return x.itemsize * math.prod(size if stride else min(size, 1) for size, stride in sizes)


def _is_view(func: OpOverload) -> bool:
    """Return True for operators that move no bytes: views, and those that allocate without writing."""
    aliases = [a.alias_info for a in func._schema.arguments if a.alias_info is not None]
    return any(not alias.is_write for alias in aliases) or "empty" in func.name()


def _changed(func: OpOverload, args: Sequence[Any]) -> list[Tensor]:
    """Return the tensors among the positional arguments that an operator writes to."""
    taken = zip(func._schema.arguments, args, strict=False)
    written = [arg for declared, arg in taken if declared.alias_info is not None and declared.alias_info.is_write]
    return [x for x in tree_leaves(written) if isinstance(x, Tensor)]


def _adds_a_gradient(func: OpOverload, args: Sequence[Any]) -> bool:
    """Return True if this is the backward pass adding to a gradient that nothing else refers to."""
    if torch.is_grad_enabled() or torch._C._current_graph_task_id() == -1:
        return False
    if func is not aten.add.Tensor:
        return True
    a, b = args[:2]
    # a sum in place needs the first operand's own memory: none that a stride of 0 repeats
    same = isinstance(a, Tensor) and isinstance(b, Tensor) and a.shape == b.shape and a.dtype == b.dtype
    return same and distinct_bytes(a) == a.numel() * a.itemsize
