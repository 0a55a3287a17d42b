"""Facts about the machine in a session's record."""

from types import SimpleNamespace

import pytest

from attnlib.measure.ceilings import Listened, Rates
from attnlib.measure.device import Device
from attnlib.plugin import record


class Canary:
    """Appends a reading, as the real one does."""

    def __init__(self, readings):
        self.readings = readings

    def listen(self):
        self.readings.append({"seconds": 1.0})


def test_disturbed_ceilings_are_soon_read_again_but_not_for_ever(monkeypatch):
    """On a machine that is never quiet the first few times; then as often as any."""
    monkeypatch.setattr(record, "CEILINGS_AGAIN", -1.0)
    monkeypatch.setattr(
        record, "listen_undisturbed", lambda *_: Listened(Rates(1e9, ((1000, 1e-6),), 5e-6), ["a neighbour"])
    )
    own = record.Record(SimpleNamespace(), Device(), lambda *_: None)
    canary = Canary(own.readings)
    for _ in range(10):
        own.rates(Device(), "float32", canary)

    assert len(own.readings) == record.SOON


@pytest.mark.parametrize(("often", "read"), [(-1.0, 3), (1e9, 1)])
def test_ceilings_stand_in_readings_of_their_own(monkeypatch, often, read):
    """Each is read at its time and put into a new reading: an earlier one may be written down already."""
    found = iter([1e9, 4e9, 2e9])
    monkeypatch.setattr(record, "CEILINGS_EVERY", often)
    ceilings = SimpleNamespace(listen=lambda: Rates(next(found), ((1000, 1e-6),), 5e-6))
    # a machine that is busy while this test runs would have it read again
    monkeypatch.setattr(record, "listen_undisturbed", lambda instrument, _: Listened(instrument.listen(), []))
    own = record.Record(SimpleNamespace(), Device(), lambda device, dtype: ceilings)
    canary = Canary(own.readings)
    canary.listen()
    rates = [own.rates(Device(), "float32", canary) for _ in range(3)]

    assert own.readings[0] == {"seconds": 1.0}
    assert [reading["rates"]["flops_per_s"] for reading in own.readings[1:]] == [1e9, 4e9, 2e9][:read]
    assert all(reading["rates"]["dtype"] == "float32" for reading in own.readings[1:])
    assert rates[-1].flops_per_s == (2e9 if read == 3 else 1e9)
