"""An asynchronous device under the real ``Cuda``: a queue of work of known length, behind what torch.cuda documents.

Time is counted, not waited for: launches move the host's clock, a wait moves it to where the queue is empty.
"""

from contextlib import contextmanager
from types import SimpleNamespace

import torch

from attnlib.measure import clock
from attnlib.measure.device import Cuda

LAUNCH, READ = 5e-6, 1e-7  # seconds of the host: to queue a piece of work, to read its clock
UUID = "11111111-2222-3333-4444-555555555555"


class FakeCuda:
    """What stands in for torch.cuda and for the host's clock."""

    def __init__(self, cards=2):
        self.host = self.free = 0.0  # seconds: now, and when the queue will be empty
        self.queued = 0.0  # seconds of work so far
        self.waits, self.devices = 0, set()  # how often the host waited, and which cards were touched
        self.capturing = None
        self.refuses = False  # to capture
        self.stream = None  # that was made the current one
        self.uuids = [UUID.replace("1", str(1 + place)) for place in range(cards)]
        self.statistics = {}

    def now(self):
        self.host += READ
        return self.host

    def launch(self, seconds):
        """Queue work of so many seconds; it begins once what is before it has ended."""
        if self.capturing is not None:
            self.capturing.append(seconds)
            return
        self.host += LAUNCH
        self.free = max(self.host, self.free) + seconds
        self.queued += seconds

    @property
    def done(self):
        """Seconds of work that it has done by now."""
        return self.queued - max(0.0, self.free - self.host)

    def touch(self, device):
        self.devices.add(torch.device(device).index or 0)

    def wait(self, device=None):
        if device is not None:
            self.touch(device)
        self.waits += 1
        self.host = max(self.host, self.free)

    def module(self):
        """As torch.cuda, as far as ``Cuda`` and ``memory`` call it."""
        fake = self

        class Event:
            def __init__(self, enable_timing=False):
                assert enable_timing
                self.at = None

            def record(self, stream):
                fake.touch(stream.device)
                self.at = max(fake.host, fake.free)  # when the queue reaches it

            def query(self):
                return self.at <= fake.host

            def synchronize(self):
                fake.waits += 1
                fake.host = max(fake.host, self.at)

            def elapsed_time(self, end):
                if max(self.at, end.at) > fake.host:
                    raise RuntimeError("Both events must be completed before calculating elapsed time.")
                return (end.at - self.at) * 1e3

        class Graph:
            def __init__(self):
                self.work = []

            def replay(self):
                fake.host += LAUNCH
                fake.free = max(fake.host, fake.free) + sum(self.work)

        @contextmanager
        def graph(captured):
            if fake.refuses:
                fake.stream = "of the capture"
                raise RuntimeError("CUDA error: operation not permitted when stream is capturing\nmore lines")
            fake.capturing = captured.work
            yield
            fake.capturing = None

        @contextmanager
        def stream(_stream):
            yield

        def on(device):
            fake.touch(device)
            return SimpleNamespace(device=device, wait_stream=lambda other: None)

        def set_device(device):
            if torch.device(device).index is None:
                raise ValueError(f"Expected a torch.device with a specified index or an integer, but got:{device}")
            fake.touch(device)

        def set_stream(chosen):
            fake.stream = chosen

        def properties(device):
            return SimpleNamespace(
                name="a card", uuid=fake.uuids[torch.device(device).index or 0], total_memory=2**30,
                major=9, minor=0, L2_cache_size=2**20,
            )  # fmt: skip

        return {
            "Event": Event, "CUDAGraph": Graph, "graph": graph, "stream": stream, "Stream": on,
            "current_stream": on, "synchronize": fake.wait, "set_device": set_device, "set_stream": set_stream,
            "empty_cache": lambda: None,
            "get_device_properties": properties, "memory_stats": lambda device: fake.statistics,
            "reset_peak_memory_stats": lambda device: fake.statistics.update(dict.fromkeys(fake.statistics, 0)),
        }  # fmt: skip


class OnFake(Cuda):
    """The real device, but for what needs tensors on it."""

    fake: FakeCuda
    product_s = 1e-3

    def product(self):
        """Of a known length."""
        return lambda: self.fake.launch(self.product_s)

    def flush(self):
        """Rewriting a cache is queued work too."""
        self.fake.launch(3e-4)
        return self.cache_bytes()


def open_fake(monkeypatch, name="cuda:0"):
    """A fake in place of torch.cuda and of the host's clock, and a device on it that the clock waits for."""
    fake = FakeCuda()
    for attribute, value in fake.module().items():
        monkeypatch.setattr(torch.cuda, attribute, value)
    monkeypatch.setattr(clock.time, "perf_counter", fake.now)
    device = OnFake(name)
    device.fake = fake
    clock.bind(device)
    return fake, device
