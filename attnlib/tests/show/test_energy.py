"""Energy and flags of a case reach rows, tables, the page and a figure."""

import json

import pytest

from attnlib.compare.cells import Cells
from attnlib.runs.load import load
from attnlib.runs.schema import problems
from attnlib.show.costs import costs
from attnlib.show.figures.cost import energy
from attnlib.show.report.cases import COLUMNS, rows
from attnlib.show.tidy import tidy
from attnlib.tests.runs.examples import saved

FLAG = "launch-bound: a step takes 2.0 times what the device works on it"


def measured(joules, reason=None):
    """A run in which every step takes so many joules."""
    run = saved(times=[1.0] * 6, ratio=2.0)
    for row in run["benchmarks"]:
        row["extra_info"]["energy"] = {
            "joules": {"value": joules, "method": "m", "reason": reason},
            "window_s": 2.0,
            "steps": 5,
            "power_w": None,
        }
        row["extra_info"]["flags"] = [FLAG]
    return run


def write(run, path):
    path.write_text(json.dumps(run))
    return path


@pytest.fixture(name="run")
def _run(tmp_path):
    return load(write(measured(0.0125), tmp_path / "run.json"))


def test_energy_is_in_rows_and_tables(run):
    """A column of the data frame, of the costs beside time and memory, and of the page's cases."""
    (table,) = costs(Cells([run]))
    entries = {row.entries[COLUMNS.index("energy")].text for row in rows(Cells([run]))}

    assert {row["energy_j"] for row in tidy([run])} == {0.0125}
    assert {row["its energy"] for row in table.rows} == {0.0125}
    assert entries == {"12.5 mJ"}
    assert all(FLAG in row.why for row in rows(Cells([run])))


def test_energy_is_drawn_where_it_was_read(run, tmp_path):
    """A figure of it, and none of a run that has none, nor a column."""
    without = Cells([load(write(measured(None, "no counter"), tmp_path / "none.json"))])

    assert energy(Cells([run])).axes[0].get_ylabel() == "energy of a train step [J]"
    assert energy(without) is None
    assert "its energy" not in costs(without)[0].columns


@pytest.mark.parametrize(
    ("joules", "reason", "said"),
    [(0.0, None, "energy.joules is 0.0, which no step takes"), (None, None, "energy.joules is null without a reason")],
)
def test_no_step_takes_nothing(joules, reason, said):
    """Neither 0 J nor a null without a reason is a good row."""
    assert any(said in text for text in problems(measured(joules, reason)))
