"""Which attention kernel a case gets: asked of torch where its card is, by a table where it is not."""

from itertools import product

import pytest
import torch

from attnlib.cases.case import Case
from attnlib.cases.workload import build
from attnlib.commands.__main__ import main
from attnlib.measure.device import open_device
from attnlib.predict import choice
from attnlib.predict.choice import (
    CUDNN,
    EFFICIENT,
    FLASH,
    FLASH_CPU,
    MATH,
    Card,
    Wanted,
    attention_kernel,
    by_table,
    card_of,
)
from attnlib.predict.peak import kernel_of, need

HALF, SINGLE, DOUBLE = torch.bfloat16, torch.float32, torch.float64
H100, A100, RTX = Card((9, 0), 91900), Card((8, 0), 91900), Card((8, 9), 91900)
LEARNED = {"biased": True, "learned": True, "trains": True}


class FakeCard:
    """Stands for torch's choice on a card where cuDNN comes first; its tensors are the CPU's."""

    def __init__(self, monkeypatch, first=3):
        self.asked, self.first = [], first
        real = choice.tiny
        monkeypatch.setattr(choice, "is_here", lambda device: device.startswith("cuda"))
        monkeypatch.setattr(choice, "tiny", lambda _, wanted: real("cpu", wanted))
        monkeypatch.setattr(torch, "_fused_sdp_choice", self.choose)

    def choose(self, q, k, v, bias):
        self.asked.append((q.shape[-1], q.dtype, q.requires_grad))
        if bias is not None and bias.requires_grad:
            return 2
        return self.first


@pytest.mark.parametrize(
    ("fields", "kernel"),
    [
        ({}, CUDNN),
        ({"pe": "alibi"}, CUDNN),
        ({"pe": "t5"}, EFFICIENT),
        ({"pe": "t5", "phase": "forward"}, CUDNN),
        ({"pe": "t5", "attention": "math"}, MATH),
    ],
)
def test_a_card_that_is_here_is_asked(monkeypatch, fields, kernel):
    """With tensors of the case's width, dtype, bias and gradient, for its row and for its trace."""
    case = Case(**{"device": "cuda", "dtype": "bfloat16", "seq_len": 32, "depth": 1, "phase": "train_step"} | fields)
    card = FakeCard(monkeypatch)
    found = kernel_of(case)

    assert found.kernel == kernel
    assert card.asked == ([(case.head_width, HALF, case.phase != "forward")] if kernel != MATH else [])
    assert found.known == ("asked of torch" if kernel != MATH else None)


def test_a_trace_asks_too_and_does_not_count_it(monkeypatch):
    """Its peak is that of a case whose card is named, whose kernels are the same."""
    fields = {"device": "cuda", "dtype": "bfloat16", "seq_len": 64, "depth": 1, "phase": "train_step"}
    named = [need(Case(**fields, pe=pe, seed=7), H100) for pe in ("none", "t5")]
    first = {CUDNN: 3, FLASH: 1}[by_table(Wanted(HALF, 16, trains=True), H100)]  # by this torch
    card = FakeCard(monkeypatch, first)
    found = [need(Case(**fields, pe=pe, seed=7)) for pe in ("none", "t5")]

    assert len(card.asked) >= 2
    assert found == named


def test_cudnns_kernel_is_recognised_where_it_ran(monkeypatch):
    """By its operator's name, as a fused one."""
    ran = {"aten::scaled_dot_product_attention", "aten::_scaled_dot_product_cudnn_attention"}
    monkeypatch.setattr("attnlib.cases.workload.operators", lambda _: ran)
    found = build(Case(seq_len=8, depth=1)).attention()

    assert (found["kernel"], found["fused"]) == (CUDNN, True)


def test_torch_is_asked_with_real_tensors():
    """On a CPU it gives its numbers for the fused and the unfused kernel."""
    assert choice.asked("cpu", Wanted(SINGLE, 16)) == FLASH  # the number is the same as of CUDA's
    assert choice.asked("cpu", Wanted(SINGLE, 16, **LEARNED)) == MATH


@pytest.mark.parametrize(
    ("card", "wanted", "kernel"),
    [
        (H100, Wanted(HALF, 64), CUDNN),
        (H100, Wanted(HALF, 64, biased=True), CUDNN),
        (H100, Wanted(HALF, 64, biased=True, trains=True), CUDNN),
        (H100, Wanted(HALF, 64, **LEARNED), EFFICIENT),
        (H100, Wanted(SINGLE, 64), EFFICIENT),
        (H100, Wanted(DOUBLE, 64), MATH),
        (H100, Wanted(HALF, 12), FLASH),
        (H100, Wanted(HALF, 12, biased=True), MATH),
        (H100, Wanted(HALF, 256), CUDNN),
        (H100, Wanted(HALF, 264), EFFICIENT),
        (Card((9, 0), 91500), Wanted(HALF, 64), FLASH),
        (Card((10, 0), 91900), Wanted(HALF, 128), CUDNN),
        (Card((10, 0), 91900), Wanted(HALF, 256), FLASH),
        (A100, Wanted(HALF, 64), FLASH),
        (A100, Wanted(HALF, 64, biased=True), EFFICIENT),
        (A100, Wanted(SINGLE, 12), EFFICIENT),
        (A100, Wanted(SINGLE, 10), MATH),
        (A100, Wanted(HALF, 200, trains=True), FLASH),
        (RTX, Wanted(HALF, 200), FLASH),
        (RTX, Wanted(HALF, 200, trains=True), EFFICIENT),
        (Card((7, 5), 0), Wanted(torch.float16, 64), EFFICIENT),
        (Card((7, 5), 0), Wanted(HALF, 64), MATH),
    ],
)
def test_the_table(card, wanted, kernel):
    """By capability, cuDNN, dtype, width, bias and gradient, as torch 2.13 has it."""
    assert by_table(wanted, card, "2.13.0") == kernel


@pytest.mark.parametrize(
    ("release", "cudnn", "kernel"),
    [
        ("2.6.0", 91900, FLASH),
        ("2.8.0", 91900, FLASH),
        ("2.9.1", 91002, CUDNN),
        ("2.10.0", 91002, FLASH),
        ("2.10.0", 91501, CUDNN),
        ("2.11.0", 91900, CUDNN),
        ("2.13.0+cu130", 91900, CUDNN),
    ],
)
def test_when_cudnn_is_first(release, cudnn, kernel):
    """From 2.9 on, and again above 9.15.0."""
    assert by_table(Wanted(HALF, 64), Card((9, 0), cudnn), release) == kernel


@pytest.mark.parametrize(("release", "kernel"), [("2.9.1", FLASH), ("2.10.0", CUDNN)])
def test_a_card_of_capability_10_3_prefers_cudnn_later(release, kernel):
    """From 2.10 on; 2.9 names 9.0 and 10.0 only."""
    assert by_table(Wanted(HALF, 64), Card((10, 3), 91900), release) == kernel


@pytest.mark.skipif(torch.cuda.is_available(), reason="a card is here")
def test_what_is_not_known_is_assumed():
    """Without a card, or its name, flash without a bias, and the word that it is assumed; on a CPU it is known."""
    found = attention_kernel("cuda:1", Wanted(HALF, 64))

    assert (found.kernel, found.known[:7]) == (FLASH, "assumed")
    assert attention_kernel("cuda", Wanted(HALF, 64, biased=True)).kernel == EFFICIENT
    assert attention_kernel("mps", Wanted(HALF, 64)).kernel == MATH
    assert attention_kernel("cpu", Wanted(SINGLE, 64, biased=True)) == (FLASH_CPU, None)
    assert attention_kernel("cpu", Wanted(SINGLE, 64, **LEARNED)) == (MATH, None)


@pytest.mark.parametrize("card", ["9.0,9.19", "8.0,9.19.1"])
def test_a_card_that_is_named(capsys, card):
    """Its kernel is predicted by the table, and the table is named."""
    said = by_table(Wanted(HALF, 16, trains=True), card_of(card))
    assert main(["predict", "device=cuda,dtype=bfloat16,seq_len=32,depth=1", "--card", card]) == 0

    assert f"attention by {said} (by torch's rules for compute capability {card[:3]}" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("fields", "card", "message"),
    [
        (
            "device=cuda",
            "H100",
            "--card takes a compute capability and a version of cuDNN such as 9.0,9.19, not 'H100'",
        ),
        ("device=cuda", "9.0", "--card takes a compute capability and a version of cuDNN such as 9.0,9.19, not '9.0'"),
        ("seq_len=8", "9.0,9.19", "--card needs a case with device=cuda, not 'cpu'"),
    ],
)
def test_bad_cards(capsys, fields, card, message):
    """One line, and 4."""
    assert main(["predict", fields, "--card", card]) == 4
    assert capsys.readouterr().err.strip().endswith(message)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_the_table_is_torchs_choice():
    """On the card that is here, for every dtype, some widths, and with and without a bias and gradients."""
    described = open_device("cuda").describe()
    major, minor = map(int, described["compute_capability"].split("."))
    card = Card((major, minor), described["cudnn"] or 0)
    biases = ((False, False), (True, False), (True, True))
    grid = product((torch.float16, HALF, SINGLE, DOUBLE), (12, 16, 64, 128, 200, 256, 264), biases, (False, True))
    wanted = [Wanted(dtype, K, *bias, trains=trains) for dtype, K, bias, trains in grid if trains or not bias[1]]

    assert {one: by_table(one, card) for one in wanted} == {one: choice.asked("cuda", one) for one in wanted}
