"""Files for those who cite attnlib or read its runs by another program: they agree with the release and the code."""

import json
import re

import pytest
import yaml

import attnlib
from attnlib.commands.__main__ import main
from attnlib.runs.json_schema import json_schema
from attnlib.tests import ROOT
from attnlib.tests.docs.reading import blocks

RUNS = sorted((ROOT / "results" / "reference").rglob("*.json"))
# one of each folder, and the others, which take seconds each, with the long tests
ONE_OF_EACH = [
    pytest.param(path, marks=[pytest.mark.faults] * (any(path.parent == other.parent for other in RUNS[:place])))
    for place, path in enumerate(RUNS)
]


@pytest.fixture(name="validator", scope="module")
def _validator():
    jsonschema = pytest.importorskip("jsonschema")
    schema = json_schema()
    jsonschema.Draft202012Validator.check_schema(schema)
    return jsonschema.Draft202012Validator(schema)


def test_the_citation_is_of_this_release():
    """Version, licence and description are those of the package; the authors are those of the licence."""
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    _, _, project = (ROOT / "pyproject.toml").read_text().partition("\n[project]\n")
    project = dict(re.findall(r'^(\w+) = "([^"]*)"$', project.partition("\n[")[0], re.MULTILINE))

    assert citation["cff-version"] == "1.2.0"
    assert citation["message"]
    assert citation["version"] == attnlib.__version__
    assert (citation["title"], citation["license"]) == (project["name"], project["license"])
    assert citation["abstract"] == project["description"]
    assert all(author["name"] in (ROOT / "LICENSE").read_text() for author in citation["authors"])


def test_the_schemas_file_is_that_of_the_code(capsys):
    """docs/run.schema.json is what ``attnlib schema`` prints; after a change of the contract write it anew."""
    assert main(["schema"]) == 0

    assert (ROOT / "docs" / "run.schema.json").read_text() == capsys.readouterr().out


@pytest.mark.parametrize("path", ONE_OF_EACH, ids=lambda path: path.stem)
def test_committed_runs_keep_the_schema(validator, path):
    """A validator that knows nothing of attnlib finds no error in a run."""
    run = json.loads(path.read_text())

    assert [f"{error.json_path}: {error.message}" for error in validator.iter_errors(run)] == []


def broken(run, *place, value):
    """Return a run's JSON with another value at a place."""
    copy = json.loads(json.dumps(run))
    node = copy
    for key in place[:-1]:
        node = node[key]
    node[place[-1]] = value
    return copy


def test_a_broken_run_breaks_the_schema(validator):
    """Each kind of row is looked into: a planned case, a benchmark, and the number of the schema."""
    run = json.loads(RUNS[0].read_text())
    run["benchmarks"], run["attnlib"]["cases"] = run["benchmarks"][:1], run["attnlib"]["cases"][:1]
    wrong = [
        broken(run, "attnlib", "schema", value=1),
        broken(run, "attnlib", "cases", 0, "status", value="fine"),
        broken(run, "benchmarks", 0, "stats", "data", value=[-1.0]),
        broken(run, "benchmarks", 0, "extra_info", "case", "seq_len", value=0),
    ]

    assert validator.is_valid(run)
    assert [validator.is_valid(one) for one in wrong] == [False] * 4


def test_the_methods_paragraph_is_what_its_command_prints(capsys):
    """docs/report.md shows the paragraph of the committed runs; after other runs, paste what is printed."""
    runs = sorted((ROOT / "results" / "reference").glob("*.json"))
    shown = [block.text for block in blocks("") if block.text.startswith("Times and memory were measured")]

    assert main(["methods", *map(str, runs)]) == 0
    assert shown == [capsys.readouterr().out]
