"""Tables and figures of gradients, from a run that holds real findings of small stacks."""

import json
import re
from collections import Counter
from dataclasses import asdict, replace

import pytest
from rich.cells import cell_len

import plots
from attnlib.cases.case import Case
from attnlib.commands.__main__ import main
from attnlib.commands.listing import COLUMNS, listing
from attnlib.compare.cells import Cells
from attnlib.compare.intervals import Estimate
from attnlib.compare.machines import machines
from attnlib.compare.saved import compare
from attnlib.gradients.registry import CHECKS
from attnlib.live.switches import Worth
from attnlib.runs.load import load
from attnlib.runs.schema import problems
from attnlib.show.comparison import compared
from attnlib.show.encodings import encodings
from attnlib.show.findings import findings
from attnlib.show.machines import machine_tables
from attnlib.show.prediction import products
from attnlib.show.registry import TABLES
from attnlib.show.scaling import by_depth, by_length
from attnlib.show.sweep import standing
from attnlib.show.switches import worths
from attnlib.show.table import Column, Table, broken, total
from attnlib.sweep.status import Standing
from attnlib.tests import ROOT
from attnlib.tests.runs.examples import reading, saved
from attnlib.tests.runs.fuzzing import GOOD

SMALL = {"dtype": "float64", "seq_len": 16, "d_model": 64, "n_heads": 4, "batch_size": 2}
FOUND = [
    {"phase": "rate", "pe": "learned", "depth": 8, "head_dim": 16},
    {"phase": "profile", "pe": "none", "depth": 24, "init": "unit", "batch_size": 1},
    {"phase": "collapse", "pe": "none", "depth": 12, "init": "unit"},
    {"phase": "collapse", "pe": "none", "depth": 24, "init": "unit", "causal": True},
    {"phase": "collapse", "pe": "none", "depth": 12, "init": "unit", "block": "post_ln"},
]


def add(run, case, probe, seconds=0.1):
    """Append a measured case to a run."""
    row = {"case": asdict(case), "case_id": case.id, "test": case.id, "status": "ok", "reason": None}
    info = {
        "case": row["case"],
        "case_id": case.id,
        "time": {"interval": None},
        "memory": {"allocated_peak": reading(None)},
        "cost": {"params": 0},
        "probe": probe,
    }
    run["attnlib"]["cases"].append(row)
    run["benchmarks"].append({"fullname": case.id, "extra_info": info, "stats": {"data": [seconds]}})


@pytest.fixture(name="path", scope="module")
def _path(tmp_path_factory):
    run = saved()
    for benchmark in run["benchmarks"]:
        pe = benchmark["extra_info"]["case"]["pe"]
        benchmark["extra_info"]["cost"]["params"] = 100 + 7 * (pe != "none")
        fused = {"kernel": "flash_attention_for_cpu", "fused": True, "reason": None, "method": "fake"}
        written = {"kernel": "attention_math", "fused": False, "reason": "fake", "method": "fake"}
        benchmark["extra_info"]["attention"] = fused if pe == "none" else written
    run["attnlib"]["axes"] = {"pe": ["none", "sinusoidal", "learned"], "block": ["plain", "post_ln"], "init": ["unit"]}
    run["attnlib"]["axes"]["init"].append("torch_mha")
    for fields in FOUND:
        case = Case(**SMALL | fields)
        add(run, case, CHECKS[case.phase](case, range(2)).as_json())
    counts = {"numbers": 100, "zero": 5, "subnormal": 20, "nonfinite": 0}
    for policy in ("flush", "keep"):
        case = Case(phase="backward", init="linear", denormals=policy)
        add(run, case, {"counts": {"activations": counts, "parameters": counts}})
    path = tmp_path_factory.mktemp("runs") / "run.json"
    path.write_text(json.dumps(run, allow_nan=False))
    return path


def test_findings_keep_the_contract(path):
    """A run with findings is a good run; a claim that lacks a field is not."""
    run = json.loads(path.read_text())
    assert problems(run) == []
    del next(b for b in run["benchmarks"] if "claims" in b["extra_info"].get("probe", {}))["extra_info"]["probe"][
        "claims"
    ][0]["theory"]

    assert any("claims[0]: Object missing required field `theory`" in line for line in problems(run))


def test_encoding_table(path):
    """Cost from the middle of the grid, signals from the checks, - for what the run does not hold."""
    table = {row["encoding"]: row for row in encodings(Cells([load(path)]))[0].texts()}

    assert list(table) == ["none", "sinusoidal"]
    assert table["none"]["train step"].startswith("1.02e+03 s")
    assert (table["none"]["attention"], table["sinusoidal"]["attention"]) == ("fused", "math")
    assert (table["none"]["parameters"], table["sinusoidal"]["parameters"]) == ("0", "7")
    assert table["sinusoidal"]["/ none"] == "1.00"
    assert table["none"]["tokens become alike"].startswith("cubic, exponent 3.0")
    assert table["sinusoidal"]["tokens become alike"] == "-"
    assert table["none"]["decades a layer"] == "-"


def test_findings_table(path):
    """A row a claim, each with its stack, its interval and its band."""
    rows = findings(Cells([load(path)]))[0].texts()
    claims = {(row["stack"], row["claim"]) for row in rows}

    assert ("rate T=16 L=8 learned D=64 K=16", "positional") in claims
    assert ("collapse T=16 L=24 none unit causal", "decades a layer") in claims
    assert ("profile T=16 L=24 none unit", "q power") in claims
    assert all(len(row["fitted"].split()) == 3 for row in rows)


def test_markdown_has_a_line_a_row():
    """Head, rule, rows; a value that is absent is a dash, and nothing is markup."""
    table = Table({"a": Column(), "b": Column("{:.1f}".format, number=True)}, [{"a": "<|>", "b": 2.0}, {"a": 1}])

    assert table.markdown() == "| a | b |\n| --- | --- |\n| &lt;\\|&gt; | 2.0 |\n| 1 | - |"


def test_tables_hold_values(path):
    """A table's rows are numbers; only its texts are text."""
    (row, _) = encodings(Cells([load(path)]))[0].rows

    assert row["train step"].value == pytest.approx(1020, rel=0.01)
    assert isinstance(row["peak"], int)


@pytest.fixture(name="tables", scope="module")
def _tables():
    """Tables as commands print them, with up to ten rows each."""
    runs = [load(ROOT / "results" / "reference" / f"laptop-cpu-{number}.json") for number in (1, 2)]
    cells = Cells(runs)
    found = [table for make, _ in TABLES.values() for table in make(cells)]
    found += [make(cells, phase="train_step") for make in (by_length, by_depth)]
    found += [table for own in machine_tables(machines(runs)).values() for table in own]
    found += [compared(compare(runs[:1], runs[1:])), products({"algorithmic": {"projections": (10**12, 2 * 10**12)}})]
    worth = Worth("attention=math", Estimate(1.25, 1.123, 1.377), 2**20, 2**30, "a reason of many words")
    found += [
        worths([worth], "seq_len=512"),
        standing([Standing("1", "dead", 30, 10, 60.0, note="killed by signal 9")], 90.0),
    ]
    found += [Table(COLUMNS, [dict(zip(COLUMNS, entry, strict=True)) for entry in listing()["pe"]])]
    return [replace(table, rows=table.rows[:10], before=(), after=()) for table in found if table.rows]


@pytest.mark.parametrize("width", [40, 60, 80, 100, 120, 200])
def test_no_word_is_cut_on_a_narrow_terminal(tables, width, monkeypatch, capsys):
    """Each word of each cell is there whole, and from 60 columns on so is each number with its unit and interval.

    Below 60 a path may be broken after a ``/``.
    """

    def parts(words):
        return Counter(part for word in words for part in (re.split("(?<=/)", word) if width < 60 else [word]))

    monkeypatch.setattr("attnlib.show.table.WIDTH", width)
    for table in tables:
        table.print()
        lines = capsys.readouterr().out.splitlines()
        rows = [list(row.items()) for row in table.texts()]
        words = [word for row in rows for _, text in row for word in text.split()]
        numbers = [text for row in rows for head, text in row[table.keys :] if not table.columns[head].prose]

        assert parts(words) <= parts(word for line in lines for word in line.split())
        assert width < 60 or all(any(text in line for line in lines) for text in numbers)


@pytest.fixture(name="small", scope="module")
def _small(tmp_path_factory):
    path = tmp_path_factory.mktemp("small") / "run.json"
    path.write_text(json.dumps(GOOD))
    return str(path)


TABLED = [[name, "RUN"] for name in ("costs", "encodings", "findings", "ceilings", "scaling")]
TABLED += [["compare", "--base", "RUN", "--new", "RUN"], ["list"]]


@pytest.mark.parametrize("width", [40, 80, 120])
@pytest.mark.parametrize("words", TABLED, ids=lambda words: words[0])
def test_no_line_is_wider_than_the_terminal(small, words, width, monkeypatch, capsys):
    """And every number of the wide output is in the narrow one, whole."""
    words, printed = [small if word == "RUN" else word for word in words], {}
    for room in (width, 1000):
        monkeypatch.setattr("attnlib.show.table.WIDTH", room)
        main(words)
        printed[room] = capsys.readouterr().out
    numbers = {room: Counter(re.findall(r"\d[\d.,e+-]*", text)) for room, text in printed.items()}

    assert max(map(cell_len, printed[width].splitlines())) <= width
    assert numbers[1000]
    assert numbers[1000] <= numbers[width]


def test_a_word_is_broken_after_a_slash_only_where_it_must():
    """A path that fits beside the keys stays whole, one that does not is broken, and a fraction never is."""
    path, fraction = "attnlib/model/positional/sinusoidal.py", "123456789/123456789"
    table = Table({"name": Column(), "source": Column()}, [{"name": "x" * 10, "source": path}])

    assert table.blocks(60)[-1]["source"] == len(path)
    assert total(table.blocks(40)[-1]) <= 40
    assert broken(path, 28) == "attnlib/model/positional/\nsinusoidal.py"
    assert broken(path, len(path)) == path
    assert broken(f"of {fraction}", 10) == f"of {fraction}"


def test_a_wide_table_is_written_in_blocks(capsys):
    """Each with the keys; none is wider than the terminal; and a table that fits is one block."""
    heads = {"L": Column(), "T": Column()} | {f"encoding {number} [x]": Column() for number in range(9)}
    table = Table(heads, [dict.fromkeys(heads, "1.25 ±0.01")], keys=2)

    assert [list(block) for block in table.blocks(200)] == [list(heads)]
    assert [list(block)[:2] for block in table.blocks(60)] == [["L", "T"]] * 3
    assert [head for block in table.blocks(60) for head in list(block)[2:]] == list(heads)[2:]
    assert all(total(block) <= 60 for block in table.blocks(60))
    table.print()
    assert "encoding 8 [x]" in capsys.readouterr().out


@pytest.mark.parametrize("command", ["encodings", "findings"])
@pytest.mark.parametrize("options", [[], ["--markdown"]])
def test_tables_on_the_terminal(path, command, options, capsys):
    """Both commands print their table and exit with 0."""
    assert main([command, str(path), *options]) == 0
    assert "cubic" in capsys.readouterr().out if command == "encodings" else "rate T=16" in capsys.readouterr().out


def test_a_table_of_nothing(tmp_path, capsys):
    """A bad file is one line and exit code 4; so is a run without findings."""
    (tmp_path / "bad.json").write_text("{")
    assert main(["encodings", str(tmp_path / "bad.json")]) == 4
    (tmp_path / "good.json").write_text(json.dumps(saved()))
    assert main(["findings", str(tmp_path / "good.json")]) == 4
    lines = capsys.readouterr().err.splitlines()

    assert len(lines) == 2
    assert "bad.json: not JSON" in lines[0]
    assert lines[1] == "attnlib: these runs have no data for the table findings"


def test_figures_of_gradients(path, tmp_path):
    """A run with findings gives the four figures of gradients as well."""
    assert plots.main([str(path), "--out", str(tmp_path)]) == 0
    for name in ("gradients", "profiles", "collapse", "denormals"):
        assert (tmp_path / f"{name}.png").stat().st_size > 10_000
    assert "theory: -0.396 decades a layer" in (tmp_path / "gradients.svg").read_text()
