"""The recipes of docs/recipes.md, followed literally in a copy of the checkout."""

import shlex
import shutil
import subprocess
import sys

import pytest

from attnlib.tests import ROOT
from attnlib.tests.docs.reading import blocks
from attnlib.tests.plugin.sessions import Sessions

COPIED = ("attnlib", "bench", "conftest.py", "plots.py", "tox.ini", "pyproject.toml")
RECIPES = [block for block in blocks() if block.page == "recipes.md"]


@pytest.fixture(name="checkout", scope="module")
def _checkout(tmp_path_factory):
    """A copy with every file and line of the recipes."""
    folder = tmp_path_factory.mktemp("copy")
    for name in COPIED:
        if (ROOT / name).is_dir():
            shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(ROOT / name, folder / name)
    for block in RECIPES:
        first, _, rest = block.text.partition("\n")
        if first.startswith("# ") and first.endswith(".py"):
            path = folder / first.removeprefix("# ")
            path.write_text(patched(path.read_text(), rest) if block.language == "diff" else rest)
    return folder


def patched(text, diff):
    """The text with the lines that begin with + put behind the context that stands before them."""
    context, added = [], []
    for line in [*diff.splitlines(), " "]:
        if line.startswith("+"):
            added.append(line[1:])
            continue
        if added:
            anchor = "\n".join(context) + "\n"
            assert anchor in text, f"the recipe's context is gone: {anchor!r}"
            before, _, after = text.rpartition(anchor)
            text = before + anchor + "\n".join(added) + "\n" + after
            context, added = [], []
        context.append(line[1:])
    return text


@pytest.fixture(name="followed", scope="module")
def _followed(checkout, tmp_path_factory):
    with Sessions(tmp_path_factory.mktemp("sessions"), checkout) as sessions:
        yield sessions


def shown(name):
    """The words of each command of the recipes that has this name in it."""
    lines = [line for block in RECIPES if block.language == "sh" for line in block.text.splitlines() if name in line]
    assert lines
    return [shlex.split(line, comments=True) for line in lines]


@pytest.mark.parametrize("name", ["log_distance", "halved", "feed_forward", "ffn-mult"])
def test_what_a_recipe_adds_is_measured_and_checked(followed, tmp_path, name):
    """Its commands pass: a train step is timed, and gradients hold against their theory."""
    for program, *words in shown(name):
        assert program == "pytest"
        done = followed(folder=tmp_path, tests=words, small=["--budget", "0.02", "--visits", "1"])
        assert done.code == 0, done.out
        assert " passed" in done.out


@pytest.mark.parametrize("name", ["fastest", "visit_spread"])
def test_what_a_recipe_adds_is_shown(checkout, tmp_path, name):
    """A table and a figure of a committed run."""
    ((program, *words),) = shown(name)
    words = [word.replace("results/", f"{ROOT}/results/").replace("/tmp/figures", str(tmp_path)) for word in words]
    command = [sys.executable, "-m", "attnlib.commands", *words]
    done = subprocess.run(command, cwd=checkout, capture_output=True, text=True, check=False)

    assert program == "attnlib"
    assert done.returncode == 0, done.stderr
    assert name in done.stdout


def test_what_a_recipe_adds_is_there(checkout):
    """Every file of a recipe exists, and the encoding has its name."""
    added = [block.text.partition("\n")[0].removeprefix("# ") for block in RECIPES if block.language == "python"]
    code = "import attnlib.model.positional as p; print(p.POSITIONAL['log_distance'].__doc__)"
    done = subprocess.run([sys.executable, "-c", code], cwd=checkout, capture_output=True, text=True, check=True)

    assert "KERPLE" in done.stdout
    assert all((checkout / name).is_file() for name in added if name.endswith(".py"))
