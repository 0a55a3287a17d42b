"""Shares of the ceiling, errors of predictions and worths of switches, as people read them."""

from attnlib.compare.intervals import Estimate
from attnlib.live.switches import Worth
from attnlib.runs.schema import Floor
from attnlib.show.ceilings import near, summary
from attnlib.show.switches import worths

FLOOR = Floor(products=2e-4, memory=1e-4, operators=1e-4)
RATES = {"dtype": "float32", "flops_per_s": 4e11, "copies": [[8192, 1e-6], [2**27, 4e-3]], "operator_s": 2e-6}


def test_how_near_a_case_comes():
    """The floor over the time, and the ceiling that takes most of it; nothing where none was read."""
    assert near(FLOOR, 1e-3) == "  40% of ceiling (products)"
    assert near(None, 1e-3) == ""


def test_a_machine_in_a_line():
    """Rates with an interval where they were read more than once."""
    faster = RATES | {"flops_per_s": 4.4e11}
    (line,) = summary([], [{"seconds": 1.0, "rates": RATES}, {"seconds": 1.0}, {"seconds": 1.0, "rates": faster}])

    assert line.startswith("ceilings, float32: 420 [229, 769] GFLOP/s in products, 33.6 GB/s in copies at best, ")
    assert summary([], [{"seconds": 1.0}]) == []


def test_disturbed_ceilings_are_said():
    """They are if all readings were disturbed, or the first ones, which early cases were held against."""
    quiet, busy = ({"seconds": 1.0, "rates": RATES | {"disturbed": found}} for found in ([], ["a neighbour"]))

    assert "shares may be too high: a neighbour" in summary([], [busy, busy])[0]
    assert "shares of cases before it may be too high: a neighbour" in summary([], [busy, quiet])[0]
    assert len(summary([], [quiet, busy])) == 1


def test_switches_in_a_table():
    """A switch that failed says why, and a compiled one how long that took."""
    compiled = {"seconds": 3.0, "graphs": 2, "graph_breaks": 0, "recompiles": 0}
    found = [
        Worth("base", peak=2**20, process=2**21),
        Worth("faster", Estimate(0.5, 0.4, 0.6), 2**19, 2**20),
        Worth("torch.compile", Estimate(1.0, 0.9, 1.1), 2**20, 2**21, compiled=compiled),
        Worth("broken", status="no compiler"),
    ]
    texts = worths(found, "seq_len=64").texts()

    assert [row["time / base"] for row in texts] == ["-", "0.50 [0.40, 0.60]", "1.00 [0.90, 1.10]", "-"]
    assert texts[2][""] == "compiled in 3 s: 2 graphs, 0 graph breaks, 0 recompiles"
    assert texts[3][""] == "no compiler"
    assert texts[0]["process"] == "2 MiB"
