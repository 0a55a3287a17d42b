"""Exit codes: 1 and 2 are verdicts, whatever becomes of the output; everything else has a code of its own."""

import json
import os
import subprocess
import sys

import pytest

from attnlib.commands import tables
from attnlib.commands.__main__ import main
from attnlib.tests import ROOT
from attnlib.tests.runs.examples import saved


@pytest.fixture(name="paths", scope="module")
def _paths(tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs")
    for name, peak in (("base", 1000), ("more", 1001)):
        (folder / f"{name}.json").write_text(json.dumps(saved(peak=peak)))
    return str(folder / "base.json"), str(folder / "more.json")


def exits(words, stdout):
    """The exit code of a command that writes there, and what it says on stderr."""
    done = subprocess.run(
        [sys.executable, "-m", "attnlib.commands", *words], cwd=ROOT, stdout=stdout, stderr=subprocess.PIPE, text=True
    )
    return done.returncode, done.stderr


@pytest.mark.parametrize(("new", "code"), [(0, 0), (1, 1)])
def test_a_reader_that_leaves_changes_no_verdict(paths, new, code):
    """The verdict's code, and not a word, where the pipe is closed at the other end."""
    reader, writer = os.pipe()
    os.close(reader)

    found = exits(["compare", "--base", paths[0], "--new", paths[new], "--allow-undecided"], writer)
    os.close(writer)
    assert found == (code, "")


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="no /dev/full")  # noqa: PTH110
def test_a_full_disk_is_no_verdict(paths):
    """74 and a line, as where a session cannot be saved."""
    with open("/dev/full", "w") as full:  # noqa: PTH123
        code, said = exits(["compare", "--base", paths[0], "--new", paths[1]], full)

    assert code == 74
    assert len(said.splitlines()) == 1


def test_a_closed_output_is_no_error(paths):
    """A command whose output was closed before it began ends as with any other."""
    words = [sys.executable, "-m", "attnlib.commands", "compare", "--base", paths[0], "--new", paths[1]]

    assert subprocess.run(["sh", "-c", '"$@" >&-', "sh", *words], cwd=ROOT).returncode == 1


@pytest.mark.parametrize("words", [["nothing"], ["compare"], ["compare", "--threshold", "2"], ["costs", "--x"]])
def test_wrong_options_are_no_verdict(words):
    """A command line that cannot be read exits with 4, as pytest does."""
    with pytest.raises(SystemExit, match="4"):
        main(words)


@pytest.mark.parametrize(
    ("error", "code"),
    [(ValueError("wrong"), 4), (OSError("full"), 74), (KeyError("ours"), 70), (KeyboardInterrupt(), 130)],
)
def test_errors_are_no_verdict(paths, monkeypatch, capsys, error, code):
    """Wrong use, what cannot be written, a mistake of attnlib's and Ctrl-C each have their code, and say why."""

    def fail(_):
        raise error

    monkeypatch.setattr(tables, "cells_of", fail)
    assert main(["costs", paths[0]]) == code
    assert (str(error) or "interrupted") in capsys.readouterr().err


def test_an_unread_file_is_no_verdict(paths, tmp_path):
    """What can be read is shown, and the code is 4."""
    assert main(["costs", paths[0], str(tmp_path / "none.json")]) == 4
    assert main(["compare", "--base", *paths[:1], "--new", paths[0], str(tmp_path / "none.json")]) == 4
