"""What torch's attention kernels do inside, where shapes do not show it: which one runs, its products, its buffers.

The CPU's blocks, and what its other operators copy, are read from torch ``CALIBRATED`` and held against its profiler.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torch._ops import OpOverload
from torch.utils.flop_counter import flop_registry

from attnlib.model.positional.base import at_least_float32

CALIBRATED = "2.13"
FLASH_CPU, FLASH, EFFICIENT, MATH = (
    "flash_attention_for_cpu", "flash_attention", "efficient_attention", "attention_math",
)  # fmt: skip
HALF = (torch.float16, torch.bfloat16)
KEYS = 512  # a block of the CPU's kernel
aten = torch.ops.aten


def is_calibrated() -> bool:
    """Whether this torch is the release that the numbers here were held against."""
    return torch.__version__.startswith(f"{CALIBRATED}.")


def attention_kernel(device: str, dtype: torch.dtype, *, biased: bool, learned: bool) -> str:
    """The kernel that ``scaled_dot_product_attention`` chooses, as torch names it.

    On a CPU the fused one, unless a bias needs a gradient, which it cannot give; on CUDA the flash kernel in half
    precision without a bias, else the memory-efficient one up to float32; written-out attention otherwise.

    Args:
        device: ``cpu``, ``cuda:1``, ...
        dtype: of queries, keys and values.
        biased: whether something is added to the scores.
        learned: whether that needs a gradient.
    """
    if device.startswith("cpu"):
        return MATH if learned else FLASH_CPU
    if not device.startswith("cuda") or dtype == torch.float64:
        return MATH
    return FLASH if dtype in HALF and not biased else EFFICIENT


def attend(kernel: str, q: Tensor, k: Tensor, v: Tensor, bias: Tensor | None, causal: bool) -> Tensor:
    """Attention by one kernel, on tensors that have shapes and no storage: ``[B, H, T, K]``."""
    made: tuple[Tensor, ...]
    if kernel == MATH:
        if bias is not None:
            return _written_out(q, k, v, bias)
        made = aten._scaled_dot_product_attention_math(q, k, v, None, 0.0, causal)
    elif kernel == FLASH_CPU:
        made = aten._scaled_dot_product_flash_attention_for_cpu(q, k, v, 0.0, causal, attn_mask=bias)
    elif kernel == FLASH:
        made = aten._scaled_dot_product_flash_attention(q, k, v, 0.0, causal)
    else:
        whole = None if bias is None else bias.expand(*q.shape[:-1], k.shape[-2])
        made = aten._scaled_dot_product_efficient_attention(q, k, v, whole, torch.is_grad_enabled(), 0.0, causal)
    return made[0]


def _written_out(q: Tensor, k: Tensor, v: Tensor, bias: Tensor) -> Tensor:
    """What torch's math kernel does with a bias; under a dispatch mode it would not add it in place."""
    dtype, half = q.dtype, q.shape[-1] ** -0.25
    q, k, v = (at_least_float32(x) for x in (q, k, v))
    q = q * half  # alive to the end, as there
    scores = q @ (k.transpose(-2, -1) * half)
    scores += bias
    scores = aten._safe_softmax(scores, -1)
    made: Tensor = (scores @ v).to(dtype)
    return made


def query_block(seq_len: int) -> int:
    """Queries that the CPU's fused kernel takes at once."""
    return min(seq_len, 256 if seq_len >= 768 else 64 if seq_len >= 192 else 32)


def scored_pairs(seq_len: int, kernel: str, *, causal: bool) -> int:
    """Pairs of a query and a key whose score a kernel computes: T^2, or the blocks that a causal mask leaves.

    The CPU's fused kernel leaves out blocks of ``KEYS`` keys that lie wholly behind a block of queries; what the
    kernels of CUDA leave out is not known and not counted.
    """
    if not causal or kernel != FLASH_CPU:
        return seq_len**2
    block, pairs = query_block(seq_len), 0
    for first in range(0, seq_len, block):
        queries = min(block, seq_len - first)
        keys = min(seq_len, -(-(first + queries) // KEYS) * KEYS)
        pairs += queries * keys
    return pairs


def _products(count: int, q: Sequence[int], rest: Sequence[Any]) -> int:
    """FLOPs of so many products of the size of Q K^T; ``rest`` is the kernel's dropout and whether it is causal."""
    B, H, T, K = q
    return 2 * count * B * H * K * scored_pairs(T, FLASH_CPU, causal=bool(rest[1:2] and rest[1]))


def _forward_flops(q: Sequence[int], _k: Any, _v: Any, *rest: Any, **_kwargs: Any) -> int:
    return _products(2, q, rest)


def _backward_flops(
    _grad: Any, q: Sequence[int], _k: Any, _v: Any, _out: Any, _lse: Any, *rest: Any, **_kw: Any
) -> int:
    return _products(5, q, rest)


# for torch.utils.flop_counter.FlopCounterMode(custom_mapping=...), which counts these as nothing (pytorch #195460)
FLOPS: dict[Any, Callable[..., int]] = {
    aten._scaled_dot_product_flash_attention_for_cpu: _forward_flops,
    aten._scaled_dot_product_flash_attention_for_cpu_backward: _backward_flops,
}


def product_flops(func: OpOverload, args: Sequence[Any], kwargs: Mapping[str, Any], made: Any) -> int:
    """FLOPs of an operator's matrix products, as torch's counter and ``FLOPS`` have them; 0 for all others."""
    packet = func._overloadpacket
    if packet in FLOPS:
        return FLOPS[packet](*(x.shape if isinstance(x, Tensor) else x for x in args))
    return int(flop_registry[packet](*args, **kwargs, out_val=made)) if packet in flop_registry else 0


def workspace(func: OpOverload, args: Sequence[Any], threads: int) -> int:
    """Bytes that an operator of the CPU allocates beside its outputs, for as long as it runs.

    Args:
        func: the operator.
        args: its positional arguments.
        threads: of torch, each of which has a buffer of the fused kernel of its own; 0 where there is no CPU's kernel.
    """
    if threads == 0:
        return 0
    if func is aten._scaled_dot_product_flash_attention_for_cpu.default:
        return threads * _flash_buffer(args[0], backward=False) + _packed(args[0], threads)
    if func is aten._scaled_dot_product_flash_attention_for_cpu_backward.default:
        return threads * _flash_buffer(args[1], backward=True)
    if func is aten._safe_softmax.default:  # which scores are -inf, and in which rows all are
        rows = args[0].numel() // max(1, args[0].shape[-1])
        return int(args[0].numel() + rows + 4)
    if (
        func is aten.index_select.default
        and args[1] % args[0].dim() == args[0].dim() - 1
        and not args[0].is_contiguous()
    ):
        return int(args[0].numel() * args[0].itemsize)
    if torch.Tag.pointwise in func.tags:
        return converted_bytes([x for x in args if isinstance(x, Tensor) and x.dtype != torch.bool])
    return 0


def _flash_buffer(q: Tensor, *, backward: bool) -> int:
    """Bytes of a thread: a block of scores and what goes with it, in float32 or wider, and again in half precision."""
    T, K = q.shape[-2:]
    queries, keys = query_block(T), min(T, KEYS)
    wide, half = torch.promote_types(q.dtype, torch.float32).itemsize, q.itemsize if q.dtype in HALF else 0
    if backward:  # scores and their gradient; a sum for each query
        return queries * (2 * keys * (wide + half) + wide)
    return queries * (keys * (wide + half) + (2 + K) * wide)


def _packed(q: Tensor, threads: int) -> int:
    """Bytes of keys and values that the fused kernel lays out anew in bfloat16, where the CPU has products of it."""
    if q.dtype != torch.bfloat16:
        return 0
    T, K = q.shape[-2:]
    return q.itemsize * (2 * q.numel() + threads * min(T, KEYS) * K)


def converted_bytes(operands: Sequence[Tensor]) -> int:
    """Bytes of the copies in which an elementwise operator first brings its operands to one dtype."""
    if len({x.dtype for x in operands}) < 2:
        return 0
    common = operands[0].dtype
    for x in operands[1:]:
        common = torch.promote_types(common, x.dtype)
    return sum(x.numel() * common.itemsize for x in operands if x.dtype != common and x.dim())
