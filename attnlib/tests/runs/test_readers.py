"""Files that are not what they should be: one line for each, no traceback, and nothing of theirs acts on the reader."""

import copy
import json
import os
import re
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings

import plots
from attnlib.commands.__main__ import main
from attnlib.compare.cells import Cells
from attnlib.compare.saved import compare
from attnlib.runs.journal import SUFFIX
from attnlib.runs.load import BadRun, load
from attnlib.runs.text import UNPRINTABLE
from attnlib.show.comparison import compared
from attnlib.show.figures import FIGURES, find_figure
from attnlib.show.registry import TABLES
from attnlib.show.report.page import page
from attnlib.show.scaling import by_length
from attnlib.show.tidy import tidy
from attnlib.tests.runs.fuzzing import GOOD, JOURNAL, contents

EVIL = "\x1b]0;owned\x07<script>$\\evil_{</script>|[red]\u202e"


def loaded(path):
    """The run, or the words of its refusal."""
    try:
        return load(path)
    except BadRun as error:
        return str(error)


def read_everywhere(path, other, figures=False):
    """Read a file as ``attnlib`` and ``plots.py`` do; True if it was good."""
    run = loaded(path)
    if isinstance(run, str):
        assert run.startswith(str(path))
        assert not UNPRINTABLE.search(run)
        return False
    cells = Cells([other, run])
    comparison = compare([run] * 6, [other] * 6)
    tables = [*(table for make, _ in TABLES.values() for table in make(cells)), compared(comparison)]
    said = [[table.before, table.texts(), table.after] for table in tables] + [comparison.as_json()]
    said += [tidy([other, run]), page(cells, [], comparison)]
    assert not UNPRINTABLE.search(json.dumps(said, ensure_ascii=False))
    if figures:
        by_length(cells, depth=2).texts()
        for figure in map(find_figure, FIGURES):
            drawn = figure(cells)
            if drawn is not None:
                drawn.draw_without_rendering()
    return True


@pytest.fixture(name="good")
def _good(tmp_path):
    path = tmp_path / "good.json"
    path.write_text(json.dumps(GOOD | {"attnlib": GOOD["attnlib"] | {"run": "another"}}))
    return path


@pytest.mark.parametrize("examples", [60, pytest.param(20_000, marks=pytest.mark.faults)])
def test_the_loader_survives_anything(tmp_path, good, examples):
    """Whatever is in a file, it is a good run for every reader, or one line: no traceback, no hang."""
    found, other = [], load(good)
    every = settings(deadline=5000, database=None, derandomize=True, suppress_health_check=list(HealthCheck))

    @settings(every, max_examples=examples)
    @given(contents())
    def fuzz(content):
        path = tmp_path / f"run{content.ending}"
        path.write_bytes(content.data)
        found.append(read_everywhere(path, other, figures=examples > 60 and sum(content.data) % 20 == 0))

    fuzz()
    assert len(found) >= examples
    assert 0.3 < sum(found) / len(found) < 0.8  # half of them reach tables, comparisons and figures


@pytest.mark.parametrize("events", [2, len(JOURNAL) - 2])
def test_unfinished_runs_are_drawn(tmp_path, good, events):
    """Whatever is finished yet, every reader copes, and a case without a time shows its status."""
    path = tmp_path / f"run{SUFFIX}"
    path.write_bytes(b"".join(json.dumps(event).encode() + b"\n" for event in JOURNAL[:events]))

    assert read_everywhere(path, load(good), figures=True)


def changed(change):
    run = copy.deepcopy(GOOD)
    change(run)
    return json.dumps(run).encode()


BAD = {
    "not JSON: Input data was truncated": b"",
    "not JSON: Input data was truncated ": json.dumps(GOOD).encode()[:20_000],
    "not JSON: ": b'{"a": "\xff\xfe"}',
    "not a JSON object": b"[]",
    "no 'attnlib' section: not a run of this suite": b'{"machine_info": {}, "benchmarks": []}',
    "schema 99, this version reads 1": changed(lambda r: r["attnlib"].update(schema=99)),
    "schema True, this version reads 1": changed(lambda r: r["attnlib"].update(schema=True)),
    "not JSON: JSON is malformed: invalid character": changed(lambda r: r.update(x=float("inf"))),
    "not JSON: Number out of range": b'{"a": 1e999}',
    "nested more than 64 deep": changed(lambda r: r.update(x=json.loads("[" * 100 + "]" * 100))),
    "not JSON": b"[" * 200_000,
    "is there 2 times": changed(lambda r: r["attnlib"]["cases"].append(r["attnlib"]["cases"][0])),
    "Object missing required field `seq_len`": changed(lambda r: r["attnlib"]["cases"][0]["case"].pop("seq_len")),
    "Expected `int`, got `str`": changed(lambda r: r["attnlib"]["cases"][0]["case"].update(seq_len="64")),
    "ok without a time": changed(lambda r: r["benchmarks"].pop(0)),
    "pe 'spiral' is not on its axis": changed(lambda r: r["attnlib"]["cases"][0]["case"].update(pe="spiral")),
    "its time is another case's": changed(lambda r: r["benchmarks"][0]["extra_info"]["case"].update(depth=3)),
    "probe: Expected `object | null`, got `int`": changed(lambda r: r["benchmarks"][0]["extra_info"].update(probe=3)),
    "case.seq_len: Expected `int` <= ": changed(lambda r: r["attnlib"]["cases"][0]["case"].update(seq_len=2**70)),
    "benchmarks: Expected `array`, got `object`": changed(lambda r: r.update(benchmarks={})),
}


@pytest.mark.parametrize("message", BAD)
def test_bad_files_are_named_and_good_ones_used(tmp_path, good, capsys, message):
    """One line for the bad file, exit code 4, and the good one beside it is read."""
    bad = tmp_path / "bad.json"
    bad.write_bytes(BAD[message])
    codes = [main(["findings", str(bad), str(good)]), main(["compare", "--base", str(good), "--new", str(bad)])]
    out, err = capsys.readouterr()
    lines = [line for line in err.splitlines() if line.startswith(f"attnlib: {bad}: ")]

    assert codes == [4, 4]
    assert len(lines) == 2
    assert all(message.strip() in line for line in lines)
    assert "first_layer" in out


def test_figures_beside_a_bad_file(tmp_path, good, capsys):
    """The good file is drawn, the bad one named, and the exit code is 4."""
    bad = tmp_path / "bad.json"
    bad.write_text("{")

    assert plots.main([str(good), str(bad), "--out", str(tmp_path / "figures"), "--only", "memory"]) == 4
    assert (tmp_path / "figures" / "memory.png").exists()
    assert capsys.readouterr().err.startswith(f"attnlib: {bad}: not JSON")


def test_what_is_no_file(tmp_path):
    """A folder, a pipe, a device and a file that is too large are refused, and nothing waits for them."""
    os.mkfifo(tmp_path / "pipe.json")
    (tmp_path / "folder.json").mkdir()
    (tmp_path / "link.json").symlink_to(tmp_path / "link.json")
    with (tmp_path / "huge.json").open("wb") as file:
        file.truncate(2**40)  # no byte of it is stored

    assert loaded(tmp_path / "pipe.json").endswith("not a file")
    assert loaded(tmp_path / "folder.json").endswith("not a file")
    assert loaded(Path("/dev/zero")).endswith("not a file")
    assert "bytes are read, not " in loaded(tmp_path / "huge.json")
    assert "No such file" in loaded(tmp_path / "nothing.json")
    assert loaded(tmp_path / "link.json").startswith(f"{tmp_path / 'link.json'}: ")


def evil(node):
    """A run in which every free text is hostile."""
    if isinstance(node, dict):
        return {key: evil(value) if key not in KEPT else value for key, value in node.items()}
    if isinstance(node, list):
        return [evil(value) for value in node]
    return EVIL + node if isinstance(node, str) else node


# names that the contract spells out, or by which rows are found
KEPT = {
    "case",
    "case_id",
    "test",
    "fullname",
    "status",
    "axes",
    "name",
    "kernel",
    "reference_kernel",
    "kind",
    "reference",
    "weights",
    "pooling",
    "ended",
    "data",
}


def test_text_from_a_file_acts_on_nothing(tmp_path, good, capsys):
    """Control characters, markup, mathematics and paths in a file reach no terminal, figure, table or file name."""
    path, out = tmp_path / "evil.json", tmp_path / "figures"
    path.write_text(json.dumps(evil(GOOD)))
    assert plots.main([str(path), "--out", str(out)]) == 0
    main(["compare", "--base", str(path), "--new", str(good)])
    printed = capsys.readouterr()
    main(["compare", "--base", str(good), "--new", str(path), "--markdown"])
    main(["encodings", str(path), "--markdown"])
    markdown = capsys.readouterr().out

    assert "evil" in printed.out
    assert "&lt;script&gt;" in markdown
    assert "<script" not in markdown
    assert not UNPRINTABLE.search((printed.out + printed.err).replace("\n", ""))
    assert {p.suffix for p in tmp_path.rglob("*.*")} <= {".json", ".png", ".svg"}
    assert {p.stem for p in out.iterdir()} <= set(FIGURES)
    for figure in out.glob("*.svg"):
        assert not re.search("script|owned", figure.read_text())


@pytest.mark.parametrize(
    ("field", "value"), [("pe", "$x$"), ("pe", "a b"), ("phase", "<b>"), ("block", "\x1b[1m"), ("init", "x" * 201)]
)
def test_names_are_names(tmp_path, field, value):
    """A part of a label is letters, digits and a few signs."""
    path = tmp_path / "run.json"
    path.write_bytes(changed(lambda r: r["attnlib"]["cases"][0]["case"].update({field: value})))

    assert f"case.{field}: Expected `str`" in loaded(path)


def test_a_benchmark_that_is_no_case_may_be_anything(tmp_path, good):
    """A ratio of peers, say, whatever its name: it is kept and read by nobody."""
    path = tmp_path / "run.json"
    path.write_bytes(changed(lambda r: r["benchmarks"].append({"fullname": [], "extra_info": {"ratio": 1}})))

    assert read_everywhere(path, load(good))


JOURNALS = {
    "the journal is empty": b"",
    "the journal is empty ": b'{"event": "plan"',
    "line 1: JSON is malformed": b"x\n",
    "line 1: Object missing required field `run`": b'{"event": "plan"}\n',
    "line 1: Invalid value 'dance'": b'{"event": "dance"}\n',
    "line 1: a journal has one plan, in its first line": b'{"event": "start", "test": "x", "at_s": 0}\n',
    "line 2: a journal has one plan, in its first line": 2 * (json.dumps(JOURNAL[0]).encode() + b"\n"),
    "line 2: Expected `float`, got `str` - at `$.at_s`": json.dumps(JOURNAL[0]).encode()
    + b'\n{"event": "start", "test": "x", "at_s": "1"}\n',
}


@pytest.mark.parametrize("message", JOURNALS)
def test_bad_journals_are_one_line(tmp_path, message):
    """A journal that is none says in which line."""
    path = tmp_path / f"run{SUFFIX}"
    path.write_bytes(JOURNALS[message])

    assert message.strip() in loaded(path)
