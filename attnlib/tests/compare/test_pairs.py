"""Ratios over a reference, and the times that come from them, on runs of known truth."""

import json

import numpy as np
import pytest

from attnlib.compare import pairs
from attnlib.compare.cells import Cells, differing_fields, interval_note
from attnlib.compare.intervals import Estimate
from attnlib.compare.saved import compare
from attnlib.runs.load import load
from attnlib.runs.schema import problems
from attnlib.show.comparison import compared
from attnlib.show.costs import costs
from attnlib.tests.runs.examples import saved


@pytest.fixture(name="write")
def _write(tmp_path):
    def write(run, name="run.json"):
        path = tmp_path / name
        path.write_text(json.dumps(run))
        return load(path)

    return write


def cell(run, pe, seq_len=64, depth=2):
    return next(c for c in run.cells if (c.case.pe, c.case.seq_len, c.case.depth) == (pe, seq_len, depth))


def spells(pe):
    """The machine was twice as slow while sinusoidal was measured."""
    return 2.0 if pe == "sinusoidal" else 1.0


def test_a_slow_spell_changes_no_ratio(write):
    """Times of one moment say that sinusoidal costs 2.04; the pair says 1.02, and both times come from all visits."""
    run = write(saved((1.0,), ratio=1.02, visit=spells))
    cells, step = Cells([run]), {"phase": "train_step", "seq_len": 64, "depth": 2}
    none, sinusoidal = (cells.first(pe=pe, **step) for pe in ("none", "sinusoidal"))

    assert cells.ratio(sinusoidal, none) == Estimate(1.02, 0.9 * 1.02, 1.1 * 1.02)
    assert cells.time(none).value == pytest.approx(128 * 2**0.5)  # geometric mean of 128 and 256
    assert cells.time(sinusoidal).value == pytest.approx(1.02 * 128 * 2**0.5)
    assert cells.time(none).low < 128 < 256 < cells.time(none).high
    assert "times the mean time of the reference" in interval_note(cells)


def test_disturbed_visits_do_not_count_unless_all_are(write):
    """A reference's time is that of its undisturbed visits."""
    data = saved(ratio=1.0, visit=spells)
    for benchmark in data["benchmarks"]:
        if benchmark["extra_info"]["case"]["pe"] == "sinusoidal":
            benchmark["extra_info"]["time"]["disturbed"] = ["busy"]
    run = write(data)
    key = pairs.reference_of(cell(run, "none"))

    assert pairs.pooled(run.cells)[key] == pytest.approx((128, 128, 128))
    only = [cell(run, "sinusoidal")]
    assert pairs.pooled(only)[key] == pytest.approx((256, 256, 256))


def test_cells_of_one_reference_have_a_ratio_too(write):
    """The ratio of two encodings over one reference is the quotient, its interval wider than either."""
    run = write(saved(ratio=1.5))
    found = pairs.ratio(cell(run, "sinusoidal"), cell(run, "sinusoidal"))
    half = np.hypot(np.log(1.1), -np.log(0.9))

    assert found == pytest.approx((1.0, np.exp(-half), np.exp(half)))
    assert pairs.ratio(cell(run, "sinusoidal"), cell(run, "none", depth=8)) == pytest.approx([0.25] * 3)


def test_runs_without_pairs_keep_their_own_medians(write):
    """A file of schema 1 has times with their own intervals, and ratios of medians without."""
    run = write(saved((3.0,)))
    cells = Cells([run])

    assert cells.time([cell(run, "none")]) == (384, 0.9, 1.1)
    assert cells.ratio([cell(run, "none")], [cell(run, "none")]) == (1, 1, 1)
    assert costs(cells) == []


def test_the_noise_floor(write):
    """Cells that are their own reference: rms and worst of their ratios, and how many intervals hold 1."""
    data = saved(ratio=1.5)
    own = [b for b in data["benchmarks"] if b["extra_info"]["case"]["pe"] == "none"]
    for benchmark, value in zip(own, (1.0, 1.02, 0.98, 1.25), strict=True):
        over = benchmark["extra_info"]["time"]["over_reference"]
        over |= {"value": value, "low": value / 1.1, "high": value * 1.1}
    found = pairs.floor(write(data).cells)

    assert found == (pytest.approx(np.sqrt(np.mean(np.log([1.0, 1.02, 0.98, 1.25]) ** 2))), 1.25, 3, 4)
    assert str(found) == "over itself: 11.2% rms, worst 1.250, 3 of 4 intervals hold 1"
    assert pairs.floor([]) is None


def test_the_table_of_costs(write):
    """Rows are lengths and depths, columns encodings; what may be 1 stands without its interval, the floor below."""
    (table,) = costs(Cells([write(saved(ratio=1.5))]))

    assert table.texts()[0] == {
        "L": "2",
        "T": "64",
        "time of none": "128 s",
        "its peak": "0.000954 MiB",
        "none": "1.00",
        "sinusoidal": "1.50 ±0.15",
    }
    assert len(table.rows) == 4
    assert table.before == [
        "train_step: time over that of none; ±: wider side of the 95 % interval; no ± if the unrounded one contains 1"
    ]
    assert "noise floor of train_step: none over itself: 0.0% rms" in table.after[0]


def test_the_table_of_costs_names_other_kernels(write):
    """Encodings whose attention ran another kernel than their reference's; nothing where attention is compared."""
    run = saved(ratio=1.5)
    for benchmark in run["benchmarks"]:
        info = benchmark["extra_info"]
        own = "efficient_attention" if info["case"]["pe"] == "sinusoidal" else "cudnn_attention"
        info["attention"] = {"kernel": own, "fused": True, "reason": None, "reference_kernel": "cudnn_attention"}
    (table,) = costs(Cells([write(run)]))
    assert table.after[1] == "attention kernels of train_step: efficient over cudnn in sinusoidal"

    for benchmark in run["benchmarks"]:
        benchmark["extra_info"]["time"]["over_reference"]["reference"] = {"attention": "math"}
    (table,) = costs(Cells([write(run, "other.json")]))
    assert "attention kernels" not in "".join(table.after)


def broken(**over):
    run = saved(ratio=1.5)
    run["benchmarks"][0]["extra_info"]["time"]["over_reference"] |= over
    return problems(run)


def test_ratios_keep_the_contract():
    """A null has a reason, and a ratio its interval, its reference and that one's seconds."""
    assert problems(saved(ratio=1.5)) == []
    assert "null without a reason" in broken(value=None)[0]
    assert broken(value=None, reason="no room") == []
    assert "no interval that holds its value" in broken(low=2.0)[0]
    assert "does not say over what" in broken(reference={})[0]
    run = saved(ratio=1.5)
    run["benchmarks"][0]["extra_info"]["time"]["reference_s"] = []
    assert "without time.reference_s" in problems(run)[0]


def many(write, ratio, speeds, letter):
    return [
        write(saved((speed,), ratio=ratio * (1 + 0.002 * (n % 3)), visit=lambda _, s=speed: s), f"{letter}{n}.json")
        for n, speed in enumerate(speeds)
    ]


def test_a_machine_of_two_speeds_hides_no_change(write):
    """Ratios decide where times cannot: 10 % more shows, and equal code is the same, at run times 1.4 apart."""
    slow, fast = (1.4, 1.0, 1.4, 1.4, 1.0, 1.4), (1.0, 1.4, 1.0, 1.0, 1.0, 1.4)
    base, equal, worse = (many(write, r, s, x) for r, s, x in ((1.5, slow, "a"), (1.5, fast, "b"), (1.65, fast, "c")))
    found = {row.label: row for row in compare(base, worse).rows}
    row = found["train_step T=64 L=2 sinusoidal"]

    assert row.verdict.word == "slower"
    assert row.verdict.ratio == pytest.approx(1.1)
    assert (row.base.value, row.base.reference) == (pytest.approx(1.503), "none")
    assert {row.verdict.word for row in compare(base, worse).references} == {"undecided"}
    same = compare(base, equal)
    ratios = [r.verdict.word for r in same.rows if r.over_reference]
    assert set(ratios) == {"same"}
    assert same.phases["train_step over its reference"].word == "same"
    assert same.phases["train_step, the references"].word == "undecided"
    text = compared(same).markdown()
    assert "1.503 x none" in text
    assert "reference: train_step T=64 L=2 none" in text
    assert "use attnlib ab" in text
    assert same.exit_code() == 2  # a slowdown of both sides would not show
    assert same.exit_code(allow_undecided=True) == 0


def test_drift_is_no_reason_against_a_ratio(write):
    """If the canary says that the machine drifted, times stay undecided and ratios do not."""
    base = [write(saved(ratio=1.5, canary=1.0 + 0.001 * n), f"a{n}.json") for n in range(6)]
    new = [write(saved(ratio=1.5, canary=1.3 + 0.001 * n), f"b{n}.json") for n in range(6)]
    found = compare(base, new)

    assert found.notes == ("the machine drifted",)
    assert found.phases["train_step over its reference"].word == "same"
    assert found.phases["train_step, the references"].reason == "the machine drifted"


def test_sides_with_other_references_are_compared_by_time(write):
    """A ratio over none and one over another reference are not the same quantity, nor is one measured alone."""
    base, new = many(write, 1.5, [1.0] * 6, "a"), [write(saved(), f"b{n}.json") for n in range(6)]

    assert list(compare(base, new).phases) == ["train_step"]


def test_what_slows_both_sides_shows_in_the_references(write):
    """20 % more in case and reference leaves every ratio the same, and the references are slower: exit code 1."""
    base, new = many(write, 1.5, [1.0, 1.001] * 3, "a"), many(write, 1.5, [1.2, 1.201] * 3, "b")
    found = compare(base, new)

    assert {row.verdict.word for row in found.rows} == {"same"}
    assert {row.verdict.word for row in found.references} == {"slower"}
    assert found.exit_code() == 1
    assert compare(base, many(write, 1.5, [1.0, 1.001] * 3, "c")).exit_code() == 0


def test_references_are_known_by_all_their_fields(write):
    """A reference of another width is not the same reference, although its label is: nothing is shared."""
    wide = []
    for number, run in enumerate(saved(ratio=1.5) for _ in range(6)):
        for row in (*run["attnlib"]["cases"], *(b["extra_info"] for b in run["benchmarks"])):
            row["case"]["d_model"], row["case_id"] = 128, row["case_id"] + "w"
        wide.append(write(run, f"w{number}.json"))
    found = compare(many(write, 1.5, [1.0] * 6, "a"), wide)

    assert (found.phases, found.references) == ({}, ())
    assert found.exit_code(allow_missing=True) == 2


def test_runs_over_different_references_share_no_table(write):
    """Their ratios mean different things."""
    other = saved(ratio=1.5)
    for benchmark in other["benchmarks"]:
        benchmark["extra_info"]["time"]["over_reference"]["reference"] = {"attention": "math"}
    runs = [write(saved(ratio=1.5), "a.json"), write(other, "b.json")]

    assert differing_fields(runs) == "reference attention=math | none"


def test_each_encoding_may_have_its_own_reference(write):
    """Over attention=math the reference of each encoding is that encoding: no one time stands for a row."""
    run = saved(ratio=1.5)
    for benchmark in run["benchmarks"]:
        benchmark["extra_info"]["time"]["over_reference"]["reference"] = {"attention": "math"}
    (table,) = costs(Cells([write(run)]))

    assert table.texts()[0]["time of attention=math"] == "-"
    assert "noise floor" not in "".join(table.after)
