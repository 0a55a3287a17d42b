"""Runs at different speeds of the machine: found by the canary's kinds of work, and said wherever runs meet."""

import json
from pathlib import Path

import pytest

from attnlib.commands.__main__ import main
from attnlib.compare import speed
from attnlib.compare.cells import Cells, kind_of_interval
from attnlib.compare.saved import compare
from attnlib.runs.load import load
from attnlib.tests.runs.examples import saved

USUAL = {"products": 4e-4, "traffic": 4e-4, "operators": 2e-4}
SLOW = {"products": 6.4e-4, "traffic": 1.4e-3, "operators": 2e-4}
IN_WORDS = "products 1.60, memory traffic 3.50, small operators 1.00 times as long"


@pytest.fixture(name="side")
def _side(tmp_path):
    """Makes six runs with the canary's seconds by kind of work, and ratios that differ a little."""

    def make(name, kinds, ratio=1.5):
        paths = [tmp_path / f"{name}{n}.json" for n in range(6)]
        for n, path in enumerate(paths):
            path.write_text(json.dumps(saved(ratio=ratio + 0.001 * n, kinds=kinds)))
        return [str(path) for path in paths]

    return make


def test_a_reading_counts_on_its_device_and_unless_it_waited():
    """The median of each kind of work, without readings of other devices and of a canary that waited."""
    readings = [{"kinds": {"products": s}, "device": "cpu"} for s in (1.0, 2.0, 30.0)]
    readings += [{"kinds": {"products": 9.0}, "device": "cuda"}, {"kinds": {"products": 9.0}, "waited": True}]
    readings += [{"seconds": 1.0}]

    assert speed.speed(readings, "cpu") == {"products": 2.0}
    assert speed.speed(readings, "mps") == {}


@pytest.mark.parametrize("factor", [1.0, 1.24, 1 / 1.24])
def test_a_small_change_is_none(factor):
    """Within a factor of 1.25 runs are of one speed; so they are where no kind of work is known."""
    assert speed.change([USUAL], [{kind: factor * s for kind, s in USUAL.items()}]) is None
    assert speed.change([], [USUAL]) is None
    assert speed.change([{}], [USUAL]) is None


@pytest.mark.parametrize(("base", "new", "said"), [(USUAL, SLOW, IN_WORDS), (SLOW, USUAL, "memory traffic 0.29")])
def test_a_change_of_one_kind_of_work_is_said(base, new, said):
    """In either direction, as new / base, by the medians of the sides: one odd run on a side does not count."""
    assert said in speed.change([base, base, new], [new, new, base])


def test_ratios_of_another_speed_are_undecided(side, capsys):
    """No verdict where the machine's speed changed between the sides, unless --force asks for it."""
    base, new = side("a", USUAL), side("b", SLOW, ratio=2.0)
    found = compare([load(Path(path)) for path in base], [load(Path(path)) for path in new])

    assert {row.verdict.word for row in found.rows} == {"undecided"}
    assert found.notes == (f"another speed of the machine in new: {IN_WORDS} (--force decides all the same)",)
    forced = compare([load(Path(path)) for path in base], [load(Path(path)) for path in new], force=True)
    assert "slower" in {row.verdict.word for row in forced.rows}
    assert main(["compare", "--base", *base, "--new", *new]) == 2
    assert "undecided: another speed of the machine in new" in capsys.readouterr().out


def test_ratios_of_one_speed_are_decided(side):
    """The same ratios are slower where the machine's speed is known to be the same."""
    found = compare(
        [load(Path(path)) for path in side("a", USUAL)], [load(Path(path)) for path in side("b", USUAL, ratio=2.0)]
    )

    assert "slower" in {row.verdict.word for row in found.rows}


def test_a_table_of_runs_at_two_speeds_says_so(side):
    """Their mean is of no machine: the note of every table and figure has it. Runs of one speed need no word."""
    usual, slow = ([load(Path(path)) for path in side(name, kinds)] for name, kinds in (("a", USUAL), ("b", SLOW)))

    assert "different speeds" not in kind_of_interval(Cells(usual))
    assert kind_of_interval(Cells([*usual, slow[0]])).endswith(
        "at different speeds of the machine: products up to 1.60, memory traffic up to 3.50, small operators up to 1.00"
        " times as long"
    )


def test_coverage_of_runs_at_two_speeds_says_so(side, capsys):
    """``trust holds`` counts all the same, and says that the runs are not of one speed."""
    paths = [*side("a", USUAL), *side("b", SLOW)]

    assert main(["trust", "holds", *paths]) == 0
    assert "the machine's speed changed from run to run: products up to 1.60" in capsys.readouterr().out


def test_earlier_runs_are_of_this_kind_of_machine(tmp_path):
    """Saved and reference runs count, if their machine is of the same kind; files that are no runs do not."""
    (tmp_path / "here").mkdir()
    (tmp_path / "reference").mkdir()
    runs = {"here/0001_a": saved(kinds=USUAL), "reference/epyc-1": saved(kinds=SLOW, node="there")}
    runs |= {"here/0002_b": saved(kinds=SLOW), "here/0003_c": saved()}
    runs["here/0002_b"]["machine_info"]["attnlib"]["threads"] = 7
    for name, run in runs.items():
        (tmp_path / f"{name}.json").write_text(json.dumps(run))
    (tmp_path / "here" / "0004_d.json").write_text("{")

    assert speed.earlier(tmp_path, runs["here/0001_a"]["machine_info"], "cpu") == [USUAL, SLOW]
