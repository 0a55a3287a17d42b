"""CUDA's caching allocator with cuBLAS on it: a workspace stays for each thread and stream that ever multiplied."""

import torch

WORKSPACE = 32 * 2**20  # bytes, on compute capability 9.0


class FakeAllocator:
    """Counts bytes as ``torch.cuda.memory_stats`` does, in place of it."""

    def __init__(self, monkeypatch):
        self.now = self.peak = 0
        self.workspaces = set()
        monkeypatch.setattr(torch.cuda, "memory_stats", lambda _: self.statistics())
        monkeypatch.setattr(torch.cuda, "reset_peak_memory_stats", lambda _: self.reset())

    def statistics(self):
        kinds = ("allocated", "reserved", "requested")
        return {
            f"{kind}_bytes.all.{name}": size
            for kind in kinds
            for name, size in (("current", self.now), ("peak", self.peak))
        }

    def reset(self):
        self.peak = self.now

    def change(self, size):
        """Allocate so many bytes, or free them if negative."""
        self.now += size
        self.peak = max(self.peak, self.now)

    def multiply(self, thread="main", stream=0):
        """Call cuBLAS, whose handle and workspace are of the thread and the stream."""
        if (thread, stream) not in self.workspaces:
            self.workspaces.add((thread, stream))
            self.change(WORKSPACE)
