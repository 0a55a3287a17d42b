"""The examples: complete repositories of somebody else's, with the wheel and without this checkout."""

import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from attnlib.commands.__main__ import main
from attnlib.runs.load import load
from attnlib.tests import ROOT
from attnlib.tests.beside.projects import LIGHT

EXAMPLES = ROOT / "examples"
SMALL = [*LIGHT, "--seq-lens", "8,16", "--depths", "1", "--budget", "0.02", "--visits", "1", "-q"]
QUICK = [*LIGHT, "--beside-budget", "0.05", "--beside-visits", "2", "-k", "backward"]
SHOWN = {  # options that make it quick, a part of what its table shows, and its figure
    "own-encoding": ([*SMALL, "-k", "HalfRotary"], "HalfRotary", "time_against_seq_len"),
    "own-attention": (SMALL, "time over that of attention=sdpa", "time_against_seq_len"),
    "own-model": (SMALL, "torch_encoder", "time_against_seq_len"),
    "own-suite": (QUICK, "adds at its peak", "beside"),
}


def commands(readme):
    """Return the commands of a README's first block of shell, as words."""
    (block,) = re.findall(r"```sh\n(.*?)```", readme.read_text(), re.DOTALL)
    return [shlex.split(line, comments=True) for line in block.splitlines()]


@pytest.mark.faults  # with the long tests
@pytest.mark.parametrize("name", SHOWN)
def test_three_commands_to_a_figure(name, site, tmp_path, capsys):
    """Install, measure, draw: as its README says, in a copy of its folder."""
    folder = tmp_path / name
    shutil.copytree(EXAMPLES / name, folder)
    install, measure, draw = commands(EXAMPLES / name / "README.md")
    bin_, environment = Path(sys.executable).parent, os.environ | {"PYTHONPATH": str(site)}

    def run(program, *words):
        done = subprocess.run(
            [str(bin_ / program), *words], cwd=folder, env=environment, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    assert install == ["pip", "install", "attnlib"]
    quick, shown, figure = SHOWN[name]
    run(*measure, *quick)
    drawn = run(*draw)
    (saved,) = folder.glob("results/*/*.json")

    assert main(["costs", str(saved)]) == 0
    assert shown in capsys.readouterr().out
    assert f"results/figures/{figure}.png" in drawn
    assert all(cell.status == "ok" for cell in load(saved).cells)
    assert len((folder / "README.md").read_text().splitlines()) <= 20


def test_every_example_is_listed():
    """The table in examples/README.md has each folder."""
    listed = re.findall(r"\[([\w-]+)\]\(\1\)", (EXAMPLES / "README.md").read_text())

    assert sorted(listed) == sorted(path.name for path in EXAMPLES.iterdir() if path.is_dir())
