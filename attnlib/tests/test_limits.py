"""Ends from outside: alarms, signals, and memory that is known to end."""

import signal
import time

import pytest
import torch

from attnlib.measure.device import Device
from attnlib.measure.limits import Signals, Terminated, TimeIsUp, time_limit
from attnlib.measure.memory import available_bytes, cgroup_bytes
from attnlib.model.blocks import BLOCKS
from bench import predict
from bench.cases import Case, Settings
from bench.record import Left
from bench.workload import build


def wait(seconds):
    """Sleep in bytecode, as a loop of steps does."""
    end = time.perf_counter() + seconds
    while time.perf_counter() < end:
        time.sleep(0.005)


def wait_deaf(seconds):
    """Swallow the first alarm."""
    try:
        wait(seconds)
    except TimeIsUp:
        wait(seconds)


def test_time_is_up():
    """The block is left by an exception that no ``except Exception`` takes, and the alarm is off afterwards."""
    before = signal.getsignal(signal.SIGALRM)
    assert not issubclass(TimeIsUp, Exception)
    with pytest.raises(TimeIsUp), time_limit(0.05):
        wait(60)
    assert signal.getsignal(signal.SIGALRM) == before
    assert signal.getitimer(signal.ITIMER_REAL)[0] == 0


def test_an_alarm_that_is_swallowed_rings_again(monkeypatch):
    """Raised where it is lost, as in a finaliser, it comes back."""
    monkeypatch.setattr("attnlib.measure.limits.AGAIN", 0.05)
    with pytest.raises(TimeIsUp), time_limit(0.05):
        wait_deaf(60)


@pytest.mark.parametrize("seconds", [None, 60.0])
def test_time_enough(seconds):
    """Without a limit, or within it, nothing happens."""
    with time_limit(seconds):
        wait(0.01)
    assert signal.getitimer(signal.ITIMER_REAL)[0] == 0


@pytest.mark.parametrize("signum", [signal.SIGTERM, signal.SIGHUP])
def test_signals_end_as_ctrl_c_does(signum):
    """They raise a KeyboardInterrupt that knows them, are held while saving, and are restored."""
    before = signal.signal(signum, signal.SIG_DFL)
    signals = Signals()
    try:
        with pytest.raises(Terminated, match=signal.Signals(signum).name) as caught:
            signal.raise_signal(signum)
        assert caught.value.signum == signum
        signals.hold()
        signal.raise_signal(signum)
        signal.raise_signal(signal.SIGINT)
    finally:
        signals.restore()
    assert signal.signal(signum, before) == signal.SIG_DFL


def test_a_signal_that_is_ignored_stays_ignored():
    """Under nohup, SIGHUP does nothing."""
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    signals = Signals()
    try:
        signal.raise_signal(signal.SIGHUP)
    finally:
        signals.restore()
        signal.signal(signal.SIGHUP, before)


def cgroup(folder, files, most, used, cache):
    folder.mkdir(parents=True, exist_ok=True)
    limit, usage, name = files
    (folder / limit).write_text(f"{most}\n")
    (folder / usage).write_text(f"{used}\n")
    (folder / "memory.stat").write_text(f"anon 1\n{name} {cache}\n")


@pytest.mark.parametrize("version", [1, 2])
def test_control_groups(tmp_path, version):
    """Of each limited group above the process: the limit, less what is used, and caches of files count as free."""
    base, line = (tmp_path / "memory", "4:memory:/a/b\n9:pids:/x\n") if version == 1 else (tmp_path, "0::/a/b\n")
    files = {
        1: ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"),
        2: ("memory.max", "memory.current", "inactive_file"),
    }[version]
    proc = tmp_path / "proc"
    proc.write_text(line)
    cgroup(base / "a" / "b", files, 1000, 700, 50)
    cgroup(base / "a", files, 500, 600, 0)
    if version == 2:
        cgroup(base, files, "max", 10, 0)

    assert cgroup_bytes(proc, tmp_path) == [350, 0]
    assert cgroup_bytes(tmp_path / "none", tmp_path) == []


def test_available_memory():
    """At most what the machine has, and something."""
    assert 2**20 < available_bytes(Device()) < 2**50


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


@pytest.mark.parametrize("block", BLOCKS)
def test_two_layers_tell_the_depth(block):
    """The extrapolation is the prediction within a quarter, far inside what is called clear."""
    case = Case(phase="train_step", seq_len=64, depth=5, block=block, attention="math")

    assert predict.extrapolated_peak(case) == pytest.approx(predict.predicted_peak(case), rel=0.25)
    assert predict.CLEARLY >= 1.5


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
    with pytest.raises(Left, match=r"predicted to need .* MiB, 0.0977 MiB available") as caught:
        predict.fitting(case, chosen(memory_limit="100KiB"), Device())

    assert caught.value.row["status"] == "oom"
    assert caught.value.row["predicted_bytes"] > caught.value.row["available_bytes"] == 100 * 2**10
    predict.fitting(case, chosen(), Device())
    predict.fitting(case, chosen(memory_limit="none"), Device())


def test_a_small_case_beside_large_ones_fits():
    """Where the largest case of its kind is too much, each case is looked at by itself."""
    settings = chosen(memory_limit="1MiB", seq_lens="16,4096", attention="math")
    predict.fitting(settings.case(seq_len=16, depth=1, phase="forward"), settings, Device())
    with pytest.raises(Left, match="predicted to need"):
        predict.fitting(settings.case(seq_len=4096, depth=1, phase="forward"), settings, Device())


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
