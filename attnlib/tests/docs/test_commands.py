"""Every command of README and docs: its options are known, it selects tests, and the three everyday uses work."""

import configparser
import re
import subprocess
import sys

import pytest

from attnlib.cases.options import OPTIONS
from attnlib.cases.settings import Settings
from attnlib.commands import __main__ as attnlib_command
from attnlib.tests import ROOT
from attnlib.tests.docs.reading import PAGES, commands
from attnlib.tests.first_contact import __main__ as first_contact
from attnlib.tests.sweep import simulation

SHOWN = commands()
# What a copy must be changed for first; test_recipes.py runs these.
IN_A_COPY = ("log_distance", "halved", "feed_forward", "n-classes", "fastest", "visit_spread")
# in a repository of yours; test_examples.py runs such
ELSEWHERE = ("mylab", "pip install attnlib", "pytest tests/", "test_speed.py", "pytest --benchmark-autosave")
LONG = 120  # lines of README


def of(*start):
    """The commands here that begin so, without their beginning."""
    here = (words for words in SHOWN if not any(name in " ".join(words) for name in IN_A_COPY + ELSEWHERE))
    return [words[len(start) :] for words in here if words[: len(start)] == start]


def test_readme_is_short():
    """The first page fits three screens."""
    assert len(PAGES[0].read_text().splitlines()) <= LONG


def test_every_page_is_linked():
    """From README one link leads to each page of docs, and every link of a page leads somewhere."""
    import re

    for page in PAGES:
        targets = [t.partition("#")[0] for t in re.findall(r"\]\(([^)]+)\)", page.read_text()) if "://" not in t]
        assert all((page.parent / target).exists() for target in targets), page
        if page == PAGES[0]:
            assert all(f"docs/{other.name}" in targets for other in PAGES[1:] if other.parent.name == "docs")


@pytest.mark.parametrize("words", of("attnlib"), ids=" ".join)
def test_commands_on_saved_runs_are_parsed(words):
    """Subcommands and options exist; a subcommand without any may be only named."""
    if len(words) == 1:
        with pytest.raises(SystemExit, match="0"):
            attnlib_command.parsed([*words, "--help"])
    else:
        assert attnlib_command.parsed(list(words)).command == words[0]


@pytest.mark.parametrize("words", of("python", "plots.py") + of("python", "plots.py", "--out"), ids=" ".join)
def test_figures_are_parsed(words):
    """Options and names of figures exist."""
    assert attnlib_command.parsed(["draw", *words]).command == "draw"


@pytest.mark.parametrize("words", of("python", "-m", "attnlib.tests.sweep.simulation"), ids=" ".join)
def test_simulations_are_of_a_run(words, tmp_path):
    """It is there, and a few of its cells make a row of the table."""
    row = simulation.simulate(ROOT / words[0], cells=30, nodes=2, folder=tmp_path)

    assert (row["cells"], row["nodes"], row["shards"]) == (30, 2, 2)
    assert row["merging"] > 0


@pytest.mark.parametrize("words", of("python", "-m", "attnlib.tests.beside.trial"), ids=" ".join)
def test_trials_exist(words):
    """Each of its words is one of the trials."""
    assert set(words) <= {"same", "more", "agree"}


@pytest.mark.parametrize("words", of("python", "-m", "attnlib.tests.first_contact"), ids=lambda words: " ".join(words))
def test_the_script_for_a_card_takes_these_options(words):
    """They are parsed, and are of all steps."""
    assert first_contact.parsed(list(words)).step is None


@pytest.mark.parametrize("words", of("tox", "-e"), ids=" ".join)
def test_environments_exist(words):
    """``tox -e`` names one of tox.ini's."""
    tox = configparser.ConfigParser()
    tox.read(ROOT / "tox.ini")

    assert f"testenv:{words[0]}" in tox


def test_the_oldest_environment_has_the_oldest_versions():
    """``tox -e oldest`` runs on the floor of each dependency that pyproject.toml declares, and on nothing else."""
    listed = re.search(r"\ndependencies = \[\n(.*?)\n\]", (ROOT / "pyproject.toml").read_text(), re.DOTALL)[1]
    floors = re.findall(r'"([\w-]+)>=([\w.]+)"', listed)
    tox = configparser.ConfigParser(interpolation=None)
    tox.read(ROOT / "tox.ini")
    pins = re.sub(r"\{env:TORCH:(.*)\}", r"\1", tox["testenv:oldest"]["deps"]).split()

    assert len(floors) == listed.count('"') / 2
    assert sorted(pins) == sorted(f"{name}=={version}" for name, version in floors)


@pytest.mark.parametrize("words", of("pip", "install"), ids=" ".join)
def test_installations_are_of_this_checkout_or_of_tox(words):
    """Nothing else need be installed."""
    assert words[-1] == "tox" or words[-1].startswith(".")


def collectable():
    return of("pytest") + [("bench/", *words[1:]) for words in of("tox", "-e", "bench") if words[:1] == ("--",)]


@pytest.fixture(name="parser", scope="module")
def _parser(pytestconfig):
    """Pytest's own parser, with the options of its plugins and of ours."""
    return pytestconfig._parser


@pytest.mark.parametrize("words", collectable(), ids=" ".join)
def test_benchmarks_take_these_options(parser, words):
    """Every option exists, and its value is one that it takes."""
    options = parser.parse(["--order-seed=1", *(word for word in words if word != "--help")])
    given = {name: getattr(options, f"attnlib_{name}") for name in OPTIONS}

    assert Settings.from_options(given).seq_lens
    assert all((ROOT / path.partition("::")[0]).exists() for path in options.file_or_dir)


@pytest.mark.parametrize("words", [words for words in collectable() if "-k" in words], ids=" ".join)
def test_benchmarks_select_tests(sessions, tmp_path, words):
    """At least one test is chosen; nothing is measured here."""
    done = sessions("--collect-only", folder=tmp_path, tests=words, small=[])

    assert done.code == 0, done.out


def test_every_command_is_looked_at():
    """No program is shown that none of these tests knows."""
    known = [*of("attnlib"), *of("python", "plots.py"), *of("tox", "-e")]
    known += of("python", "-m", "attnlib.tests.sweep.simulation") + of("python", "-m", "attnlib.tests.beside.trial")
    known += of("python", "-m", "attnlib.tests.first_contact") + of("python", "-m", "attnlib.tests.gpu_preset")
    known += [*of("pip", "install"), *of("pytest"), *of("python3", "-m", "venv"), *of("pytest-benchmark")]

    others = [words for words in SHOWN if any(name in " ".join(words) for name in IN_A_COPY + ELSEWHERE)]

    assert len(known) + len(others) == len(SHOWN)
    assert len(SHOWN) >= 30


def test_measure_compare_redraw(sessions, tmp_path):
    """The everyday uses, one after another: measure twice, compare, redraw, and pytest-benchmark's own table."""
    for seed in ("1", "2"):
        options = ["--benchmark-autosave", f"--order-seed={seed}"]
        assert sessions(*options, folder=tmp_path, tests=["bench/test_train_step.py"]).code == 0
    runs = [str(path) for path in sorted(tmp_path.rglob("*.json"))]

    def code(*words):
        return subprocess.run([sys.executable, *words], cwd=ROOT, capture_output=True, check=False).returncode

    assert attnlib_command.main(["compare", "--base", runs[0], "--new", runs[1], "--allow-undecided"]) == 0
    assert attnlib_command.main(["encodings", *runs]) == 0
    assert code("plots.py", *runs, "--only", "encoding_cost", "--out", str(tmp_path / "figures")) == 0
    assert (tmp_path / "figures" / "encoding_cost.png").stat().st_size > 10_000
    assert code("-m", "pytest_benchmark", f"--storage=file://{tmp_path}", "compare") == 0
