"""``attnlib check``: a table with a line a check, and one line where a part cannot be looked at."""

import json
import os
import sys

import pytest
import torch

from attnlib.cases import case, subject
from attnlib.commands import check
from attnlib.commands.__main__ import main

ZOO = "attnlib.tests.cases.zoo:"


@pytest.fixture(autouse=True)
def _as_before():
    """The import path and torch's threads are those of this test only."""
    path, variable, threads = list(sys.path), os.environ.get("PYTHONPATH"), torch.get_num_threads()
    torch.set_num_threads(1)  # the stacks are too small for two
    yield
    torch.set_num_threads(threads)
    sys.path[:] = path
    os.environ.pop("PYTHONPATH", None)
    if variable is not None:
        os.environ["PYTHONPATH"] = variable


def test_a_good_part(capsys):
    """Every check has a line; what does not apply is no failure."""
    assert main(["check", ZOO + "Encoding"]) == 0
    title, head, *lines = capsys.readouterr().out.splitlines()

    assert title == f"pe {ZOO}Encoding: float32 on cpu, not causal"
    assert head.split() == ["check", "result", "found"]
    assert [line.split("  ")[0].strip() for line in lines] == [
        *("made", "outputs", "finite", "same twice", "causality", "gradients", "state", "meta")
    ]
    assert "not applicable  the stack is not causal" in lines[4]


def test_a_bad_part(capsys):
    """Exit code 1, and its line says what is wrong."""
    assert main(["check", ZOO + "SeesTheMean", "--causal"]) == 1

    assert "causality failed it sees the future: changing the tokens after" in " ".join(capsys.readouterr().out.split())


def test_json_and_markdown(capsys):
    """The same findings for programs, which nothing printed by the part disturbs, and for a page."""
    assert main(["check", ZOO + "Prints", "seq_len=16,n_heads=4", "--json", "--dtype", "bfloat16"]) == 1
    found = json.loads(capsys.readouterr().out)
    assert (found["kind"], found["dtype"], found["causal"]) == ("pe", "bfloat16", False)
    assert found["findings"][0]["reason"].startswith("seq_len=16 d_model=32 n_heads=4 head_dim=8")
    assert found["findings"][-1] == {
        "check": "silent",
        "result": "failed",
        "reason": "it prints while it runs: embedding (3, 16, 32)",
    }

    assert main(["check", ZOO + "weights", "--markdown"]) == 0
    assert "| same twice | passed | the same weights from the same seed |" in capsys.readouterr().out


def test_an_oracle(capsys):
    """It adds three lines."""
    assert main(["check", ZOO + "overflows", "--oracle", ZOO + "attention"]) == 1
    lines = [line for line in capsys.readouterr().out.splitlines() if line.strip().startswith("oracle")]

    assert [line.split("  ")[0].strip() for line in lines] == ["oracle", "oracle x30", "oracle x1000"]
    assert " failed " in lines[2]


def test_a_folder_on_the_import_path(tmp_path, monkeypatch, capsys):
    """A part is found there, and what its module prints goes to standard error in one line."""
    package = tmp_path / "lab_of_check"
    package.mkdir()
    (package / "__init__.py").write_text("print('hello')\nprint('and more')\n")
    (package / "rope.py").write_text(
        "class Half:\n"
        "    def __init__(self, *, seq_len, d_model, n_heads, head_dim, causal): pass\n"
        "    def embed(self, x): return x / 2\n"
    )
    name = "lab_of_check.rope:Half"
    assert main(["check", name]) == 4
    assert "cannot be imported: No module named 'lab_of_check'; --import-path FOLDER" in capsys.readouterr().err
    monkeypatch.chdir(tmp_path)
    assert main(["check", name, "--import-path", ".", "--json"]) == 0
    said = capsys.readouterr()

    assert json.loads(said.out)["name"] == name
    assert said.err == f"attnlib: importing part {name!r} printed: hello\n"


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ([ZOO + "Nothing"], f"{ZOO}Nothing' fits no kind: as pe: has none of the methods embed, rotate, bias"),
        ([ZOO + "Nothing", "--kind", "pe"], f"pe '{ZOO}Nothing' has none of the methods embed, rotate, bias"),
        ([ZOO + "OtherSignature", "--kind", "pe"], "embed must take 1 argument beside self: missing a"),
        ([ZOO + "takes_anything"], "may be pe or attention or init; say which with --kind"),
        ([ZOO + "no_such"], f"part '{ZOO}no_such' cannot be imported: AttributeError: module"),
        (["no_such_lab:Part"], "part 'no_such_lab:Part' cannot be imported: No module named 'no_such_lab'"),
        (["ropee"], "unknown part 'ropee'; choose a name that attnlib list shows"),
        (["rotary", "--kind", "block"], "unknown block 'rotary'; choose from plain, residual"),
        (["rotary", "--oracle", "ropee"], "unknown pe 'ropee'; choose from none, sinusoidal"),
        (["rotary", "--import-path", "nowhere"], "--import-path nowhere: no such folder"),
        (["rotary", "--device", "abacus"], "--device abacus cannot be used here: Expected one of cpu, cuda"),
        (["rotary", "sequence=3"], "unknown field 'sequence'; choose from"),
        (["rotary", "seq_len=0"], "seq_len must be an integer of at least 1, not 0"),
        (["rotary", "causal=true"], "causal is set by --causal"),
        (["unit", "--oracle", "linear"], "an initialisation is random and is compared with no oracle"),
    ],
)
def test_what_cannot_be_looked_at_is_one_line(words, said, capsys):
    """Exit code 4, nothing on standard output, and a line that names it."""
    assert main(["check", *words]) == 4
    shown = capsys.readouterr()

    assert shown.out == ""
    assert said in shown.err
    assert len(shown.err.splitlines()) == 1


def test_choices_are_those_that_are_checked():
    """The command names kinds and dtypes without importing torch."""
    assert tuple(subject.KINDS) == check.KINDS
    assert set(case.DTYPES) == set(check.DTYPES)
