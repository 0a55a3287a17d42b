"""Peaks on a card do not depend on which cases came before, though cuBLAS's workspaces do."""

import pytest
import torch

from attnlib.measure import clock, memory
from attnlib.measure.device import Device
from attnlib.tests.measure.fake_allocator import WORKSPACE, FakeAllocator
from attnlib.tests.measure.fake_cuda import open_fake

WEIGHTS, ACTIVATIONS = 4096, 10_000  # bytes


class Work:
    """A case on the fake: its weights live throughout, its activations for a step."""

    def __init__(self, allocator, *, trains):
        self.allocator, self.trains = allocator, trains
        self.weights = torch.zeros(WEIGHTS, dtype=torch.uint8)
        allocator.change(WEIGHTS)

    def step(self):
        self.allocator.multiply()
        self.allocator.change(ACTIVATIONS)
        if self.trains:
            self.allocator.multiply(thread="of autograd")
        self.allocator.change(-ACTIVATIONS)

    def forget(self):
        self.allocator.change(-WEIGHTS)


@pytest.fixture(name="weighed")
def _weighed(monkeypatch):
    """Return what a case reads in a process in which others ran first."""
    _, device = open_fake(monkeypatch)
    allocator = FakeAllocator(monkeypatch)

    def weigh(work, before):
        for earlier in before:
            earlier(allocator)
        own = work(allocator)
        own.step()
        return memory.peak_memory(device, own.step, None, iter([own.weights]))

    yield weigh
    monkeypatch.undo()
    clock.bind(Device())


def forward(allocator):
    work = Work(allocator, trains=False)
    work.step()
    work.forget()


def train_step(allocator):
    work = Work(allocator, trains=True)
    work.step()
    work.forget()


def capture(allocator):
    for thread in ("main", "of autograd"):
        allocator.multiply(thread, stream=1)


@pytest.mark.parametrize("trains", [False, True])
@pytest.mark.parametrize("before", [(), (forward,), (train_step,), (forward, train_step, capture)])
def test_a_case_weighs_the_same_whatever_ran_before(weighed, before, trains):
    """Weights and activations; the workspaces of its own and of others are the baseline."""
    found = weighed(lambda allocator: Work(allocator, trains=trains), before)

    assert found["allocated_peak"]["value"] == WEIGHTS + ACTIVATIONS
    workspaces = max(2 if train_step in before or trains else 1, 4 if capture in before else 0)
    assert found["allocated_baseline"]["value"] == workspaces * WORKSPACE
    assert found["reserved_peak"]["value"] == WEIGHTS + ACTIVATIONS + workspaces * WORKSPACE


def test_a_cpu_has_no_baseline():
    """Null with a reason, as what else is read on cards alone."""
    found = memory.peak_memory(Device(), lambda: torch.ones(1000), None, [])["allocated_baseline"]

    assert (found["value"], found["reason"]) == (None, "not counted on cpu")
