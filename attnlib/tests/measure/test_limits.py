"""Ends from outside: alarms, signals, and memory that is known to end."""

import signal
import time

import pytest

from attnlib.measure.cgroups import cpu_quota, memory_left
from attnlib.measure.device import Device
from attnlib.measure.limits import Signals, Terminated, TimeIsUp, time_limit
from attnlib.measure.memory import available_bytes


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


def test_an_alarm_that_rings_as_the_block_ends_rings_no_more():
    """Wherever it lands, the timer is off afterwards and the handler is the one of before."""
    before = signal.getsignal(signal.SIGALRM)
    for _ in range(1500):
        try:
            with time_limit(3e-4):
                end = time.perf_counter() + 2.9e-4
                while time.perf_counter() < end:
                    pass
        except TimeIsUp:
            pass
        assert signal.getitimer(signal.ITIMER_REAL)[0] == 0
        assert signal.getsignal(signal.SIGALRM) == before


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
    """Each limited group above the process leaves its limit less what is used, and caches of files count as free."""
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

    assert memory_left(proc, tmp_path) == [350, 0]
    assert memory_left(tmp_path / "none", tmp_path) == []


@pytest.mark.parametrize("version", [1, 2])
def test_cpu_quotas(tmp_path, version):
    """The least that any group above the process grants; none is no limit."""
    base, line = (tmp_path / "cpu", "3:cpu,cpuacct:/a/b\n") if version == 1 else (tmp_path, "0::/a/b\n")
    proc = tmp_path / "proc"
    proc.write_text(line)
    for folder, quota in ((base / "a" / "b", 150_000), (base / "a", 50_000), (base, None)):
        folder.mkdir(parents=True, exist_ok=True)
        if version == 2:
            (folder / "cpu.max").write_text(f"{quota or 'max'} 100000\n")
        else:
            (folder / "cpu.cfs_quota_us").write_text(f"{quota or -1}\n")
            (folder / "cpu.cfs_period_us").write_text("100000\n")

    assert cpu_quota(proc, tmp_path) == 0.5
    (base / "a" / ("cpu.max" if version == 2 else "cpu.cfs_quota_us")).unlink()
    assert cpu_quota(proc, tmp_path) == 1.5
    assert cpu_quota(tmp_path / "none", tmp_path) is None


def test_available_memory():
    """At most what the machine has, and something."""
    assert 2**20 < available_bytes(Device()) < 2**50


def test_available_memory_without_control_groups(monkeypatch):
    """If no group limits the process, the machine alone does."""
    monkeypatch.setattr("attnlib.measure.cgroups.memory_left", list)

    assert 2**20 < available_bytes(Device()) < 2**50
