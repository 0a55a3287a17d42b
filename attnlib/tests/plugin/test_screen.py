"""Lines at the end of a session."""

import json
from dataclasses import replace

import pytest

from attnlib.cases.settings import Settings
from attnlib.plugin.screen import wide_intervals
from attnlib.runs.load import load
from attnlib.tests.runs.examples import saved


@pytest.fixture(name="cells", scope="module")
def _cells(tmp_path_factory):
    """Cells whose ratios have intervals of 10 % to either side."""
    path = tmp_path_factory.mktemp("run") / "run.json"
    path.write_text(json.dumps(saved(ratio=1.5)))
    return load(path).cells


@pytest.mark.parametrize(
    ("precision", "budget", "said"),
    [
        (0.02, 1.0, "for ±2% about --budget 25 would do, and take up to 25 times as long"),
        (0.04, 0.5, "for ±4% about --budget 3.1 would do, and take up to 6 times as long"),
    ],
)
def test_wide_intervals_name_a_budget(cells, precision, budget, said):
    """It is larger by the square of what the typical half-width lacks: (10 / 2)^2 = 25, (10 / 4)^2 = 6 times."""
    settings = replace(Settings.from_options({"preset": "laptop"}), precision=precision, budget=budget)

    assert wide_intervals(cells, settings) == f"half of the ratios' intervals are wider than ±10.0%; {said}"


@pytest.mark.parametrize(("preset", "precision"), [("laptop", 0.06), ("smoke", 0.02)])
def test_intervals_as_asked_for_need_no_line(cells, preset, precision):
    """Nor does a run of the preset smoke, which is to be short; nor one without ratios."""
    settings = replace(Settings.from_options({"preset": preset}), precision=precision)

    assert wide_intervals(cells, settings) is None
    assert wide_intervals([], settings) is None
