"""Bytes that kernels are predicted to allocate inside, against the events of torch's profiler."""

import pytest
import torch
import torch.nn.functional as F
from torch.utils._python_dispatch import TorchDispatchMode

from attnlib.measure.memory import allocations
from attnlib.model.attention import math_attention
from attnlib.predict.choice import CUDNN, EFFICIENT, FLASH, FLASH_CPU, MATH
from attnlib.predict.kernels import attend, is_calibrated, product_flops, workspace


class Workspaces(TorchDispatchMode):
    """The largest workspace of the operators that run."""

    most = 0

    def __init__(self, threads=None):
        super().__init__()
        self.threads = torch.get_num_threads() if threads is None else threads

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        self.most = max(self.most, workspace(func, args, self.threads))
        return func(*args, **(kwargs or {}))


def heads(seq_len, width, dtype=torch.float32):
    """Three of [B, H, T, K], laid out as projections give them."""
    return [torch.randn(2, seq_len, 4, width, dtype=dtype).transpose(1, 2).requires_grad_() for _ in range(3)]


def inside(step):
    """Bytes that a step allocates and frees again beyond what it leaves, at most; and what is said of it."""
    step()
    total = most = 0
    for _, change in allocations(step):
        total += change
        most = max(most, total)
    with Workspaces() as seen:
        step()
    return most, seen.most


@pytest.fixture(params=[1, 2])
def threads(request):
    before = torch.get_num_threads()
    torch.set_num_threads(request.param)
    yield request.param
    torch.set_num_threads(before)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.float16, torch.bfloat16])
@pytest.mark.parametrize(("seq_len", "width"), [(20, 16), (160, 16), (300, 64), (800, 24)])
def test_buffers_of_the_fused_kernel(threads, seq_len, width, dtype):
    """Forward: outputs, logarithms of sums and buffers are all that is there; in bfloat16 it may pack keys or not."""
    q, k, v = (x.detach() for x in heads(seq_len, width, dtype))
    most, said = inside(lambda: F.scaled_dot_product_attention(q, k, v))
    wide = torch.promote_types(dtype, torch.float32).itemsize
    outputs = q.numel() * q.itemsize + 2 * 4 * seq_len * wide
    packed = 2 * q.numel() * q.itemsize if dtype == torch.bfloat16 else 0

    assert said > threads * 32 * min(seq_len, 512) * 4 * 0.5
    assert most <= outputs + said
    assert most >= outputs + said - packed - threads * 512 * width * q.itemsize * (packed > 0)


@pytest.mark.parametrize("seq_len", [20, 160, 300, 800])
def test_buffers_of_the_fused_kernels_backward_pass(threads, seq_len):
    """Two blocks of scores a thread, and the sums of the queries, which the profiler sees of one thread only."""
    q, k, v = heads(seq_len, 16)
    y = F.scaled_dot_product_attention(q, k, v)
    gradient = torch.ones(2, seq_len, 4, 16).transpose(1, 2)
    most, said = inside(lambda: torch.autograd.grad(y, (q, k, v), gradient, retain_graph=True))

    assert 0 <= 3 * q.numel() * 4 + said - most <= threads * 256 * 4


@pytest.mark.parametrize(
    ("step", "outputs"),
    [
        (lambda: torch.ones(64, 64, dtype=torch.int64) * torch.ones(8, 1, 1), 8 * 64 * 64 * 4 + 64 * 64 * 8 + 32),
        (lambda: torch.ones(64, 64, dtype=torch.bfloat16) + torch.ones(64, 64), 64 * 64 * (4 + 4 + 2)),
        (lambda: torch.ones(64, 64) + torch.ones(64, 64), 3 * 64 * 64 * 4),
        (lambda: torch.ones(64, 32).T.index_select(-1, torch.arange(4)), 64 * 32 * 4 + 4 * 8 + 4 * 32 * 4),
        (lambda: torch.ones(64, 32).T.index_select(0, torch.arange(4)), 64 * 32 * 4 + 4 * 8 + 4 * 64 * 4),
    ],
)
def test_what_other_operators_copy(step, outputs):
    """An operand of another dtype, and a table that is no row after row; equal dtypes need nothing."""
    most, said = inside(step)

    assert outputs + said - 64 <= most <= outputs + said + 16384


@pytest.mark.parametrize(
    ("version", "calibrated"),
    [("2.13.0", True), ("2.13.1+cu130", True), ("2.13.0a0+git", False), ("2.13.0rc1", False), ("2.14.0a0", False)],
)
def test_only_the_release_is_calibrated(monkeypatch, version, calibrated):
    """A build before a release has its number, and may have other kernels."""
    monkeypatch.setattr(torch, "__version__", version)

    assert is_calibrated() == calibrated


@pytest.mark.parametrize("kernel", [MATH, FLASH_CPU])
@pytest.mark.parametrize("biased", [True, False])
def test_kernels_by_name_attend(kernel, biased):
    """Called by its name, each gives what written-out attention gives."""
    q, k, v = (x.detach() for x in heads(40, 16))
    bias = torch.randn(1, 4, 40, 40) if biased else None
    causal = not biased

    torch.testing.assert_close(attend(kernel, q, k, v, bias, causal), math_attention(q, k, v, bias, causal))


class Flops(TorchDispatchMode):
    """FLOPs of the operators that run."""

    total = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        result = func(*args, **(kwargs or {}))
        self.total += product_flops(func, args, kwargs or {}, result)
        return result


@pytest.mark.parametrize(
    ("kernel", "biased", "width"),
    [(FLASH, False, 16), (FLASH, False, 12), (EFFICIENT, True, 16), (CUDNN, False, 16), (CUDNN, True, 16)],
)
def test_kernels_of_other_devices_have_shapes(kernel, biased, width):
    """Without storage, on a machine without such a device; two products forward and five back."""
    with torch.device("meta"), Flops() as seen:
        q, k, v = heads(40, width, torch.float16)
        bias = torch.randn(1, 4, 40, 40, dtype=torch.float16) if biased else None
        y = attend(kernel, q, k, v, bias, False)
        y.sum().backward()

    assert y.shape == q.shape == q.grad.shape
    assert seen.total == 7 * 2 * 2 * 4 * 40**2 * 16


@pytest.mark.parametrize(
    ("seq_len", "width", "expected"),
    [(128, 64, 2 * 4 * 128 * 65 * 4), (130, 40, 2 * 4 * 256 * 65 * 4), (256, 160, 2 * 4 * 256 * 193 * 4)],
)
def test_flash_sums_the_queries_gradients_in_float32(seq_len, width, expected):
    """[B, H, T, K] and a number a query, T up to 128s and K up to 32s, above 128 up to 64s; nothing forward."""
    with torch.device("meta"):
        q, k, v = heads(seq_len, width, torch.float16)
        forward, backward = Workspaces(threads=0), Workspaces(threads=0)
        with forward:
            y = attend(FLASH, q, k, v, None, False)
        with backward:
            y.sum().backward()

    assert (forward.most, backward.most) == (0, expected)
