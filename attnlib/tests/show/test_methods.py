"""The paragraph for a paper: its facts are those of the runs."""

import json

import pytest

from attnlib.compare.cells import Cells
from attnlib.runs.load import load
from attnlib.show.methods import methods
from attnlib.tests.runs.examples import saved

VISIT = {"log_ratio": 0.4, "interval": [1.4, 1.6], "rounds": 2, "disturbed": []}
BUSY = VISIT | {"disturbed": ["a neighbour"]}


@pytest.fixture(name="paragraph")
def _paragraph(tmp_path):
    """Write runs, and return the paragraph on them."""

    def write(*runs):
        for number, run in enumerate(runs):
            (tmp_path / f"{number}.json").write_text(json.dumps(run))
        return methods(Cells([load(tmp_path / f"{number}.json") for number in range(len(runs))]))

    return write


def measured():
    """Return a run with three visits a case, of which one was disturbed."""
    run = saved((1.0,) * 6, ratio=1.5)
    run["commit_info"] = {"id": 40 * "a", "dirty": False}
    run["machine_info"]["cpu"] = {"brand_raw": "A processor"}
    run["machine_info"]["attnlib"] |= {"python": "3.11.7", "versions": {"attnlib": "0.1.0", "torch": "2.13.0"}}
    run["attnlib"]["command"] = ["pytest", "bench/", "--order-seed=1", "--threads=2", "--benchmark-json=a.json"]
    for benchmark in run["benchmarks"]:
        visits = [VISIT, VISIT, VISIT if benchmark is not run["benchmarks"][0] else BUSY]
        time = benchmark["extra_info"]["time"]
        time |= {"visits": visits, "visits_planned": 3, "visits_lost": []}
        time["over_reference"]["interval"] = "visits"
    return run


def test_facts_are_those_of_a_run(paragraph):
    """Versions, commit, machine, command, visits, disturbances and memory are in it."""
    text = paragraph(measured())

    assert "attnlib 0.1.0 (commit aaaaaaaaaaaa), PyTorch 2.13.0 and Python 3.11.7, in one run" in text
    assert "`pytest bench/ --threads=2`" in text
    assert "processor A processor" in text
    assert "its reference (encoding none), in 3 visits" in text
    assert "23 of 24 visits (95.8 %) were undisturbed" in text
    assert "Peak memory is of one step of its own, untimed: fake." in text


def test_intervals_are_over_what_there_are_several_of(paragraph):
    """Over the visits of one run, over the runs of several; each commit is named."""
    other = measured()
    other["commit_info"] = {"id": 40 * "b", "dirty": True}
    text = paragraph(measured(), other)

    assert "t intervals over the visits" in paragraph(measured())
    assert "t intervals over the runs" in text
    assert "intervals over pairs of rounds" in paragraph(saved(ratio=1.5))
    assert "(commit aaaaaaaaaaaa and bbbbbbbbbbbb with changes that are not committed)" in text


def test_the_median_is_named_where_it_counts(paragraph):
    """A case that had further visits has the median of its visits."""
    run = measured()
    time = run["benchmarks"][3]["extra_info"]["time"]
    time |= {"visits": [VISIT] * 5, "reference_s": [1.0] * 10}
    run["benchmarks"][3]["stats"]["data"] = [1.0] * 10

    assert "median" not in paragraph(measured())
    assert "(the median for 1 that had further visits)" in paragraph(run)


def test_what_was_not_saved_is_not_made_up(paragraph):
    """Nothing is called None, and without visits there is nothing of references."""
    run = saved()
    run["machine_info"]["attnlib"] = {}
    text = paragraph(run)

    assert "None" not in text
    assert "attnlib of unknown version (commit unknown)" in text
    assert "Times are medians of a case's rounds" in text
    assert "reference" not in text
