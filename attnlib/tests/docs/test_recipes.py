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


@pytest.mark.parametrize(
    "name",  # the others with the long tests
    [
        "feed_forward",
        *(pytest.param(name, marks=pytest.mark.faults) for name in ("log_distance", "halved", "n-classes")),
    ],
)
def test_what_a_recipe_adds_is_measured_and_checked(followed, tmp_path, name):
    """Its commands pass: a train step is timed, and gradients hold against their theory."""
    for program, *words in shown(name):
        assert program == "pytest"
        own = ["-k", name] if name == "log_distance" else []  # of the checks that know no encoding there are tests
        done = followed(*own, folder=tmp_path, tests=words, small=["--budget", "0.02", "--visits", "1"])
        assert done.code == 0, done.out
        assert " passed" in done.out


DRAWN = ("fastest", "visit_spread")
PROGRAM = """
import sys
from attnlib.commands.__main__ import main
from attnlib.model.positional import POSITIONAL
print(POSITIONAL["log_distance"].__doc__)
for words in sys.argv[1:]:
    print("\\f", main(words.split("\\n")), "\\n")
"""


@pytest.fixture(name="printed", scope="module")
def _printed(checkout, tmp_path_factory):
    """Return what one process of the copy prints: of the new encoding, and as each command that shows what is new."""
    commands, out = [], str(tmp_path_factory.mktemp("figures"))
    for ((program, *words),) in map(shown, DRAWN):
        assert program == "attnlib"
        words = [word.replace("results/", f"{ROOT}/results/").replace("/tmp/figures", out) for word in words]
        commands.append("\n".join(words))
    command = [sys.executable, "-c", PROGRAM, *commands]
    done = subprocess.run(command, cwd=checkout, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.split("\f")


def test_what_a_recipe_adds_is_shown(printed):
    """A table and a figure of a committed run."""
    for place, name in enumerate(DRAWN):
        assert name in printed[place]
        assert printed[place + 1].split()[0] == "0"  # the exit code


def test_what_a_recipe_adds_is_there(checkout, printed):
    """Every file of a recipe exists, and the encoding has its name."""
    added = [block.text.partition("\n")[0].removeprefix("# ") for block in RECIPES if block.language == "python"]

    assert "KERPLE" in printed[0]
    assert all((checkout / name).is_file() for name in added if name.endswith(".py"))
