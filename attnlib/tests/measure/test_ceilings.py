"""A step's time at the machine's ceilings, from rates that are made up, and that rates can be read."""

from dataclasses import replace

import pytest
import torch

from attnlib.measure import ceilings
from attnlib.measure.ceilings import (
    Ceilings,
    Listened,
    Rates,
    best,
    listen_undisturbed,
    seconds_in_rounds,
    seconds_of,
    typical,
    usable,
)
from attnlib.measure.clock import bind
from attnlib.measure.device import Accelerator, Device
from attnlib.runs.schema import Floor
from attnlib.tests.measure.fake_cuda import open_fake

RATES = Rates(1e9, ((1000, 1e-6), (10_000, 2e-6), (1_000_000, 1e-3)), 5e-6)


def test_a_floor_is_the_sum_of_its_operators():
    """Products by their FLOPs, copies by their bytes beyond the smallest one, and every operator its share."""
    floor = RATES.floor({(2_000_000, 1000): 3, (0, 10_000): 2})

    assert floor == pytest.approx({"products": 6e-3, "memory": 2e-6, "operators": 25e-6, "overlap": False})
    assert RATES.floor({}) == {"products": 0, "memory": 0, "operators": 0, "overlap": False}


def test_copies_between_and_beyond_the_sizes_that_were_read():
    """They grow with the bytes, in proportion beyond the largest; the smallest costs no more than an operator."""
    found = [RATES.copy_s(moved) for moved in (1, 1000, 5000, 10_000, 100_000, 1_000_000, 2_000_000)]

    assert found[:2] == pytest.approx([0, 0])
    assert found == sorted(found)
    assert found[-1] == pytest.approx(2e-3 - 1e-6)
    assert RATES.bytes_per_s == 5e9


def test_typical_rates_are_medians():
    """One reading in a slow spell changes nothing."""
    slow = Rates(1e8, tuple((size, 10 * seconds) for size, seconds in RATES.copies), 5e-5)

    assert typical([RATES, slow, RATES]) == RATES
    assert typical([RATES]) == RATES


SLOW = Rates(1e8, tuple((size, 10 * seconds) for size, seconds in RATES.copies), 5e-5)


def test_the_best_rates_are_each_the_best():
    """A reading with fast products and one with fast copies give both."""
    one = Rates(RATES.flops_per_s, SLOW.copies, SLOW.operator_s)
    two = Rates(SLOW.flops_per_s, RATES.copies, RATES.operator_s)

    assert best([one, two]) == best([two, one]) == RATES


def test_disturbed_readings_do_not_count():
    """They do not if there is an undisturbed one; else the best of them counts."""
    busy = Listened(SLOW, ["busy"])

    assert usable([busy, busy, Listened(RATES, [])]) == RATES
    assert usable([busy, Listened(RATES, ["busy"])]) == RATES


@pytest.mark.parametrize(("busy", "readings", "expected"), [(0, 1, SLOW), (1, 2, RATES), (9, 3, RATES)])
def test_ceilings_are_read_again_while_something_else_runs(monkeypatch, busy, readings, expected):
    """Until a reading is undisturbed, three times at most; then the best counts and the reasons are returned."""
    looks, made = iter([["busy"]] * busy + [[]] * 9), []

    class Fake:
        def listen(self):
            made.append(1)
            return SLOW if len(made) == 1 else RATES

    monkeypatch.setattr(ceilings, "disturbed", lambda seen: next(looks))
    found = listen_undisturbed(Fake(), Device())

    assert found == (expected, ["busy"] if busy > 3 else [])
    assert len(made) == readings


@pytest.mark.parametrize("size", [2**24, 2**26])
def test_copies_on_a_card_are_timed_without_their_launch(monkeypatch, size):
    """A card that copies 4,300 GB/s: one launch and one wait would take away a third of it at 16 MiB."""
    fake, _ = open_fake(monkeypatch)
    truth = 2 * size / 4.3e12
    found = seconds_in_rounds(lambda: fake.launch(truth))
    single = seconds_of(lambda: fake.launch(truth), 1)
    monkeypatch.undo()
    bind(Device())

    assert found == pytest.approx(truth, rel=0.01)
    assert single > 1.1 * truth


def test_launches_overlap_with_the_work_of_a_card():
    """A step takes the longer of both there; where a call returns with its work done, the sum."""
    operators = {(2_000_000, 1000): 3, (0, 10_000): 2}
    here, there = (Floor(**replace(RATES, overlap=overlap).floor(operators)) for overlap in (False, True))

    assert here.seconds == pytest.approx(6e-3 + 2e-6 + 25e-6)
    assert there.seconds == pytest.approx(6e-3 + 2e-6)
    assert (here.binding, there.binding) == ("products", "products")
    launches = Floor(**replace(RATES, overlap=True).floor({(10, 10): 50}))
    assert (launches.seconds, launches.binding) == (pytest.approx(250e-6), "operators")
    split = Floor(products=3.0, memory=3.0, operators=4.0, overlap=True)
    assert (split.seconds, split.binding) == (6.0, "products")
    assert [Accelerator("xpu").queues, Device().queues] == [True, False]


def test_a_machine_has_ceilings(monkeypatch):
    """All are positive, in the dtype that was asked for, and the product is the largest that was tried or faster."""
    monkeypatch.setattr(ceilings, "ENOUGH", 0.0)
    monkeypatch.setattr(ceilings, "COPIES", (2**10, 2**12))
    bind(Device())
    instrument = Ceilings(Device(), torch.float64)
    rates = instrument.listen()

    assert instrument.size == 256
    assert instrument.product(8).args[0].dtype == torch.float64
    assert rates.flops_per_s > 0 < rates.operator_s
    assert [moved for moved, _ in rates.copies] == [2**11, 2**13]
    assert all(seconds > 0 for _, seconds in rates.copies)
