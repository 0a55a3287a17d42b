"""Encodings that no package has, against their formulas written out; and sums that half precision would lose."""

import math

import pytest
import torch

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
