"""Encodings that no package has, against their formulas written out; and sums that half precision would lose."""

import copy
import math

import pytest
import torch

from attnlib.model.positional import POSITIONAL
from attnlib.tests.model.test_positional import make


@pytest.mark.parametrize(("seq_len", "n_heads"), [(1, 1), (7, 3), (20, 8)])
def test_kerple_is_its_formula(seq_len, n_heads):
    """Every entry is -r1 log(1 + r2 |i - j|), parameters held at 0.01; no package has it."""
    encoding = make("kerple", seq_len, 4 * n_heads, n_heads)
    encoding.r1.data[0] = -1.0
    bias = encoding.bias(seq_len)

    for h in range(n_heads):
        r1, r2 = (max(0.01, r[h].item()) for r in (encoding.r1, encoding.r2))
        for i in range(seq_len):
            for j in range(seq_len):
                assert bias[h, i, j].item() == pytest.approx(-r1 * math.log(1 + r2 * abs(i - j)), abs=1e-6)


@pytest.mark.parametrize(("seq_len", "threshold"), [(1, 512.0), (20, 512.0), (20, 6.0)])
def test_fire_is_its_formula(seq_len, threshold):
    """Every entry is the network of psi(i - j) / psi(max(i, L)), on either side of L; no package has it."""
    encoding = make("fire", seq_len, 12, 3)
    encoding.threshold.data.fill_(threshold)
    bias, c = encoding.bias(seq_len), encoding.c.item()
    first, _, second = encoding.network

    for i in range(seq_len):
        for j in range(seq_len):
            share = math.log(1 + c * abs(i - j)) / math.log(1 + c * max(i, threshold))
            hidden = (first.weight[:, 0] * share + first.bias).clamp(min=0)
            torch.testing.assert_close(bias[:, i, j], second.weight @ hidden)


def test_a_clamped_kerple_parameter_still_learns():
    """Below 0.01 a parameter is used as 0.01 and has the gradient of that."""
    low, at = (make("kerple", 9, 4, 1) for _ in range(2))
    for encoding, r1 in ((low, -0.5), (at, 0.01)):
        encoding.r1.data.fill_(r1)
        encoding.r2.data.fill_(0.5)
        encoding.bias(9).sum().backward()

    torch.testing.assert_close(low.bias(9), at.bias(9))
    torch.testing.assert_close(low.r1.grad, at.r1.grad)
    assert low.r1.grad != 0


def test_half_precision_gradients_are_summed_in_float32():
    """In bfloat16 T5's table has the gradient of the float32 one, rounded, though 2000 ones add up in it."""
    encoding = make("t5", 1000, 16, 2).to(torch.bfloat16)
    encoding.bias(1000).sum().backward()

    assert float(encoding.table.weight.grad.sum()) == pytest.approx(2 * 1000**2, rel=0.01)


def test_fire_can_be_kerple():
    """A linear network within L gives KERPLE's bias with r2 = c, as the paper says."""
    fire, kerple = (make(name, 30, 16, 4).double() for name in ("fire", "kerple"))
    first, _, second = fire.network
    for parameter in fire.network.parameters():
        parameter.data.zero_()
    first.weight.data[0] = 1.0
    kerple.r2.data.fill_(fire.c.item())
    second.weight.data[:, 0] = -kerple.r1.clamp(min=0.01) * math.log1p(fire.c.item() * fire.threshold.item())

    torch.testing.assert_close(fire.bias(30), kerple.bias(30))


def acts(encoding, x, q):
    """Everything that an encoding does, as the stack uses it: rounded to the dtype of what it acts on."""
    turned = encoding.rotate(q, q)[0]
    made = {"embed": encoding.embed(x), "rotate": turned, "pair_bias": encoding.pair_bias(q, q)}
    bias = encoding.bias(x.shape[1])
    made["bias"] = None if bias is None else bias.to(x.dtype)
    return {name: y for name, y in made.items() if y is not None}


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("pe", POSITIONAL)
def test_low_precision_is_rounded_once(pe, dtype):
    """In half precision each number is the float64 one of the same parameters and inputs, rounded once."""
    torch.manual_seed(0)
    low = make(pe, 300, 24, 2).to(dtype)
    truth = make(pe, 300, 24, 2).double()
    truth.load_state_dict(low.state_dict())
    x, q = torch.randn(2, 300, 24).to(dtype), torch.randn(2, 2, 300, 12).to(dtype)
    exact = acts(truth, x.double(), q.double())

    for name, y in acts(low, x, q).items():
        assert y.dtype == dtype
        half_a_step = torch.finfo(dtype).eps / 2 * exact[name].abs()
        # and float32's own steps, where a sum cancels; CoPE sums 300 gates, and interpolates by the sum
        steps = 2e-4 if pe == "cope" else 2e-6
        assert bool(((y.double() - exact[name]).abs() <= 1.01 * half_a_step + steps).all()), name


@pytest.mark.parametrize(("name", "value"), [("c", 0.0), ("threshold", 0.0), ("threshold", -0.0), ("c", -0.1)])
@pytest.mark.parametrize("causal", [False, True])
def test_fire_is_finite_at_its_limits(name, value, causal):
    """Without curvature or threshold the bias and all gradients are finite; c = 0 is the share of the distance."""
    encoding = make("fire", 20, 12, 3, causal=causal)
    getattr(encoding, name).data.fill_(value)
    seen = torch.ones(20, 20).tril() if causal else torch.ones(20, 20)
    bias = encoding.bias(20)
    (bias * seen).sum().backward()

    assert bool(bias.isfinite().all())
    assert all(bool(p.grad.isfinite().all()) for p in encoding.parameters())
    if (name, value) == ("c", 0.0):
        near = make("fire", 20, 12, 3, causal=causal)
        near.load_state_dict(encoding.state_dict())
        near.c.data.fill_(1e-5)
        torch.testing.assert_close(bias, near.bias(20), atol=1e-3, rtol=1e-3)


def test_fire_learns_in_bfloat16():
    """Every gradient of the bfloat16 model is that of the float64 one within 1 %."""
    torch.manual_seed(0)
    low = make("fire", 200, 12, 3).to(torch.bfloat16)
    truth = make("fire", 200, 12, 3).double()
    truth.load_state_dict(low.state_dict())
    weights = torch.rand(3, 200, 200, dtype=torch.float64)
    for encoding in (low, truth):
        (encoding.bias(200) * weights).sum().backward()

    for (name, parameter), exact in zip(low.named_parameters(), truth.parameters(), strict=True):
        assert float((parameter.grad.double() - exact.grad).norm() / exact.grad.norm()) < 0.01, name


def test_tables_move_and_widen_but_never_narrow():
    """``.to`` moves tables and makes them wider; whole numbers and flags stay what they are."""
    encoding = make("rotary", 8, 8, 2)
    encoding.register_buffer("index", torch.arange(3))
    encoding.register_buffer("flag", torch.tensor(True))

    assert encoding.to(torch.float16).cos.dtype == torch.float32
    assert encoding.double().cos.dtype == torch.float64
    assert encoding.to(torch.bfloat16).cos.dtype == torch.float64
    assert encoding.to("meta").cos.device.type == "meta"
    assert (encoding.index.dtype, encoding.flag.dtype) == (torch.int64, torch.bool)
    assert copy.deepcopy(make("alibi", 8, 8, 2)).slopes.dtype == torch.float32
