"""Attention by a named kernel, the products that it computes, and the buffers that operators allocate.

Shapes do not show these. Block sizes and copies of the CPU's operators are those in the source of torch ``CALIBRATED``,
and tests compare them with its profiler.
"""

from collections.abc import Callable, Mapping, Sequence
from functools import reduce
from typing import Any

import torch
import torch.nn.functional as F
from packaging.version import Version
from torch import Tensor
from torch._ops import OpOverload
from torch.utils.flop_counter import flop_registry

from attnlib.model.positional.base import at_least_float32
from attnlib.predict.choice import CUDNN, FLASH, FLASH_CPU, HALF, MATH

CALIBRATED = "2.13"
KEYS = 512  # block size of the CPU's fused kernel
aten = torch.ops.aten


def is_calibrated() -> bool:
    """Return True if this torch is of the release that the numbers here were checked with, and none from before it."""
    version = Version(torch.__version__)
    return version.release[:2] == Version(CALIBRATED).release and not version.is_prerelease


def attend(kernel: str, q: Tensor, k: Tensor, v: Tensor, bias: Tensor | None, causal: bool) -> Tensor:
    """Return the output of attention by a named kernel, see ``attnlib.predict.choice``.

    Queries, keys, values and output are ``[B, H, T, K]``; a bias is broadcast to the scores, ``[B, H, T, T]``.
    """
    outputs: tuple[Tensor, ...]
    if kernel == MATH:
        if bias is not None:
            return _math_with_bias(q, k, v, bias)
        outputs = aten._scaled_dot_product_attention_math(q, k, v, None, 0.0, causal)
    elif kernel == FLASH_CPU:
        outputs = aten._scaled_dot_product_flash_attention_for_cpu(q, k, v, 0.0, causal, attn_mask=bias)
    elif kernel == FLASH:
        width = q.shape[-1]
        if width % 8:  # torch makes them wider, and cuts the output
            q, k, v = (F.pad(x, (0, -width % 8)) for x in (q, k, v))  # [B, H, T, K rounded up to 8]
        outputs = aten._scaled_dot_product_flash_attention(q, k, v, 0.0, causal)
        return outputs[0][..., :width]
    else:
        # with strides of 0, so that what is broadcast takes no memory
        whole = None if bias is None else bias.expand(*q.shape[:-1], k.shape[-2])  # [B, H, T, T]
        run = aten._scaled_dot_product_efficient_attention
        if kernel == CUDNN:
            run = aten._scaled_dot_product_cudnn_attention
        outputs = run(q, k, v, whole, torch.is_grad_enabled(), 0.0, causal)
    return outputs[0]


def _math_with_bias(q: Tensor, k: Tensor, v: Tensor, bias: Tensor) -> Tensor:
    """Run the steps of torch's math kernel, which would not add the bias in place in a dispatch mode."""
    dtype, root = q.dtype, q.shape[-1] ** -0.25
    q, k, v = (at_least_float32(x) for x in (q, k, v))
    q = q * root  # lives to the end of the function, as in the kernel
    scores = q @ (k.transpose(-2, -1) * root)  # [B, H, T, T]
    scores += bias
    scores = aten._safe_softmax(scores, -1)
    output: Tensor = (scores @ v).to(dtype)  # [B, H, T, K]
    return output


def query_block(seq_len: int) -> int:
    """Return the number of queries in a block of the CPU's fused kernel."""
    return min(seq_len, 256 if seq_len >= 768 else 64 if seq_len >= 192 else 32)


def scored_pairs(queries: int, keys: int, kernel: str, *, causal: bool) -> int:
    """Return the number of pairs of a query and a key whose score a kernel computes.

    If it is told of a causal mask, the CPU's fused kernel skips blocks of ``KEYS`` keys that lie entirely after a block
    of queries. All other kernels are counted with all pairs, since it is not known what those of CUDA skip.
    """
    if not causal or kernel != FLASH_CPU:
        return queries * keys
    block, pairs = query_block(queries), 0
    for first in range(0, queries, block):
        some = min(block, queries - first)
        # keys up to the block's last query, rounded up to whole blocks of keys
        seen = min(keys, -(-(first + some) // KEYS) * KEYS)
        pairs += some * seen
    return pairs


def _products(count: int, q: Sequence[int], k: Sequence[int], rest: Sequence[Any]) -> int:
    """Return the FLOPs of ``count`` products of the size of Q K^T; ``rest`` holds dropout and ``is_causal``."""
    B, H, T, K = q
    return 2 * count * B * H * K * scored_pairs(T, k[2], FLASH_CPU, causal=bool(rest[1:2] and rest[1]))


# torch's FlopCounterMode counts these kernels as 0 (pytorch #195460) unless it gets this as ``custom_mapping``
FLOPS: dict[Any, Callable[..., int]] = {
    aten._scaled_dot_product_flash_attention_for_cpu: lambda q, k, _v, *rest, **_: _products(2, q, k, rest),
    aten._scaled_dot_product_flash_attention_for_cpu_backward: (
        lambda _grad, q, k, _v, _out, _lse, *rest, **_: _products(5, q, k, rest)
    ),
}


def product_flops(func: OpOverload, args: Sequence[Any], kwargs: Mapping[str, Any], result: Any) -> int:
    """Return the FLOPs of an operator's matrix products by torch's counter and ``FLOPS``; 0 for other operators."""
    packet = func._overloadpacket
    if packet in FLOPS:
        return FLOPS[packet](*(x.shape if isinstance(x, Tensor) else x for x in args))
    return int(flop_registry[packet](*args, **kwargs, out_val=result)) if packet in flop_registry else 0


def workspace(func: OpOverload, args: Sequence[Any], threads: int) -> int:
    """Return the bytes that an operator allocates while it runs, beside its outputs.

    Known are those of the CPU, and of flash attention's backward pass on CUDA; not what cuDNN and CUTLASS allocate.

    Args:
        func: the operator.
        args: its positional arguments.
        threads: torch's intra-op threads, each with a buffer in the CPU's fused kernel; 0 on other devices.
    """
    if func is aten._scaled_dot_product_flash_attention_backward.default:
        return _flash_sums(args[1])
    if threads == 0:
        return 0
    if func is aten._scaled_dot_product_flash_attention_for_cpu.default:
        return threads * _flash_buffer(args[0], args[1], backward=False) + _packed(args[0], args[1], threads)
    if func is aten._scaled_dot_product_flash_attention_for_cpu_backward.default:
        return threads * _flash_buffer(args[1], args[2], backward=True)
    if func is aten._safe_softmax.default:  # masks of the scores that are -inf, and of rows of them
        rows = args[0].numel() // max(1, args[0].shape[-1])
        return int(args[0].numel() + rows + 4)
    if (
        func is aten.index_select.default
        and args[1] % args[0].dim() == args[0].dim() - 1
        and not args[0].is_contiguous()
    ):  # along the last dimension it reads from a contiguous copy
        return int(args[0].numel() * args[0].itemsize)
    if torch.Tag.pointwise in func.tags:
        return converted_bytes([x for x in args if isinstance(x, Tensor) and x.dtype != torch.bool])
    return 0


def _flash_sums(q: Tensor) -> int:
    """Return the bytes in which CUDA's flash kernel sums up the gradient of queries, and a number for each query.

    They are ``dq_accum`` and ``softmax_d`` of ``mha_bwd`` in aten/src/ATen/native/transformers/cuda/flash_attn/
    flash_api.cpp: float32, T rounded up to 128, K to 32 and above 128 to 64; deterministic algorithms take more.
    """
    B, H, T, K = q.shape
    step = 32 if K <= 128 else 64
    return torch.float32.itemsize * B * H * (-(-T // 128) * 128) * (-(-K // step) * step + 1)


def _flash_buffer(q: Tensor, k: Tensor, *, backward: bool) -> int:
    """Return the bytes of one thread's buffer: a block of scores in float32 or wider, and a copy in half precision."""
    T, K = q.shape[-2:]
    queries, keys = query_block(T), min(k.shape[-2], KEYS)
    wide, half = torch.promote_types(q.dtype, torch.float32).itemsize, q.itemsize if q.dtype in HALF else 0
    if backward:  # scores and their gradient, and a sum for each query
        return queries * (2 * keys * (wide + half) + wide)
    # a block of scores; for each query a maximum, a sum and a row of the output [K]
    return queries * (keys * (wide + half) + (2 + K) * wide)


def _packed(q: Tensor, k: Tensor, threads: int) -> int:
    """Return the bytes of keys and values that the fused kernel copies in bfloat16, on CPUs with bfloat16 products."""
    if q.dtype != torch.bfloat16:
        return 0
    keys, K = k.shape[-2:]
    # all keys and values, and in each thread a block of keys [keys, K]
    return q.itemsize * (2 * k.numel() + threads * min(keys, KEYS) * K)


def converted_bytes(operands: Sequence[Tensor]) -> int:
    """Return the bytes of the copies by which an elementwise operator converts its operands to one dtype."""
    if not operands:
        return 0
    common = reduce(torch.promote_types, (x.dtype for x in operands))
    return sum(x.numel() * common.itemsize for x in operands if x.dtype != common and x.dim())
