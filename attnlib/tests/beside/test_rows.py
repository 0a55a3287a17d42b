"""Calls measured beside others in saved runs: the contract, tables, figures and comparisons, on known numbers."""

import copy
import json

import pytest

from attnlib.compare.beside import axis_of, lines_along, points
from attnlib.compare.cells import Cells
from attnlib.compare.saved import compare
from attnlib.runs import journal
from attnlib.runs.find import check_agreement, joined, results
from attnlib.runs.journal import assemble, events
from attnlib.runs.load import BadRun, load
from attnlib.runs.save import as_json
from attnlib.runs.schema import problems
from attnlib.show.beside import beside_tables
from attnlib.show.figures.beside import beside
from attnlib.show.figures.files import drawn
from attnlib.show.report.page import page
from attnlib.sweep.merge import Merged
from attnlib.tests.runs.examples import reading, saved

TEST = "tests/bench/test_mine.py::test_rotary"


def row(n, ratio, *, kind="a", peak=1000, **more):
    """A row of a test with two parameters."""
    found = {
        "ratio": {"value": ratio, "low": ratio * 0.99, "high": ratio * 1.01},
        "seconds": ratio * n * 1e-3,
        "reference_seconds": n * 1e-3,
        "verdict": "same" if ratio < 1.03 else "slower",
        "threshold": 0.05,
        "peak": reading(peak),
        "reference_peak": reading(900),
        "log_ratios": [0.0] * 8,
    }
    params = {"n": n, "kind": kind}
    return {"test": f"{TEST}[{n}-{kind}]", "params": params, "status": "ok", "reason": None, "found": found} | more


def benchmark(own):
    """Return what pytest-benchmark saves of a call, with the rounds of both sides."""
    visit = {"log_ratio": 0.0, "interval": [0.9, 1.1], "rounds": 2}
    rounds = {"reference_s": [1.0, 2.0], "visits": [visit]}
    return {"fullname": own["test"], "extra_info": {"schema": 2, "beside": rounds}, "stats": {"data": [1.0, 2.0]}}


def run_of(rows, *, token="a", cases=False):
    """A saved run of these rows, alone or beside cases."""
    run = saved()
    if not cases:
        run["benchmarks"], run["attnlib"]["cases"] = [], []
    run["benchmarks"] += [benchmark(own) for own in rows if own["status"] == "ok"]
    run["attnlib"] |= {"schema": 2, "run": token, "beside": rows}
    return run


ROWS = [row(64, 1.0), row(128, 1.1), row(64, 1.2, kind="b"), row(128, 1.3, kind="b")]
FAILED = row(256, 2.0, status="error", reason="assert 2.0 < 1.05")
RAISED = {key: value for key, value in row(512, 1.0).items() if key != "found"} | {
    "status": "error",
    "reason": "the call raised KeyError",
}


@pytest.fixture(name="saved_run")
def _saved_run(tmp_path):
    """Save a run under a name and read it."""

    def save(rows, name="0001_x", **more):
        path = tmp_path / f"{name}.json"
        path.write_bytes(as_json(run_of(rows, **more)))
        return load(path)

    return save


def test_the_contract_holds_with_and_without_cases():
    """A run may have such rows alone, failed ones keep what was found, and cases may stand beside them."""
    assert problems(run_of([*ROWS, FAILED, RAISED])) == []
    assert problems(run_of(ROWS, cases=True)) == []


def broken(path, value):
    own = copy.deepcopy(row(64, 1.0))
    *inner, last = path
    place = own
    for key in inner:
        place = place[key]
    place[last] = value
    return own


@pytest.mark.parametrize(
    ("own", "message"),
    [
        (broken(["found", "ratio", "low"], 1.1), "found.ratio has no interval that holds its value"),
        (broken(["found", "verdict"], "equal"), "verdict"),
        (broken(["found", "peak", "value"], None), "found.peak is null without a reason"),
        (broken(["found"], None), "ok without a finding"),
        (broken(["found", "seconds"], -1.0), "seconds"),
        (broken(["params", "n"], [1]), "params"),
        (broken(["reason"], None) | {"status": "error"}, "status error without a reason"),
    ],
)
def test_what_breaks_it_is_named(own, message):
    """Each in a line with the test's id or the place."""
    (line, *_) = problems(run_of([own]))

    assert message in line


def test_twins_and_lost_rounds_are_named():
    """A test is there once, and has as many rounds as its reference."""
    assert problems(run_of([ROWS[0], ROWS[0]])) != []
    run = run_of(ROWS)
    run["benchmarks"][0]["stats"]["data"] = [1.0]
    found = problems(run)

    assert found[0] == f"{TEST}[64-a]: stats.data has 1 rounds, reference_s has 2"


def test_a_journal_holds_them(tmp_path):
    """Rows are assembled from their plan and ends; one without an end says so."""
    head = {key: value for key, value in saved().items() if key not in ("benchmarks", "attnlib")}
    ours = {"schema": 2, "axes": {"pe": [], "block": []}}
    tests = [journal.Planned(test=own["test"], beside=own["params"]) for own in ROWS[:2]]
    plan = journal.Plan(run="ab", name="x", fingerprint={}, settings={}, head=head, ours=ours, tests=tests)
    book = journal.Journal.create(tmp_path / "x.journal", plan)
    book.write(journal.Start(test=ROWS[0]["test"], at_s=0.0))
    became = {key: ROWS[0][key] for key in ("status", "reason", "found")}
    book.write(journal.Finish(test=ROWS[0]["test"], at_s=1.0, row=became, benchmark=benchmark(ROWS[0])))
    book.close()
    run = assemble(events(book.path.read_bytes()))
    first, second = load(book.path).beside

    assert problems(run) == []
    assert (first.found.ratio.value, first.params) == (1.0, {"n": 64, "kind": "a"})
    assert (second.status, second.reason) == ("interrupted", "the run ended before it")


def test_parameters_are_the_axes_of_tables(saved_run):
    """A table a test, a line a combination, with ratio, verdict, times, bytes, and a status where it is not ok."""
    (table,) = beside_tables(Cells([saved_run([*ROWS, FAILED])]))
    texts = table.texts()

    assert table.before == [TEST]
    assert [(line["n"], line["kind"]) for line in texts[:2]] == [("64", "a"), ("128", "a")]
    assert texts[1]["over its reference"] == "1.100 [1.089, 1.111]"
    assert (texts[1]["verdict"], texts[1]["time"], texts[1]["time of the reference"]) == ("slower", "141 ms", "128 ms")
    assert (texts[0]["status"], texts[4]["status"]) == ("-", "error: assert 2.0 < 1.05")


def test_several_runs_are_one_line(saved_run):
    """The ratio is the geometric mean over them."""
    runs = [saved_run([row(64, ratio)], name, token=name) for name, ratio in (("0001_x", 1.0), ("0002_x", 1.21))]
    (table,) = beside_tables(Cells(runs))

    assert table.texts()[0]["over its reference"].startswith("1.100 [")


def test_the_figure_is_drawn_along_numbers(saved_run):
    """Along the parameter with most numbers, a line for each combination of the others; none without numbers."""
    ((_, own),) = points([saved_run(ROWS)]).items()

    assert axis_of(own) == "n"
    assert {name: [x for x, _ in line] for name, line in lines_along(own, "n").items()} == {
        "kind=a": [64.0, 128.0],
        "kind=b": [64.0, 128.0],
    }
    with drawn():
        figure = beside(Cells([saved_run(ROWS)]))
        assert beside(Cells([saved_run(ROWS[:1])])) is None
    assert [line.get_label() for line in figure.axes[0].get_lines()][:2] == ["kind=a", "kind=b"]


def test_the_report_shows_them(saved_run):
    """A page of a run without any case has their table."""
    html = page(Cells([saved_run([*ROWS, RAISED])]), [], None)

    assert TEST in html
    assert "1.100 [1.089, 1.111]" in html
    assert "the call raised KeyError" in html


def sides(saved_run, before, after, count=6):
    """Two sets of runs of one test."""
    return [
        [saved_run([row(64, ratio * (1 + 0.001 * n), **more)], f"{name}{n}", token=f"{name}{n}") for n in range(count)]
        for name, (ratio, more) in (("base", before), ("new", after))
    ]


def test_runs_are_compared_by_their_ratios(saved_run):
    """A test is a case by its id: its ratio decides, its bytes exactly; one that is gone is named."""
    base, new = sides(saved_run, (1.0, {}), (1.3, {"peak": 1001}))
    found = compare(base, new)
    (own,) = found.rows

    assert (own.verdict.word, own.label, own.changes) == ("slower", "test_rotary n=64 kind=a", ("bytes 1000 -> 1001",))
    assert found.phases["test_rotary over its reference"].word == "slower"
    assert found.exit_code() == 1
    base, new = sides(saved_run, (1.0, {}), (1.0, {}))
    assert compare(base, new).exit_code() == 0
    gone = [saved_run([row(128, 1.0)], f"other{n}", token=f"other{n}") for n in range(6)]
    assert [one.changes for one in compare(base, gone).rows] == [("only in base",), ("only in new",)]


def test_parts_of_a_run_are_one(saved_run):
    """For each test the row that came furthest counts."""
    ended = {**RAISED, "status": "interrupted", "reason": "the run ended in it"}
    parts = [saved_run([own], name) for own, name in ((ended, "0001_x"), (row(512, 1.0), "0002_x"))]

    assert [one.status for one in joined(parts).beside] == ["ok"]
    check_agreement(parts)
    with pytest.raises(BadRun, match="different numbers of"):
        check_agreement([*parts, saved_run([row(512, 1.1)], "0003_x")])


def test_runs_are_found_from_any_folder_inside(tmp_path, monkeypatch):
    """The nearest results/ with a saved run in it, here or above."""
    inside = tmp_path / "src" / "deep"
    inside.mkdir(parents=True)
    (tmp_path / "results" / "platform").mkdir(parents=True)
    (tmp_path / "src" / "results").mkdir()
    monkeypatch.chdir(inside)
    assert results() != tmp_path / "results"
    (tmp_path / "results" / "platform" / "0001_x.json").touch()

    assert results() == tmp_path / "results"


def part_of(rows, number):
    """A part of a sweep with these rows."""
    run = run_of(rows, token=f"part{number}")
    same = {"kind": {}, "theory": {}, "data": {}, "settings": {}, "command": ["pytest"]}
    run["attnlib"] |= same | {"processes": [{"node": "here"}]}
    return run


def test_parts_of_a_sweep_bring_their_rows(tmp_path):
    """Each test is there once, with its process; one that no part measured is refused, or a row that says so."""
    paths = [tmp_path / f"{number}.json" for number in range(2)]
    for number, path in enumerate(paths):
        path.write_bytes(as_json(part_of([ROWS[number] | {"process": 0}], number)))
    planned = [journal.Planned(test=own["test"], beside=own["params"]) for own in ROWS[:3]]
    with pytest.raises(ValueError, match="1 of 3 tests are missing"):
        list(Merged("ab", planned, partial=False).chunks(paths))
    run = json.loads(b"".join(Merged("ab", planned, partial=True).chunks(paths)))

    assert problems(run) == []
    assert [(own["status"], own.get("process")) for own in run["attnlib"]["beside"]] == [
        ("ok", 0),
        ("ok", 1),
        ("interrupted", None),
    ]
    with pytest.raises(ValueError, match="measured twice"):
        list(Merged("ab", None, partial=False).chunks([paths[0], paths[0]]))
