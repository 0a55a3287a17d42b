"""What a step would take at the machine's ceilings, from rates that are made up, and that rates can be read."""

import pytest
import torch

from attnlib.measure import ceilings
from attnlib.measure.ceilings import Ceilings, Listened, Rates, best, listen_undisturbed, typical, usable
from attnlib.measure.clock import bind
from attnlib.measure.device import Device

RATES = Rates(1e9, ((1000, 1e-6), (10_000, 2e-6), (1_000_000, 1e-3)), 5e-6)


def test_a_floor_is_the_sum_of_its_operators():
    """Products by their FLOPs, copies by their bytes beyond the smallest one, and every operator its share."""
    floor = RATES.floor({(2_000_000, 1000): 3, (0, 10_000): 2})

    assert floor == pytest.approx({"products": 6e-3, "memory": 2e-6, "operators": 25e-6})
    assert RATES.floor({}) == {"products": 0, "memory": 0, "operators": 0}


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
    """Of a reading with fast products and one with fast copies, both."""
    one = Rates(RATES.flops_per_s, SLOW.copies, SLOW.operator_s)
    two = Rates(SLOW.flops_per_s, RATES.copies, RATES.operator_s)

    assert best([one, two]) == best([two, one]) == RATES


def test_disturbed_readings_do_not_count():
    """Where there is an undisturbed one; else the best of them."""
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
