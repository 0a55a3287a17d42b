"""The recipe for continuous integration: a workflow that parses, and whose commands exist."""

import re
import shlex

import pytest
import yaml

from attnlib.commands.__main__ import main, parsed
from attnlib.commands.options import FAILURE, OUTPUT, USAGE
from attnlib.tests import ROOT
from attnlib.tests.docs.reading import blocks


@pytest.fixture(name="steps", scope="module")
def _steps():
    (block,) = blocks("yaml")
    workflow = yaml.safe_load(block.text)
    assert workflow[True] == "pull_request"  # YAML reads the key `on` so
    (job,) = workflow["jobs"].values()
    return job["steps"]


def test_both_sides_are_in_one_job(steps):
    """Base and head are checked out, installed and measured by the steps of one machine."""
    folders = [step["with"]["path"] for step in steps if step.get("uses", "").startswith("actions/checkout")]

    assert sorted(folders) == ["base", "head"]
    assert all("run" in step or "uses" in step for step in steps)


def test_the_measuring_command_is_known(steps):
    """Its options exist, it measures base against head, and prints Markdown."""
    lines = [line for step in steps for line in step.get("run", "").splitlines() if "bin/attnlib ab" in line]
    (line,) = lines
    words = shlex.split(line.partition(">")[0])
    options = parsed(words[1:])

    assert words[0].endswith("bin/attnlib")
    assert (options.base.name, options.new.name, options.markdown) == ("base", "head", True)
    assert options.budget == 300


def test_a_regression_fails_after_the_comment(steps):
    """The table is posted whatever it says; then the job fails where the exit code was 1."""
    names = [step.get("name") for step in steps]

    assert names.index("Comment") < names.index("Fail where it is slower")
    assert "outputs.code == '1'" in steps[-1]["if"]


def printed(capsys, *words):
    """The help of attnlib, or of one of its commands."""
    with pytest.raises(SystemExit, match="0"):
        main([*words, "--help"])
    return capsys.readouterr().out


def test_exit_codes_are_those_of_the_commands(capsys):
    """The commands that may end with 1 or 2 are those whose help says with which codes they end."""
    page = (ROOT / "docs" / "ci.md").read_text()
    rows = re.findall(r"^\| ([\d, ]+) \| (.+?) \|", page, re.MULTILINE)
    listed = {name for codes, of in rows if codes[0] in "12" for name in re.findall(r"`attnlib (\w+)`", of)}
    names = re.search(r"\{([\w,-]+)\}", printed(capsys))[1].split(",")

    assert listed == {name for name in names if "Exit code:" in " ".join(printed(capsys, name).split())}
    assert {str(code) for code in (USAGE, FAILURE, OUTPUT)} == {codes for codes, of in rows if of == "every command"}
