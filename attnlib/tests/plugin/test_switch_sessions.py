"""``bench/test_switches.py`` as a run: what it measures, saves and shows."""

import pytest

import plots
from attnlib.commands.__main__ import main
from attnlib.runs.load import load, switch_label
from attnlib.tests import ROOT

SMALL = ["--seq-lens=16,32", "--depths=2", "--d-model=32", "--heads=4", "--budget=0.02", "--visits=1"]
CHOSEN = "(switch=none or kv_heads=1 or pe=cope or window=64) and not claim and not family"


@pytest.fixture(name="run", scope="module")
def _run(sessions, tmp_path_factory):
    """A run of three switches at two lengths, and of two claims."""
    folder = tmp_path_factory.mktemp("switches")
    chosen = f"({CHOSEN}) or (claim and d_model=64 and (kv_heads=1 or window=4))"
    options = [*SMALL, "--benchmark-autosave", "-k", chosen]
    done = sessions(*options, folder=folder, tests=["bench/test_switches.py"], small=[])
    assert done.code == 0, done.out
    (path,) = folder.rglob("*.json")
    return done.out, path


@pytest.mark.faults  # with the long tests
def test_named_alone_it_takes_its_preset(run):
    """Each switch beside the stack without it, forward and train step, and the claims."""
    out, path = run
    cells = load(path).cells

    assert {cell.case.phase for cell in cells} == {"forward", "train_step", "switch"}
    assert {cell.case.pe for cell in cells if cell.timed} == {"rotary", "kv_heads=1", "cope", "window=64"}
    assert all(cell.ratio.reference["kv_heads"] is None for cell in cells if cell.timed)
    assert all(cell.peak == pytest.approx(cell.predicted, rel=0.003) for cell in cells if cell.timed)
    assert "time over that of rotary, block=pre_ln" in out
    assert "holds: first_layer" in out


@pytest.mark.faults  # with the long tests
def test_what_switches_cost_is_a_table_and_a_figure(run, capsys, tmp_path):
    """A row a switch: ratios by length, peak, decades a layer, and how many claims hold."""
    _, path = run
    assert main(["switch-costs", str(path)]) == 0
    out = capsys.readouterr().out
    lines = {line.split()[0]: line for line in out.splitlines() if line.startswith(("kv_heads", "window", "cope"))}

    assert out.count("time over that of rotary, block=pre_ln") == 2
    assert "2 of 2 hold" in lines["kv_heads=1"]
    assert "4 of 4 hold" in lines["window=64"]
    assert "-0." in lines["kv_heads=1"]
    assert plots.main([str(path), "--only", "switch_cost", "--out", str(tmp_path)]) == 0
    assert (tmp_path / "switch_cost.png").stat().st_size > 10_000


def test_other_runs_have_no_such_table(capsys):
    """A line instead of an empty table."""
    assert main(["switch-costs", str(ROOT / "results" / "reference" / "laptop-cpu-1.json")]) == 4
    assert "no data for the table switch-costs" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("test", "label"),
    [
        ("bench/test_switches.py::test_forward[seq_len=16-depth=2-switch=kv_heads=1]", "kv_heads=1"),
        ("bench/test_switches.py::test_forward[seq_len=16-depth=2-switch=pe=cope]", "cope"),
        ("bench/test_switches.py::test_forward[seq_len=16-depth=2-switch=qk_norm=true]", "qk_norm"),
        ("bench/test_switches.py::test_forward[seq_len=16-depth=2-switch=none]", None),
        ("bench/test_forward.py::test_forward[seq_len=16-depth=2-pe=none]", None),
    ],
)
def test_labels_of_switches(test, label):
    """The switch in a test's id, without what goes without saying."""
    assert switch_label(test) == label


def test_a_familys_stack_is_measured_beside_vanilla(sessions, tmp_path):
    """``--stack`` is one option of the default job."""
    options = ["--stack=llama", "--seq-lens=16", "--depths=2", "--budget=0.05", "--benchmark-autosave"]
    done = sessions(*options, folder=tmp_path, tests=["bench/test_train_step.py"], small=[])
    assert done.code == 0, done.out
    (cell,) = load(next(tmp_path.rglob("*.json"))).cells

    assert cell.label == "train_step T=16 L=2 rotary pre_ln causal norm=rms kv_heads=1 swiglu"
    assert "x sinusoidal, block=post_ln" in done.out
