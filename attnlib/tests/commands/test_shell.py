"""Help with examples, names, completion, colour: what a shell sees."""

import os
import re
import shlex
import subprocess
import sys

import pytest

from attnlib.cases.settings import PRESETS
from attnlib.commands.__main__ import COMMANDS, main, parsed
from attnlib.commands.listing import listing
from attnlib.model.attention import INITS
from attnlib.model.blocks import BLOCKS
from attnlib.model.config import LISTED
from attnlib.model.positional import POSITIONAL
from attnlib.show.registry import TABLES
from attnlib.show.table import Column, Table
from attnlib.tests import ROOT

NAMES = [name for module in COMMANDS for name in (TABLES if "tables" in module.__name__ else [module.__name__])]
WORDS = ["list" if "listing" in name else name.rpartition(".")[2] for name in NAMES]


@pytest.mark.parametrize("command", WORDS)
def test_every_command_shows_an_example_that_it_takes(capsys, command):
    """Help ends with a line that can be typed."""
    with pytest.raises(SystemExit, match="0"):
        main([command, "--help"])
    _, _, example = capsys.readouterr().out.partition("example: ")
    words = shlex.split(re.search(r"attnlib [^)\"]*", example)[0].replace("\n", " "))

    assert words[:2] == ["attnlib", command]
    assert parsed(words[1:]).command == command


def test_every_name_is_described():
    """Encodings, blocks, switches, presets and all others: a line and a source each."""
    found = listing()

    assert tuple(found) == LISTED
    assert [name for name, *_ in found["pe"]] == list(POSITIONAL)
    assert [name for name, *_ in found["block"]] == list(BLOCKS)
    assert [name for name, *_ in found["init"]] == list(INITS)
    assert [name for name, *_ in found["preset"]] == list(PRESETS)
    for name, what, source in (entry for entries in found.values() for entry in entries):
        assert len(what) > 10, name
        assert source.startswith("arXiv ") or (ROOT / source).is_file(), name


def test_a_description_that_python_dropped_is_said(monkeypatch):
    """With -OO no docstring is left."""
    monkeypatch.setattr(BLOCKS["plain"], "__doc__", None)

    assert "-OO" in listing()["block"][0][1]


def test_bad_names_lead_to_the_list(capsys):
    """A name that is none says where they are described; the list takes one kind and refuses others."""
    assert main(["predict", "pe=ropee"]) == 4
    assert "; attnlib list says what they are" in capsys.readouterr().err
    assert main(["list", "block"]) == 0
    shown = capsys.readouterr().out
    assert "arXiv 2002.04745" in shown
    assert "sinusoidal" not in shown
    assert main(["list", "blocks"]) == 4
    assert "unknown kind 'blocks'; choose from pe, block" in capsys.readouterr().err


@pytest.mark.parametrize("shell", ["bash", "zsh", "tcsh"])
def test_completion_knows_every_command(capsys, shell):
    """A script for each shell; bash itself finds no error in its own."""
    assert main(["completion", shell]) == 0
    script = capsys.readouterr().out

    assert all(word in script for word in WORDS)
    if shell == "bash":
        assert subprocess.run(["bash", "-n"], input=script, text=True).returncode == 0


def test_colour_only_on_a_terminal(capsys):
    """Nothing but text goes into a pipe; a terminal gets bold."""
    Table({"a": Column()}, [{"a": 1}], before=["bold"]).print()
    assert "\x1b" not in capsys.readouterr().out
    if sys.platform == "win32":
        pytest.skip("no pseudo-terminals")
    import pty

    show = "from attnlib.show.table import *; Table({'a': Column()}, [{'a': 1}], before=['bold']).print()"
    master, slave = pty.openpty()
    env = os.environ | {"TERM": "xterm-256color"}
    subprocess.run([sys.executable, "-c", show], stdout=slave, env=env, cwd=ROOT, check=True)
    assert b"\x1b[1m" in os.read(master, 10_000)
    os.close(master)
    os.close(slave)
