"""The report as HTML: whole, linked, escaped, the same for the same runs. In a browser: attnlib/tests/browser."""

import json
import re
from html.parser import HTMLParser

import pytest

import plots
from attnlib.compare.cells import Cells, claims
from attnlib.compare.saved import compare
from attnlib.runs.load import BadRun, load
from attnlib.show.costs import costs
from attnlib.show.encodings import encodings
from attnlib.show.findings import findings
from attnlib.show.report import cases, machine
from attnlib.show.report.answers import answers
from attnlib.show.report.page import page, write
from attnlib.tests import ROOT
from attnlib.tests.runs.examples import saved

REFERENCE = sorted((ROOT / "results" / "reference").glob("*.json"))


class Seen(HTMLParser):
    """Contents of a page: ids, addresses, tags, text."""

    def __init__(self, text):
        super().__init__()
        self.ids, self.addresses, self.tags, self.texts = [], [], [], []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        for name, value in attrs:
            if name == "id":
                self.ids.append(value)
            if name in ("href", "src", "action", "data", "srcset"):
                self.addresses.append(value)

    def handle_data(self, data):
        self.texts.append(data)


@pytest.fixture(name="runs", scope="module")
def _runs():
    return [load(path) for path in REFERENCE]


@pytest.fixture(name="seen", scope="module")
def _seen(runs):
    return Seen(page(Cells(runs), [], None))


def of(run, tmp_path, name="run"):
    path = tmp_path / f"{name}.json"
    path.write_text(json.dumps(run))
    return load(path)


def test_nothing_outside_the_page(seen):
    """Every address is a place in the page that is there; ids are there once."""
    assert len(seen.ids) == len(set(seen.ids))
    assert {address[0] for address in seen.addresses} == {"#"}
    assert {address[1:] for address in seen.addresses} <= set(seen.ids)


def test_every_case_has_a_row(runs, seen):
    """All of them, and the numbers of costs, encodings and findings lead there."""
    ids = {f"c{cell.case_id}" for cell in runs[0].cells}

    assert ids <= set(seen.ids)
    cells = Cells(runs)
    for table in (*costs(cells), *encodings(cells), *findings(cells)):
        links = {f"#c{case_id}" for row in table.links for case_id in row.values()}
        assert links
        assert links <= set(seen.addresses)


def test_answers_are_those_of_the_tables(runs):
    """The sentences hold the numbers that the tables hold, in the order of cost."""
    cells = Cells(runs)
    found = {answer.question: "".join(text for text, _ in answer.parts) for answer in answers(cells)}
    (row,) = (row for row in costs(cells)[-1].texts() if (row["L"], row["T"]) == ("2", "1024"))

    assert found["What does an encoding cost?"].startswith("A train step at L = 2 and T = 1024")
    assert all(
        f"{pe} {row[pe][:4]}" in found["What does an encoding cost?"] for pe in ("rotary", "alibi", "t5", "fire")
    )
    ratios = [float(number) for number in re.findall(r" (\d+\.\d\d) \[", found["What does an encoding cost?"])]
    assert ratios == sorted(ratios)
    assert re.search(r"\d+ of \d+ intervals hold 1", found["What is noise?"])
    assert re.search(r"(-0\.\d+) \[.*\] decades; theory says -0\.\d+", found["Do gradients survive a plain stack?"])
    assert "cubic, exponent 2.9" in found["Do tokens stay different?"]
    checks = [own for group in cells.by_id.values() if (own := claims(group))]
    assert found["Does theory hold?"] == f"{sum(map(len, checks))} claims hold, in {len(checks)} checks; 0 failed."


def test_a_failed_check_is_named(runs, tmp_path):
    """In one run of two: its claims do not count as held, and the sentence leads to its row."""
    run = json.loads(REFERENCE[0].read_text())
    row = next(row for row in run["attnlib"]["cases"] if row["case"]["phase"] == "rate")
    row |= {"status": "error", "reason": "first_layer is outside its band", "probe": {}}
    found = {answer.question: answer.parts for answer in answers(Cells([runs[1], of(run, tmp_path)]))}

    assert found["Does theory hold?"][0][0] == "281 claims hold, in 112 checks; 1 failed"
    assert row["case_id"] in [case_id for _, case_id in found["Does theory hold?"]]


def test_commands_remake_a_case(runs):
    """A test of the suite with the options that its run had, less those that only say where it goes."""
    row = next(row for row in cases.rows(Cells(runs)) if row.entries[0].text == "train_step rotary")

    assert row.command.startswith("pytest 'bench/test_train_step.py::test_train_step[seq_len=")
    assert row.command.endswith("' --preset=laptop")
    assert [line.partition(":")[0] for line in row.runs] == [run.name for run in runs]


def test_little_is_known_of_a_small_run(tmp_path):
    """A run without pairs, checks or figures makes a page all the same, and says no more than it holds."""
    run = of(saved(status="oom"), tmp_path)
    seen = Seen(page(Cells([run]), [], None))

    assert "oom" in seen.texts
    assert [answer.question for answer in answers(Cells([run]))] == ["How long is a step?", "Was the machine quiet?"]
    assert any("too large" in text for text in seen.texts)
    assert "img" not in seen.tags


def test_nothing_in_a_run_is_markup(tmp_path):
    """A reason, a name or a command that looks like HTML is text."""
    run = saved(status="error")
    evil = "<img src=//x onerror=alert(1)>\"'&</script>"
    run["attnlib"]["cases"][-1]["reason"] = evil
    run["attnlib"]["command"] = ["pytest", f"--pe={evil}"]
    seen = Seen(page(Cells([of(run, tmp_path)]), [], None))

    assert "img" not in seen.tags
    assert seen.tags.count("script") == 3
    assert any(evil in text for text in seen.texts)


def test_what_one_of_two_runs_says_is_said(tmp_path):
    """A case that is oom in the first run has the second one's time and peak, and both statuses."""
    both = [of(saved(status=status), tmp_path, status) for status in ("oom", "ok")]
    (row,) = (row for row in cases.rows(Cells(both)) if "oom" in row.entries[3].text)

    assert row.entries[3].text == "1 oom, 1 ok"
    assert row.entries[4].key == 1024
    assert row.entries[7].key == 1000
    assert row.why == "too large"


def test_canaries_of_another_device_are_not_mixed(tmp_path):
    """The row of a run has the readings of its own device."""
    run = saved()
    run["machine_info"]["attnlib"]["device"] = {"kind": "cuda"}
    kinds = (("cuda", 0.01), ("cpu", 1.0), ("cuda", 0.01))
    run["attnlib"]["canary"] = [{"at_s": 0.0, "seconds": s, "device": kind} for kind, s in kinds]

    assert machine.runs(Cells([of(run, tmp_path)])).rows[0]["canary"] == (0.01, 0.01, 0.01)


@pytest.mark.parametrize(
    ("where", "key", "value"), [("attnlib", "wall_s", "soon"), ("machine_info", "memory_bytes", "lots")]
)
def test_what_the_page_computes_with_is_checked(tmp_path, where, key, value):
    """A run with words for numbers is refused in a line."""
    run = saved()
    (run[where] if where == "attnlib" else run[where]["attnlib"])[key] = value

    with pytest.raises(BadRun, match=key):
        of(run, tmp_path)


def test_a_comparison_has_its_verdicts(tmp_path):
    """Every verdict is in the page, and cases that both runs have are led to."""
    base = [of(saved(ratio=1.5), tmp_path, f"base{i}") for i in range(6)]
    new = [of(saved(ratio=3.0), tmp_path, f"new{i}") for i in range(6)]
    text = page(Cells(new), [], compare(base, new))

    assert 'id="comparison"' in text
    assert text.count("slower") >= 4
    assert set(Seen(text).addresses) <= {f"#{name}" for name in Seen(text).ids}


def test_the_same_runs_make_the_same_page(runs, tmp_path):
    """To the byte, from the figures' files on."""
    svg = tmp_path / "memory.svg"
    svg.write_text("<svg/>")
    for name in ("a", "b"):
        write(tmp_path / name, Cells(runs[:1]), [svg.with_suffix(".png")])

    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()
    assert "data:image/svg+xml;base64,PHN2Zy8+" in (tmp_path / "a").read_text()


def test_the_command(tmp_path, capsys):
    """Figures, page and comparison in one; a page that cannot be written, or half a comparison, is a line."""
    paths = [tmp_path / f"{name}.json" for name in ("base", "new")]
    for path in paths:
        path.write_text(json.dumps(saved(ratio=1.5)))
    report, out = tmp_path / "deep" / "report.html", ["--out", str(tmp_path / "figures"), "--only", "memory"]
    sides = ["--base", str(paths[0]), "--new", str(paths[1])]
    assert plots.main([*out, "--report", str(report), *sides]) == 0
    assert report.read_text().count("data:image/svg+xml") == 1
    assert "Comparison" in report.read_text()

    for words in (["--base", "x"], sides):
        assert plots.main(words) == 4
        assert "--base and --new must be given together, and with --report" in capsys.readouterr().err
    assert plots.main([str(paths[0]), *out, "--report", str(paths[0] / "report.html")]) == 74
    assert "cannot write in" in capsys.readouterr().err
    before = paths[0].read_bytes()
    assert plots.main(["--report", str(paths[0])]) == 4
    assert "does not end in .html; name saved runs before --report" in capsys.readouterr().err
    assert paths[0].read_bytes() == before
