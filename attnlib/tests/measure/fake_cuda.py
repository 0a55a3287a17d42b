"""An asynchronous device under the real ``Cuda``: a queue of work of known length, behind what torch.cuda documents.

Time is counted, not waited for: launches move the host's clock, a wait moves it to where the queue is empty.
"""

from collections import deque
from contextlib import contextmanager
from types import SimpleNamespace

import torch

from attnlib.measure import clock
from attnlib.measure.device import Cuda

LAUNCH, READ, MARK = 5e-6, 1e-7, 4e-6  # seconds of the host: to queue a piece of work, to read its clock, for an event
QUEUE = 1024  # launches that a stream holds before the host has to wait
NODE = 5.8e-7  # seconds of the host for each kernel of a graph that is launched; thrice that the first time
IDLE_HZ, WORK_HZ = 345e6, 1.98e9  # clocks of an idle card and of a working one
RISE, FALL = 5e-3, 0.05  # seconds of work after which the clock is high, and of rest after which it is low
UUID = "11111111-2222-3333-4444-555555555555"


class FakeCuda:
    """A stand-in for torch.cuda and for the host's clock."""

    def __init__(self, cards=2):
        self.host = self.free = 0.0  # seconds: now, and when the queue will be empty
        self.queued = 0.0  # seconds of work so far
        self.waits, self.devices = 0, set()  # how often the host waited, and which cards were touched
        self.capturing = None
        self.refuses = False  # to capture
        self.dead = None  # the message of an error that stays
        self.underway = set()  # pools of memory into which the allocator thinks that it captures
        self.pending = deque()  # when each queued piece of work will have ended
        self.rising = 0.0  # when the work began that raised the clock
        self.generators = [Generator() for _ in range(cards)]
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
        self.queue(seconds)

    def queue(self, seconds):
        """Put work into the queue; where that is full, wait until its first piece has ended."""
        while self.pending and self.pending[0] <= self.host:
            self.pending.popleft()
        if len(self.pending) >= QUEUE:
            self.host = self.pending.popleft()
        begins = max(self.host, self.free)
        if begins > self.free + FALL:
            self.rising = begins
        self.free = begins + seconds
        self.queued += seconds
        self.pending.append(self.free)

    @property
    def hz(self):
        """Clock rate of work that is queued now."""
        begins = max(self.host, self.free)
        return WORK_HZ if begins <= self.free + FALL and begins >= self.rising + RISE else IDLE_HZ

    def spin(self, cycles):
        """Keep the card busy for so many cycles, as torch.cuda._sleep does."""
        self.launch(cycles / self.hz)

    @property
    def done(self):
        """Seconds of work that it has done by now."""
        return self.queued - max(0.0, self.free - self.host)

    def touch(self, device):
        self.devices.add(torch.device(device).index or 0)

    def wait(self, device=None):
        if device is not None:
            self.touch(device)
        if self.dead is not None:
            raise RuntimeError(self.dead)
        self.waits += 1
        self.host = max(self.host, self.free)

    def module(self):
        """Return a stand-in for torch.cuda, as far as ``Cuda`` and ``memory`` call it."""
        fake = self

        class Event:
            def __init__(self, enable_timing=False):
                assert enable_timing
                self.at = None

            def record(self, stream):
                fake.touch(stream.device)
                fake.host += MARK
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
                self.work, self.uploaded = [], False

            def replay(self):
                fake.host += LAUNCH + NODE * len(self.work) * (1 if self.uploaded else 3)
                self.uploaded = True
                fake.queue(sum(self.work))

        @contextmanager
        def graph(captured, pool):
            fake.capturing, fake.generators[0].capturing, fake.stream = captured.work, True, "of the capture"
            fake.underway.add(pool)
            yield
            fake.capturing = None
            if fake.refuses:  # capture_end throws before its epilogue, in all that it should set back
                raise RuntimeError("CUDA error: operation not permitted when stream is capturing\nmore lines")
            fake.generators[0].capturing = False
            fake.underway.discard(pool)
            fake.stream = None

        def empty_cache():
            if fake.dead or fake.underway:
                raise RuntimeError(fake.dead or "captures_underway.empty() INTERNAL ASSERT FAILED")

        @contextmanager
        def stream(_stream):
            yield

        def on(device):
            fake.touch(device)
            return SimpleNamespace(device=device, wait_stream=lambda other: None, query=lambda: fake.free <= fake.now())

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
            "empty_cache": empty_cache, "graph_pool_handle": object, "_sleep": fake.spin,
            "default_generators": fake.generators, "current_device": lambda: 0,
            "get_device_properties": properties, "memory_stats": lambda device: fake.statistics,
            "reset_peak_memory_stats": lambda device: fake.statistics.update(dict.fromkeys(fake.statistics, 0)),
        }  # fmt: skip


class Generator:
    """A generator of random numbers on a card; a refused capture leaves it capturing, up to torch 2.10."""

    def __init__(self):
        self.capturing = False

    def clone_state(self):
        return Generator()

    def graphsafe_set_state(self, state):
        self.capturing = state.capturing


class OnFake(Cuda):
    """The real device, but for what needs tensors on it."""

    fake: FakeCuda

    def draw(self):
        """Fails as torch.randn does on a card whose generator is left capturing."""
        if self.fake.generators[0].capturing:
            raise RuntimeError("Offset increment outside graph capture encountered unexpectedly.")

    def attention_order(self):
        """Torch's own; no choice is needed to settle it."""
        return [int(kernel) for kernel in torch._C._get_sdp_priority_order()]

    def flush(self):
        """Rewriting a cache is queued work too."""
        self.fake.launch(3e-4)
        return self.cache_bytes()


def open_fake(monkeypatch, name="cuda:0"):
    """A fake in place of torch.cuda and of the host's clock, and a device on it that the clock waits for."""
    fake = FakeCuda()
    for attribute, value in fake.module().items():
        monkeypatch.setattr(torch.cuda, attribute, value)
    ends = {"_cuda_endAllocateToPool": fake.underway.discard, "_cuda_releasePool": lambda pool: None}
    for attribute, end in ends.items():  # which a build for CPUs has not
        monkeypatch.setattr(torch._C, attribute, lambda index, pool, end=end: end(pool), raising=False)
    monkeypatch.setattr(clock.time, "perf_counter", fake.now)
    device = OnFake(name)
    device.fake = fake
    clock.bind(device)
    return fake, device
