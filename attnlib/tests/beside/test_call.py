"""One side of a measurement: what is refused, what is put back, and the statistics over visits."""

import math
from types import SimpleNamespace

import pytest
import torch

from attnlib.beside import call as call_module
from attnlib.beside.call import Call
from attnlib.beside.cost import verdict_of
from attnlib.beside.measuring import FEWEST, Found, Two, interval_of, visited, weighed
from attnlib.compare.intervals import Estimate
from attnlib.measure.device import Device

MIB = 2**20


def side(function, *, backward=False):
    return Call("the call", function, backward=backward)


def raises():
    raise KeyError("no such weight")


@pytest.mark.parametrize(
    ("function", "backward", "message"),
    [
        (raises, False, "the call raised KeyError: 'no such weight'"),
        (raises, True, "the call raised KeyError: 'no such weight'"),
        (lambda: torch.tensor([1.0, float("nan")]), False, "the call returned NaN"),
        (lambda: (1, torch.full((2,), float("nan"))), False, "the call returned NaN"),
        (lambda: 3, True, "the call returned int; backward=True takes a tensor or a tuple"),
        (lambda: torch.ones(2), True, "the call returned tensors without requires_grad; backward=True takes"),
        (lambda: torch.zeros(2, requires_grad=True).sqrt(), True, "1 of 1 gradients of the call are not finite"),
    ],
)
def test_wrong_calls_are_refused_before_any_clock_runs(function, backward, message):
    """A line says which side it was and what it did."""
    with pytest.raises(AssertionError) as caught:
        side(function, backward=backward).check()

    assert str(caught.value).startswith(message)


@pytest.mark.parametrize("result", [None, 3, "text", torch.arange(3), torch.tensor(float("inf"))])
def test_a_call_may_return_anything_but_nan(result):
    """Without a backward pass nothing is asked of a result; masks hold infinities."""
    assert side(lambda: result).check() >= 0


def test_gradients_are_those_of_the_whole_graph_and_are_put_back():
    """Every leaf gets its gradient in the first pass, and has its own again afterwards."""
    a, b = torch.ones(3, requires_grad=True), torch.ones(3, requires_grad=True)
    a.grad = torch.full((3,), 7.0)
    own = side(lambda: ((a * b).sum(), (2 * b).sum(), torch.ones(1)), backward=True)
    own.check()

    assert {id(leaf) for leaf in own.leaves} == {id(a), id(b)}
    assert b.grad.tolist() == [3.0] * 3
    own.restore()
    assert a.grad.tolist() == [7.0] * 3
    assert b.grad is None


def test_both_sides_may_share_a_leaf():
    """Its gradient from before either is put back."""
    a = torch.ones(3, requires_grad=True)
    a.grad = torch.full((3,), 7.0)
    pair = Two(side(lambda: a * 2, backward=True), side(lambda: a * 3, backward=True))
    pair.check()
    pair.restore()

    assert a.grad.tolist() == [7.0] * 3


def test_bytes_are_what_a_call_adds_at_its_peak():
    """Exactly, and the same every time; of a backward pass the graph and the gradients count."""
    x, w = torch.ones(MIB // 4), torch.ones(MIB // 4, requires_grad=True)
    pair = Two(side(lambda: x.exp()), side(lambda: torch.cat([x, x]).exp()))
    assert [reading["value"] for reading in weighed(pair, Device())] == [MIB, 4 * MIB]
    pair = Two(side(lambda: w * x, backward=True), side(lambda: (w * x).exp(), backward=True))
    pair.check()
    least, more = (reading["value"] for reading in weighed(pair, Device()))

    assert 2 * MIB <= least < more


@pytest.mark.parametrize(
    ("low", "high", "word"),
    [
        (0.96, 1.04, "same"),
        (1.01, 1.04, "same"),
        (1.01, 1.06, "slower"),
        (1.2, 1.3, "slower"),
        (0.9, 0.97, "faster"),
        (0.9, 1.02, "undecided"),
        (0.99, 1.06, "undecided"),
    ],
)
def test_verdicts(low, high, word):
    """Within the threshold as a whole it is the same; else it differs where the interval leaves 1 out."""
    assert verdict_of(Estimate((low * high) ** 0.5, low, high), 0.05) == word


def test_an_interval_comes_from_the_visits():
    """It is Student's, over the log ratios."""
    value, low, high = interval_of([0.0, 0.02])
    half = 12.706 * 0.02 / math.sqrt(2) / math.sqrt(2)

    assert (value, low, high) == pytest.approx((math.exp(0.01), math.exp(0.01 - half), math.exp(0.01 + half)), rel=1e-3)


class Machine:
    """A clock that only calls move on, at a speed that changes, and a kernel that takes the CPU away at times."""

    def __init__(self):
        self.now = self.waited = 0.0
        self.calls = 0

    def costs(self, seconds, stolen=0.0):
        def call():
            self.calls += 1
            speed = 1.0 if (self.calls // 40) % 2 else 1.4  # of the whole machine
            self.now += seconds * speed + (stolen if self.calls % 3 == 0 else 0.0)
            self.waited += stolen if self.calls % 3 == 0 else 0.0

        return call


def canary():
    """One that hears nothing unusual."""
    return SimpleNamespace(at_s=0.0, device=Device(), change=1.0, listen=lambda: 1.0)


def measured(monkeypatch, slower, stolen=0.0, seconds=0.002, count=5):
    machine = Machine()
    monkeypatch.setattr(call_module, "device_clock", lambda: machine.now)
    pair = Two(side(machine.costs(seconds, stolen)), side(machine.costs(seconds * slower, stolen)))
    pair.count_waits(lambda: machine.waited)
    made, began, iterations = visited(pair, pair.check(), canary(), count, 0.5)
    reading = {"value": 0, "method": "fake", "reason": None}
    return Found(made, began, iterations, (reading, reading), ())


@pytest.mark.parametrize("stolen", [0.0, 0.004])
def test_neither_speeds_nor_others_change_a_ratio(monkeypatch, stolen):
    """The machine changes its speed for both alike, and seconds in which a side waited for a CPU do not count."""
    cost = measured(monkeypatch, 1.1, stolen).cost(0.05)

    assert cost.ratio.value == pytest.approx(1.1, rel=0.01)
    assert cost.verdict == "slower"
    assert cost.seconds == pytest.approx(cost.ratio.value * cost.reference_seconds)
    assert 0.002 <= cost.reference_seconds <= 0.0028 + 1e-9


def test_raw_seconds_are_kept(monkeypatch):
    """Saved rounds still hold the seconds in which they waited."""
    found = measured(monkeypatch, 1.0, stolen=0.004)

    assert max(found.samples[0]) > 0.004 > max(found.own[0])
    assert [len(side) for side in found.samples] == [len(side) for side in found.own]


def test_slow_pairs_are_visited_less_often(monkeypatch):
    """Steps of a second are not taken more often than an interval needs."""
    assert len(measured(monkeypatch, 1.0, seconds=1.0).visits) == FEWEST
    assert len(measured(monkeypatch, 1.0).visits) == 5
