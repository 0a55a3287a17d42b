"""Runs with parts and models that are somebody else's: rows, ids, tables, resuming, comparing, and bad input."""

import json
import sys

import pytest

from attnlib.commands.__main__ import main
from attnlib.runs.load import load
from attnlib.tests.plugin.sessions import files, saved

TESTS = ["bench/test_train_step.py", "bench/test_forward.py"]


@pytest.fixture(name="run")
def _run(sessions, tmp_path):
    """Run a session with the folder of somebody else's modules on the path."""

    def run(*options, folder, tests=TESTS, fault=None, small=("--preset", "smoke", "--seq-lens", "8", "--depths", "1")):
        quick = ["--budget", "0.02", "--visits", "1", "--import-path", str(tmp_path)]
        return sessions(*quick, *options, folder=folder, tests=tests, small=list(small), fault=fault)

    return run


def test_a_copy_of_ours_beside_ours(run, lab, tmp_path):
    """Rows of a copy equal those of ours in bytes, FLOPs and parameters; its own say where it comes from."""
    name = f"{lab()}:MyRotary"
    done = run("--pe", f"rotary,{name}", "--benchmark-autosave", folder=tmp_path / "runs")
    assert done.code == 0, done.out
    run_ = saved(tmp_path / "runs")
    infos = {(row["extra_info"]["case"]["phase"], row["extra_info"]["case"]["pe"]): row for row in run_["benchmarks"]}

    for phase in ("train_step", "forward"):
        ours, theirs = (infos[phase, pe]["extra_info"] for pe in ("rotary", name))
        assert "parts" not in ours
        assert theirs["parts"]["pe"]["name"] == name
        for key in ("params", "flops", "flops_algorithmic", "predicted_peak"):
            assert ours["cost"][key] == theirs["cost"][key]
        assert ours["memory"]["allocated_peak"] == theirs["memory"]["allocated_peak"]
        assert ours["attention"] == theirs["attention"]
    assert any("pe=MyRotary]" in row["fullname"] for row in run_["benchmarks"])
    assert name in run_["attnlib"]["axes"]["pe"]


def test_tables_show_the_short_name(run, lab, tmp_path, capsys):
    """Tables, ids, -k and readers have MyRotary, the file the whole name."""
    name = f"{lab()}:MyRotary"
    options = ["--pe", f"none,{name}", "-k", "train_step[pe=MyRotary]", "--benchmark-autosave"]
    done = run(*options, folder=tmp_path / "runs")
    assert done.code == 0, done.out
    (path,) = files(tmp_path / "runs", ".json")
    (cell,) = load(path).cells

    assert "pe=MyRotary" in done.out
    assert cell.case.pe == cell.fields["pe"] == "MyRotary"
    assert cell.parts["pe"].name == name
    assert main(["costs", str(path)]) == 0
    out = capsys.readouterr().out
    assert "MyRotary" in out
    assert name not in out
    text = path.read_text()
    assert name in text
    assert f"--import-path={tmp_path.name}" in json.loads(text)["attnlib"]["command"]  # without the folders around it
    assert str(tmp_path) not in text
    assert name.partition(":")[0] not in sys.modules  # reading a run imports nothing of somebody else's


def test_two_of_one_short_name_are_told_apart(run, lab, tmp_path):
    """So many modules stand before the name that the two differ."""
    first, second = lab(), lab()
    options = ["--pe", f"{first}:MyRotary,{second}:MyRotary", "-k", "train_step", "--benchmark-autosave"]
    done = run(*options, folder=tmp_path / "runs")
    assert done.code == 0, done.out
    (path,) = files(tmp_path / "runs", ".json")

    assert {cell.case.pe for cell in load(path).cells} == {f"{first}.MyRotary", f"{second}.MyRotary"}


def test_a_model_beside_a_stack(run, lab, tmp_path, capsys):
    """Only its steps are collected; the reference is a stack; findings has its gradients over depth."""
    text = """
        from torch import nn

        def net(c):
            layers = [nn.Linear(c.d_model, c.d_model) for _ in range(c.depth)]
            return nn.Sequential(nn.Embedding(c.vocab_size, c.d_model), *layers)
    """
    options = ["--model", f"{lab(text)}:net", "--depths", "1,2", "--benchmark-autosave"]
    done = run(*options, folder=tmp_path / "runs", tests=["bench/"], small=["--preset", "smoke", "--seq-lens", "8"])
    assert done.code == 0, done.out
    (path,) = files(tmp_path / "runs", ".json")
    cells = load(path).cells

    assert {cell.case.phase for cell in cells} == {"forward", "backward", "train_step"}
    assert {cell.case.pe for cell in cells} == {"net"}
    assert all(cell.ratio.reference == {"model": "stack", "pe": "none"} for cell in cells)
    assert all(cell.cost.flops and cell.cost.params for cell in cells)
    assert main(["findings", str(path)]) == 0
    out = capsys.readouterr().out
    assert "|gradient| of its first parameter" in out
    assert "first: 0.weight" in out


def test_resuming_refuses_another_source(run, lab, tmp_path):
    """A run is not resumed with a part whose file has changed since; the message names the part."""
    module = lab()
    options = ["--pe", f"none,{module}:MyRotary"]
    run(*options, "--benchmark-autosave", folder=tmp_path / "runs", fault="journalled")
    (path,) = files(tmp_path / "runs", ".journal")
    with (tmp_path / f"{module}.py").open("a") as file:
        file.write("# changed\n")
    done = run(*options, f"--resume-from={path}", folder=tmp_path / "runs")

    assert done.code == 4
    assert f"cannot resume {path}: it differs, journal | now: parts.{module}:MyRotary: " in done.out


def test_comparing_names_another_source(run, lab, tmp_path, capsys):
    """Cases before and after a change of the file are the same ones, and the change is named."""
    module = lab()
    options = ["--pe", f"{module}:MyRotary", "-k", "forward", "--benchmark-autosave"]
    assert run(*options, folder=tmp_path / "before").code == 0
    with (tmp_path / f"{module}.py").open("a") as file:
        file.write("# changed\n")
    assert run(*options, folder=tmp_path / "after").code == 0
    before, after = (str(files(tmp_path / name, ".json")[0]) for name in ("before", "after"))
    main(["compare", "--base", before, "--new", after])
    out = capsys.readouterr().out

    assert f"{module}:MyRotary changed: no version, source " in out
    assert "only in" not in out


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("import no_such_package", "cannot be imported: No module named 'no_such_package'"),
        ("x = 3", "cannot be imported: AttributeError: module"),
        ("class Thing: pass", "must take the keywords seq_len, d_model, n_heads, head_dim, causal"),
    ],
)
def test_what_can_be_known_is_refused_before_the_first_case(run, lab, tmp_path, text, message):
    """One line with the name, exit code 4, and nothing measured or written."""
    name = f"{lab(text)}:Thing"
    done = run("--pe", f"none,{name}", "--benchmark-autosave", folder=tmp_path / "runs")

    assert done.code == 4
    (line,) = [line for line in done.out.splitlines() if name in line]
    assert message in line
    assert files(tmp_path / "runs", "") == []


def test_a_folder_that_is_not_there(sessions, tmp_path):
    """It is refused by its name."""
    done = sessions("--import-path", str(tmp_path / "absent"), folder=tmp_path / "runs")

    assert done.code == 4
    assert f"--import-path {tmp_path / 'absent'}: no such folder" in done.out


BROKEN = """
    import torch
    class Raises:
        def __init__(self, **sizes): pass
        def embed(self, x): raise RuntimeError("no licence\\nfound")
    class Refuses:
        def __init__(self, **sizes): raise ValueError("only for even numbers of heads")
        def embed(self, x): return x
    class Elsewhere:
        def __init__(self, **sizes): self.table = torch.zeros(1, device="cuda")
        def embed(self, x): return x + self.table
    class NotANumber:
        def __init__(self, **sizes): pass
        def embed(self, x): return x * float("nan")
    class OtherShape:
        def __init__(self, **sizes): pass
        def embed(self, x): return x[:, 1:]
    class OtherDtype:
        def __init__(self, **sizes): pass
        def embed(self, x): return x.double()
    class KeepsState:
        def __init__(self, **sizes): self.calls = 0
        def embed(self, x):
            self.calls += 1
            return x + self.calls
"""


REASONS = {
    "Raises": "no licence",
    "Elsewhere": "CUDA",
    "NotANumber": "are NaN or infinite",
    "OtherShape": "must have shape",
    "OtherDtype": "must be torch.float32, not torch.float64",
    "KeepsState": "it keeps state between calls",
}


def test_a_part_that_fails_later_spoils_its_own_rows(run, lab, tmp_path):
    """Its rows are error or unsupported and say why in a line; the others are measured."""
    module = lab(BROKEN)
    names = {f"{module}:{name}": name for name in ("Refuses", *REASONS)}
    options = ["--pe", ",".join(["none", *names]), "--benchmark-autosave", "-k", "forward"]
    done = run(*options, folder=tmp_path / "runs")
    (path,) = files(tmp_path / "runs", ".json")
    rows = {row["case"]["pe"]: row for row in json.loads(path.read_text())["attnlib"]["cases"]}

    assert done.code == 1
    assert rows["none"]["status"] == "ok"
    found = {names[pe]: (row["status"], row["reason"]) for pe, row in rows.items() if pe in names}
    assert found["Refuses"] == ("unsupported", f"pe '{module}:Refuses': only for even numbers of heads")
    for name, reason in REASONS.items():
        status, said = found[name]
        assert status == "error"
        assert reason in said
        assert "\n" not in said


@pytest.mark.faults
def test_an_encoding_of_somebody_elses_is_trained(run, lab, tmp_path):
    """The study chooses its learning rate and trains it, in processes of their own, like one of ours."""
    options = ["--pe", f"{lab()}:MyRotary", "--data", "digits", "-k", "tune or learn", "--benchmark-autosave"]
    tests = ["bench/test_learning.py"]
    done = run(*options, folder=tmp_path / "runs", tests=tests, small=["--preset", "smoke"])
    assert done.code == 0, done.out
    (path,) = files(tmp_path / "runs", ".json")
    learned = [cell for cell in load(path).cells if cell.case.phase == "learn"]

    assert learned
    assert all(cell.status == "ok" and cell.training.learning_rate for cell in learned)
