"""What a case will need, predicted from shapes, beside the exact peak; and the limits that the command line sets."""

import pytest
import torch

from attnlib.measure.device import Device
from attnlib.model.blocks import BLOCKS
from bench import predict
from bench.cases import Case
from bench.predict import predicted_peak, unfit
from bench.settings import Settings
from bench.workload import build


@pytest.mark.parametrize("phase", ["forward", "backward", "train_step", "encoding"])
@pytest.mark.parametrize("pe", ["none", "rotary", "alibi", "t5", "fire"])
def test_predictions_hold(phase, pe):
    """With its margin a prediction is no less than the exact peak, and no more than half as much again."""
    if (phase, pe) == ("encoding", "none"):
        pytest.skip("none adds nothing")
    case = Case(phase=phase, pe=pe, seq_len=128, depth=2)
    work = build(case)
    work.check()
    peak = work.weigh(Device())["allocated_peak"]["value"]

    assert peak <= predict.MARGIN * predict.predicted_peak(case) <= 1.5 * peak


@pytest.mark.parametrize("fields", [{"block": block, "ffn_mult": 2} for block in BLOCKS] + [{"pe": "fire"}])
@pytest.mark.parametrize("phase", ["forward", "train_step"])
def test_nine_layers_tell_the_depth(monkeypatch, fields, phase):
    """Past ``STRAIGHT`` layers the peak is a straight line: what is extrapolated is what would be predicted."""
    case = Case(phase=phase, seq_len=32, depth=12, **fields)
    extrapolated = predicted_peak(case)
    predicted_peak.cache_clear()
    monkeypatch.setattr(predict, "STRAIGHT", 99)

    assert extrapolated == predicted_peak(case)


@pytest.mark.parametrize(
    ("depth", "seq_len", "fits"), [(8, 512, True), (64, 64, True), (8, 1024, False), (128, 64, False)]
)
def test_the_originals_memory_wall(depth, seq_len, fits):
    """On 24 GB its own sizes fit (8 x 512, 64 x 64), and the next larger ones do not (8 x 1024, 128 x 64)."""
    case = Settings.from_options({"preset": "seed", "device": "cpu", "attention": "math"}).case(
        depth=depth, seq_len=seq_len, phase="train_step"
    )

    assert (predicted_peak(case) < 24e9) == fits


def test_nothing_is_allocated_by_a_prediction():
    """A case of terabytes is predicted: scores of 2^17 tokens, 4 heads, 2 sequences and 2 layers in float32."""
    case = Case(phase="train_step", seq_len=2**17, depth=2, attention="math")

    assert predict.predicted_peak(case) > 2 * 2 * 4 * 2**34 * 4
    assert torch.get_default_dtype() == torch.float32


def chosen(**options):
    return Settings.from_options({"preset": "smoke", "device": "cpu"} | options)


def test_cases_that_cannot_fit_are_left():
    """Beyond the limit a case is ``oom`` with the bytes; within, or without a limit, nothing is said."""
    case = chosen().case(seq_len=32, depth=2, phase="train_step")
    found = unfit(case, chosen(memory_limit="100KiB"), Device())

    assert found.row()["status"] == "oom"
    assert found.reason.startswith("predicted to need ")
    assert found.reason.endswith(" MiB, 0.0977 MiB available")
    assert found.predicted_bytes > found.available_bytes == 100 * 2**10
    assert unfit(case, chosen(), Device()) is None
    assert unfit(case, chosen(memory_limit="none"), Device()) is None


def test_what_cannot_be_measured_is_unsupported():
    """Before any memory is looked at; its row has no bytes."""
    found = unfit(Case(phase="encoding", pe="none"), chosen(memory_limit="none"), Device())

    assert found.row() == {"status": "unsupported", "reason": "none adds nothing that could be timed alone"}


@pytest.mark.parametrize(
    ("text", "bytes_"), [("4096", 4096), ("1KiB", 1024), ("6.5GiB", 6.5 * 2**30), ("800 MiB", 800 * 2**20), ("none", 0)]
)
def test_sizes(text, bytes_):
    """Binary units, as figures have them."""
    assert chosen(memory_limit=text).memory_limit == bytes_


@pytest.mark.parametrize("text", ["lots", "-1", "0", "3GB", "", "1e9"])
def test_bad_sizes(text):
    """One line with the value and the choices."""
    with pytest.raises(ValueError, match=f"--memory-limit takes bytes such as 800MiB .* not {text!r}"):
        chosen(memory_limit=text)


@pytest.mark.parametrize("text", ["0", "-1", "soon", "inf"])
def test_bad_timeouts(text):
    """A positive number of seconds."""
    with pytest.raises(ValueError, match=f"--case-timeout takes a positive number, not {text!r}"):
        chosen(case_timeout=text)
