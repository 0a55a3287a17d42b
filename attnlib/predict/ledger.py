"""What operators allocate and move, booked while they run on tensors that have shapes and no storage."""

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
# What a backward pass does in place on the gradient that it adds to, except under a dispatch mode such as this one.
IN_PLACE = {
    aten.add.Tensor: aten.add_.Tensor,
    aten.index_add.default: aten.index_add_.default,
    aten.scatter_add.default: aten.scatter_add_.default,
}


class Ledger(TorchDispatchMode):
    """Books every storage that operators make until it is freed, and the bytes that they read and write.

    Between ``with`` and its end; ``peaks`` and ``operators`` are what it found. Set ``region`` to tell stretches apart.

    Args:
        inside: bytes that an operator allocates for as long as it runs, from it and its positional arguments.
        flops: FLOPs of an operator, from it, its arguments and what it made.
    """

    def __init__(
        self,
        inside: Callable[[OpOverload, Sequence[Any]], int],
        flops: Callable[[OpOverload, Sequence[Any], Mapping[str, Any], Any], int],
    ) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.inside, self.flops = inside, flops
        self.region = ""
        # how often an operator had so many FLOPs and bytes: each reads its inputs and writes its outputs once, and one
        # that only looks at its input in another way is none
        self.operators: Counter[tuple[int, int]] = Counter()
        self.live: dict[int, int] = {}  # storages to their numbers
        self.made = 0  # storages so far
        self.kinds: dict[int, str] = {}  # of numbered storages
        self.events: list[tuple[str, int, int]] = []  # region, number of a storage (-1: workspace), change in bytes

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        inside = self.inside(func, args)
        if func in IN_PLACE and _adds_a_gradient(func, args):
            made = IN_PLACE[func](*args, **(kwargs or {}))
        else:
            made = func(*args, **(kwargs or {}))
        outputs = [x for x in tree_leaves(made) if isinstance(x, Tensor)]
        for x in outputs:
            self.book(x.untyped_storage())
        if inside:
            self.events += [(self.region, -1, inside), (self.region, -1, -inside)]
        if not _is_view(func):
            inputs = [x for x in tree_leaves((args, kwargs)) if isinstance(x, Tensor)]
            moved = sum(map(distinct_bytes, (*inputs, *outputs)))
            self.operators[self.flops(func, args, kwargs or {}, made), moved] += 1
        return made

    def book(self, storage: torch.UntypedStorage) -> None:
        """Count a storage, once, until it is freed."""
        key = storage._cdata
        if key not in self.live:
            self.live[key] = self.made
            self.made += 1
            self.events.append((self.region, self.live[key], storage.nbytes()))
            weakref.finalize(storage, self.free, key, storage.nbytes())

    def free(self, key: int, size: int) -> None:
        """Count it no more."""
        self.events.append((self.region, self.live.pop(key), -size))

    def name(self, kind: str, tensors: Iterable[Tensor | None]) -> None:
        """Say what tensors are that are alive now: all others are ``activations``."""
        for x in tensors:
            if x is not None and (key := x.untyped_storage()._cdata) in self.live:
                self.kinds.setdefault(self.live[key], kind)

    @property
    def held(self) -> int:
        """Bytes that are alive now."""
        return sum(change for _, _, change in self.events)

    def peaks(self) -> dict[str, dict[str, int]]:
        """Of each region, what was alive at its highest moment, in bytes by kind."""
        found: dict[str, dict[str, int]] = {}
        now: Counter[str] = Counter()
        total, most = 0, dict.fromkeys((region for region, _, _ in self.events), -1)
        for region, number, change in self.events:
            now[WORKSPACE if number < 0 else self.kinds.get(number, OTHER)] += change
            total += change
            if total > most[region]:
                most[region], found[region] = total, dict(now)
        return found


def distinct_bytes(x: Tensor) -> int:
    """Bytes of a tensor, what it repeats by a stride of 0 counted once."""
    numbers = 1
    for size, stride in zip(x.shape, x.stride(), strict=True):
        numbers *= size if stride else min(size, 1)
    return numbers * x.itemsize


def _is_view(func: OpOverload) -> bool:
    """Whether an operator only looks at its input in another way, or makes room without writing."""
    aliases = [a.alias_info for a in func._schema.arguments if a.alias_info is not None]
    return any(not alias.is_write for alias in aliases) or "empty" in func.name()


def _adds_a_gradient(func: OpOverload, args: Sequence[Any]) -> bool:
    """Whether this is the backward pass adding to a gradient that nobody else holds."""
    if torch.is_grad_enabled() or torch._C._current_graph_task_id() == -1:
        return False
    if func is not aten.add.Tensor:
        return True
    a, b = args[:2]
    same = isinstance(a, Tensor) and isinstance(b, Tensor) and a.shape == b.shape and a.dtype == b.dtype
    return same and distinct_bytes(a) == a.numel() * a.itemsize
