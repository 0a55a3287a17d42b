"""``attnlib machines``: what it prints of one machine and of two, and what it refuses."""

import json

import pytest

from attnlib.commands.__main__ import main
from attnlib.tests.runs.examples import saved


@pytest.fixture(name="paths")
def _paths(tmp_path):
    """Runs of two machines on which an encoding costs more and less."""
    for name, ratio in (("here", 1.5), ("there", 0.5)):
        (tmp_path / f"{name}.json").write_text(json.dumps(saved(ratio=ratio, node=name)))
    return [str(tmp_path / f"{name}.json") for name in ("here", "there")]


def test_two_machines_stand_side_by_side(paths, capsys):
    """Ratios come before seconds, and opposite signs are shown with the ratios of both machines."""
    assert main(["machines", *paths]) == 0
    out = capsys.readouterr().out

    assert out.index("time over that of none") < out.index("over none, L = 2") < out.index("time of a step of none")
    assert "1.50 ±0.15 on unknown cpu (node here), 0.50 ±0.05 on unknown cpu (node there)" in out
    assert "of 4 ratios 0 longer, 0 shorter, 4 opposite, 0 undecided, 4 of different size" in out


def test_one_machine_is_said_to_be_one(paths, capsys):
    """It has ratios and signs, and no column for what only several can have."""
    assert main(["machines", paths[0]]) == 0
    out = capsys.readouterr().out

    assert "one machine" in out
    assert "of 4 ratios 4 longer, 0 shorter, 0 undecided" in out
    assert "opposite" not in out
    assert "of different size" not in out


def test_markdown_has_the_same_tables(paths, capsys):
    """A row an encoding."""
    assert main(["machines", *paths, "--markdown"]) == 0
    assert "| sinusoidal | opposite |" in capsys.readouterr().out


def test_json_is_one_object(paths, capsys):
    """Machines, ratios, signs and seconds."""
    assert main(["machines", *paths, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)

    assert [machine["runs"] for machine in found["machines"]] == [["here"], ["there"]]
    assert {row["value"] for row in found["ratios"] if row["pe"] == "sinusoidal"} == {1.5, 0.5}
    assert [len(sign["opposite"]) for sign in found["signs"]] == [4]


def test_runs_without_ratios_are_wrong_use(tmp_path, capsys):
    """Cases that were measured alone have no reference to stand over."""
    (tmp_path / "alone.json").write_text(json.dumps(saved()))

    assert main(["machines", str(tmp_path / "alone.json")]) == 4
    assert "no case of these runs was measured beside a reference" in capsys.readouterr().err


def test_unlike_stacks_are_wrong_use(paths, tmp_path, capsys):
    """A line says in what they differ, and nothing is printed."""
    run = saved(ratio=1.5, node="there")
    for row in [*run["attnlib"]["cases"], *(own["extra_info"] for own in run["benchmarks"])]:
        row["case"]["d_model"] = 128
    (tmp_path / "wide.json").write_text(json.dumps(run))

    assert main(["machines", paths[0], str(tmp_path / "wide.json")]) == 4
    found = capsys.readouterr()
    assert "unlike stacks cannot share a table: d_model 64 | 128" in found.err
    assert found.out == ""


def test_an_unread_file_is_reported_and_the_rest_shown(paths, tmp_path, capsys):
    """The tables of the good runs, and exit code 4."""
    assert main(["machines", *paths, str(tmp_path / "none.json")]) == 4
    found = capsys.readouterr()

    assert "none.json" in found.err
    assert "time over that of none" in found.out
