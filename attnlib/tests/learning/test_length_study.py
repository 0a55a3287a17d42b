"""Tables of trainings on short sequences, made of trainings whose truth is known."""

from dataclasses import replace
from pathlib import Path

import pytest
from msgspec import convert

from attnlib.cases.case import Case
from attnlib.compare.cells import Cells
from attnlib.learning.length_study import questions, repeated
from attnlib.learning.tiers import tiers
from attnlib.runs.load import Run, cell_of
from attnlib.runs.schema import Row
from attnlib.show.figures import find_figure
from attnlib.show.lengths import lengths
from attnlib.tests.runs.examples import row_of, saved

NAMES = {"pe": ["none", "rotary", "alibi", "fire", "learned_offset"], "block": ["plain", "pre_ln"]}
CASE = Case(phase="lengths", data="sort", train_length=2, test_length=6, block="pre_ln", steps=100, learning_rate=0.001)


def cell(longer=0.5, fits=True, reason=None, case=CASE, **fields):
    """A training that is right up to 2, ``longer`` of 3 to 4, and never at 5 and 6."""
    case = replace(case, **fields)
    N, M = case.train_length, case.test_length
    found = {
        "learning_rate": 0.001,
        "steps": 80,
        "ended_early": bool(fits),
        "seconds": 1.0,
        "reason": reason,
        "fits": fits,
    }
    shares = {(1, N): 1.0, (N + 1, 2 * N): longer, (2 * N + 1, M): 0.0}
    ranges = [
        {"low": low, "high": high, "examples": 20 * (high - low + 1), "exact": share, "per_token": share}
        for (low, high), share in shares.items()
    ]
    exact = [share for (low, high), share in shares.items() for _ in range(low, high + 1)]
    curves = {"length": list(range(1, M + 1)), "exact": exact, "per_token": exact}
    probe = {"lengths": found | ({} if reason else {"ranges": ranges}), "curves": {} if reason else curves}
    row = row_of(case) | {"test": f"test[{case.id}]", "probe": probe}
    return cell_of(convert(row, Row), row["case"], None)


def cells(*found):
    run = saved()
    run["attnlib"]["axes"] = NAMES
    return Cells([Run(Path("run.json"), run, found)])


def study(**shares):
    return [cell(share, pe=pe, seed=seed) for pe, own in shares.items() for seed, share in enumerate(own)]


def by_seed(*values):
    return dict(enumerate(values))


def test_a_tier_is_what_cannot_be_told_from_its_best():
    """Two that change places from seed to seed share the first; one that is always far behind has its own."""
    found = tiers(
        {
            "rotary": by_seed(0.1, 0.11, 0.1, 0.12, 0.1),
            "alibi": by_seed(0.9, 0.8, 0.95, 0.7, 0.85),
            "fire": by_seed(0.8, 0.9, 0.85, 0.95, 0.75),
        }
    )

    assert [(one.name, one.tier, one.leader) for one in found[2:]] == [("rotary", 2, "rotary")]
    assert {one.name for one in found if one.tier == 1} == {"alibi", "fire"}
    assert [one.behind is None for one in found] == [True, False, True]


def test_seeds_pair_in_tiers():
    """Seeds that differ by 0.3 do not hide a difference of 0.05 that each of them shows."""
    base = [0.3, 0.6, 0.4, 0.5, 0.35]
    found = tiers({"alibi": by_seed(*(b + 0.05 + b / 1000 for b in base)), "fire": by_seed(*base)})

    assert [(one.name, one.tier) for one in found] == [("alibi", 1), ("fire", 2)]


def test_more_encodings_widen_the_intervals():
    """They hold for all pairs together: what two alone tell apart, ten may not."""
    pair = {"alibi": by_seed(0.60, 0.61, 0.62), "fire": by_seed(0.5, 0.52, 0.56)}
    crowd = {f"other {n}": by_seed(0.1, 0.1, 0.1) for n in range(8)}

    assert [one.tier for one in tiers(pair)] == [1, 2]
    assert {one.name: one.tier for one in tiers(pair | crowd)}["fire"] == 1


def test_equal_differences_are_known_to_an_example():
    """No spread over the seeds proves none: the interval is one example wide on each side."""
    same = {"alibi": by_seed(0.5, 0.5), "fire": by_seed(0.49, 0.49)}

    assert [one.tier for one in tiers(same, step=0.02)] == [1, 1]
    assert [one.tier for one in tiers(same, step=0.005)] == [1, 2]


def test_one_seed_tells_nothing_apart():
    """Without a second one there is no interval, and all share a tier."""
    assert [one.tier for one in tiers({"alibi": {0: 1.0}, "fire": {0: 0.0}})] == [1, 1]
    assert tiers({}) == []


def test_means_are_of_all_seeds_and_of_those_that_fit():
    """A seed that does not fit the training lengths counts in the first and not in the second."""
    rows = [cell(0.8, seed=0), cell(0.6, seed=1), cell(0.1, fits=False, seed=2)]
    ((one,),) = (question.encodings for question in questions(cells(*rows)))

    assert one.spans[1].exact.value == pytest.approx(0.5)
    assert one.spans[1].fitting.value == pytest.approx(0.7)
    assert (one.spans[1].low, one.spans[1].high) == (3, 4)
    assert one.fitting == 2
    assert 0 <= one.spans[1].exact.low <= one.spans[1].exact.high <= 1


def test_a_seed_that_failed_is_counted_and_not_compared():
    """Its encoding has the other seeds; one without any is a row without numbers."""
    rows = [
        *study(none=[0.5, 0.6], rotary=[0.5]),
        cell(pe="rotary", seed=1, reason="the loss was not finite at step 3"),
        *(cell(pe="fire", seed=seed, reason="the loss was not finite at step 3") for seed in range(2)),
    ]
    _, table = lengths(cells(*rows))
    texts = {row["encoding"]: row for row in table.texts()}

    assert texts["rotary"]["fit"] == "1 of 2"
    assert texts["fire"]["right, 3 to 4"] == "-"
    assert table.after == ["rotary: 1 seeds have no result", "fire: 2 seeds have no result"]


def test_other_trainings_are_other_questions():
    """Neither pooled nor compared: another task, another length, another width."""
    rows = [
        cell(pe=pe, **fields)
        for fields in ({}, {"data": "parity"}, {"train_length": 3, "test_length": 9}, {"d_model": 16})
        for pe in ("none", "fire")
    ]
    found = questions(cells(*rows))

    assert [len(question.encodings) for question in found] == [2] * 4
    assert [question.case.data for question in found] == ["sort", "parity", "sort", "sort"]


def test_texts_have_no_share_that_fits():
    """No new words can be made: the column is absent, and the count too."""
    _, table = lengths(cells(*(cell(fits=None, data="stress", seed=seed) for seed in range(2))))

    assert not any("that fit" in heading for heading in table.columns)
    assert table.texts()[0]["fit"] == "-"


def published(low, high, **fields):
    """A training of the published row, right at 51 to 100 and at 101 to 150 as given."""
    small = {"data": "bin_majority", "train_length": 50, "test_length": 150, "d_model": 16, "n_heads": 1, "depth": 1}
    own = cell(low, pe="learned_offset", **small | fields)
    own.by_length.ranges[2] = type(own.by_length.ranges[2])(101, 150, 1000, high, high)
    return own


def test_the_published_row_is_compared_with_the_seeds_that_fit():
    """Its mean is one of seeds that fit: within 0.02 it is the same, and without such a seed it is not."""
    near = repeated(cells(published(0.99, 0.97, seed=0), published(0.2, 0.2, seed=1, fits=False)))
    none = repeated(cells(published(0.99, 0.99, fits=False)))

    assert [(one.low, one.here, one.same) for one in near] == [(51, 0.99, True), (101, 0.97, False)]
    assert [(one.here, one.same) for one in none] == [(None, False)] * 2
    assert repeated(cells(*study(none=[0.5]))) == []


def test_tables_and_figure_have_every_encoding():
    """In the table of tiers the best first, in the others in the registry's order."""
    found = cells(*study(none=[0.1, 0.1, 0.1], fire=[0.9, 0.91, 0.92], rotary=[0.5, 0.52, 0.51]), published(1.0, 1.0))
    first, *others = lengths(found)

    assert [row["encoding"] for row in first.texts()] == ["fire", "rotary", "none", "learned_offset"]
    assert [row["tier"] for row in first.texts()] == ["1", "2", "3", "1"]
    assert [row["encoding"] for row in others[0].texts()] == ["none", "rotary", "fire"]
    assert any("0.9999 in arXiv 2410.02140, 1.0000 here, the same" in line for line in first.after)
    assert len(find_figure("length_accuracy")(found).axes) == 2


def test_without_such_trainings_there_is_no_table():
    """Nor a figure."""
    assert lengths(cells()) == []
    assert find_figure("length_accuracy")(cells()) is None
