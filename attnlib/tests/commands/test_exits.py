"""Exit codes: 1 and 2 are verdicts, whatever becomes of the output; everything else has a code of its own."""

import json
import os
import subprocess
import sys

import pytest

from attnlib.commands import tables
from attnlib.commands.__main__ import main
from attnlib.show.registry import TABLES
from attnlib.tests import ROOT
from attnlib.tests.runs.examples import saved


@pytest.fixture(name="paths", scope="module")
def _paths(tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs")
    for name, peak in (("base", 1000), ("more", 1001)):
        (folder / f"{name}.json").write_text(json.dumps(saved(peak=peak)))
    return str(folder / "base.json"), str(folder / "more.json")


def exits(words, stdout, **more):
    """The exit code of a command that writes there, and what it says on stderr."""
    command = [sys.executable, "-m", "attnlib.commands", *words]
    done = subprocess.run(command, stdout=stdout, stderr=subprocess.PIPE, text=True, **{"cwd": ROOT} | more)
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
@pytest.mark.parametrize("words", [["compare"], ["--help"], ["costs", "--help"]])
def test_a_full_disk_is_no_verdict(paths, words):
    """74 and a line, as where a session cannot be saved; of a help too."""
    if words == ["compare"]:
        words = ["compare", "--base", paths[0], "--new", paths[1]]
    with open("/dev/full", "w") as full:  # noqa: PTH123
        code, said = exits(words, full)

    assert code == 74
    assert len(said.splitlines()) == 1


@pytest.mark.skipif(os.name != "posix", reason="pipes always block")
def test_a_full_pipe_that_does_not_block(paths):
    """74 and a line: the output ends where the reader was too slow, and goes on nowhere."""
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    os.write(writer, b"x" * 10**6)  # as much as it holds
    code, said = exits(["export", "--csv", paths[0]], writer)
    os.close(reader)
    os.close(writer)

    assert code == 74
    assert len(said.splitlines()) == 1


@pytest.mark.skipif(os.name != "posix", reason="no folder can be deleted while a process is in it")
@pytest.mark.parametrize("words", [["list"], ["costs"], ["draw"], ["compare", "--base", "x", "--new", "x"]])
def test_a_deleted_folder_is_no_verdict(tmp_path, words):
    """4 and a line, where commands that load torch too were ended by its libraries with 2."""
    gone = tmp_path / "gone"
    gone.mkdir()
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    found = exits(words, subprocess.DEVNULL, cwd=gone, env=environment, preexec_fn=gone.rmdir)

    assert found == (4, "attnlib: the current folder was deleted; start in another one\n")


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


READERS = [
    *([name] for name in (*TABLES, "machines", "scaling", "draw", "merge", "methods", "share")),
    *(["export", "--csv"], ["publish", "--wandb"], ["sweep", "--status"], ["sweep", "--resume"]),
    *(["compare", "--base", "BASE", "--new"], ["compare", "--new", "BASE", "--base"]),
]
UNREAD = {"absent": "none.json", "a folder": "folder", "beneath a file": "bad.json/x", "too long": "x" * 300}


@pytest.mark.parametrize("name", [*UNREAD.values(), "bad.json"], ids=[*UNREAD, "cut"])
@pytest.mark.parametrize("words", READERS, ids=" ".join)
def test_what_cannot_be_read_is_wrong_use(paths, tmp_path, monkeypatch, capsys, words, name):
    """Every command that reads runs exits with 4, and a line names the file."""
    (tmp_path / "folder").mkdir()
    (tmp_path / "bad.json").write_text("{")
    monkeypatch.chdir(tmp_path)

    assert main([*(paths[0] if word == "BASE" else word for word in words), name]) == 4
    assert name[:40] in capsys.readouterr().err


def test_an_unread_file_is_no_verdict(paths, tmp_path):
    """Files that can be read are shown, and the code is 4."""
    assert main(["costs", paths[0], str(tmp_path / "none.json")]) == 4
    assert main(["compare", "--base", *paths[:1], "--new", paths[0], str(tmp_path / "none.json")]) == 4
    reference = ROOT / "results" / "reference" / "laptop-cpu-1.json"
    assert main(["scaling", str(reference), str(tmp_path / "none.json")]) == 4


@pytest.mark.parametrize("words", [["merge", "RUN"], ["export", "--csv", "RUN"], ["draw", "RUN", "--only", "memory"]])
def test_what_cannot_be_written(tmp_path, capsys, words):
    """74 and the name, whichever command writes."""
    run, out = ROOT / "results" / "reference" / "laptop-cpu-1.json", tmp_path / "file" / "out"
    out.parent.touch()

    assert main([*(str(run) if word == "RUN" else word for word in words), "--out", str(out)]) == 74
    assert f"{out}: Not a directory" in capsys.readouterr().err


def test_an_import_path_that_cannot_be_looked_at(capsys):
    """A name that no folder can have is wrong use, and named."""
    assert main(["predict", "--import-path", "x" * 300]) == 4
    assert "--import-path xxx" in capsys.readouterr().err
