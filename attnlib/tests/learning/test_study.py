"""Findings from several trainings together, on trainings whose truth is known."""

from pathlib import Path

import pytest
from msgspec import convert

from attnlib.cases.case import Case
from attnlib.compare.cells import Cells
from attnlib.compare.intervals import Estimate
from attnlib.learning.study import answers, bags, chosen_pooling, chosen_rate, depths, encodings
from attnlib.runs.load import Run, cell_of
from attnlib.runs.schema import Row
from attnlib.show.figures import find_figure
from attnlib.show.learning import learning
from attnlib.tests.runs.examples import row_of, saved

NAMES = {"pe": ["none", "sinusoidal", "learned", "rotary"], "block": ["plain", "residual", "pre_ln"]}


def cell(test=0.9, train=1.0, reason=None, left_chance=True, n_train=1000, validation=None, course=None, **fields):
    case = Case(**{"data": "digits", "steps": 5} | fields)
    rate = case.learning_rate or 0.01
    training = {"n_train": n_train, "n_held_out": 500, "left_chance": left_chance, "reason": reason, "seconds": 1.0}
    training |= {"train_accuracy": None if reason else train, "learning_rate": rate}
    training |= (
        {"test_accuracy": None if reason else test} if validation is None else {"validation_accuracy": validation}
    )
    training |= course or {}
    row = row_of(case) | {"status": "ok", "probe": {"training": training}}
    return cell_of(convert(row, Row), row["case"], None)


def cells(*found):
    run = saved()
    run["attnlib"]["axes"] = NAMES
    return Cells([Run(Path("run.json"), run, found)])


def tuned(rate, *accuracies, **fields):
    return [
        cell(phase="tune", pe="learned", learning_rate=rate, seed=100 + i, validation=accuracy, **fields)
        for i, accuracy in enumerate(accuracies)
    ]


def test_the_rate_that_was_best_on_validation_is_chosen():
    """By its mean; of two that are as good the smaller; another data set and encoding have no say."""
    found = [*tuned(0.001, 0.5, 0.7), *tuned(0.01, 0.9, 0.2), *tuned(0.1, 0.6, 0.6), *tuned(1.0, 1.0, data="stress")]

    assert chosen_rate(found, "digits", "learned") == 0.001
    assert chosen_rate(found, "stress", "learned") == 1.0
    assert chosen_rate(found, "digits", "rotary") is None


def test_a_rate_that_diverges_is_not_chosen():
    """It counts as nothing right."""
    found = [*tuned(0.001, 0.2), *tuned(0.01, None)]

    assert chosen_rate(found, "digits", "learned") == 0.001


def test_a_rate_tried_with_the_chosen_pooling_takes_part():
    """Rates tried with the other pooling do not, however good they were."""
    pools = [
        cell(phase="pool", pe="learned", pooling=pooling, learning_rate=rate, seed=100, validation=accuracy)
        for pooling, rate, accuracy in (("mean", 0.003, 0.8), ("attention", 0.1, 0.7))
    ]

    assert chosen_rate([*pools, *tuned(0.001, 0.75)], "digits", "learned") == 0.003
    assert chosen_rate([*pools, *tuned(0.001, 0.85)], "digits", "learned") == 0.001
    assert chosen_rate(pools, "digits", "learned") is None  # without a choice


def test_the_pooling_whose_worst_encoding_is_best_is_chosen():
    """Not the one with the best encoding, nor the one with the best mean."""
    found = [
        cell(phase="pool", pe=pe, pooling=pooling, seed=100, validation=accuracy)
        for pooling, accuracies in {"mean": (0.99, 0.5), "attention": (0.7, 0.6)}.items()
        for pe, accuracy in zip(("sinusoidal", "none"), accuracies, strict=True)
    ]

    assert chosen_pooling(found, "digits") == "attention"
    assert chosen_pooling(found, "stress") is None


def ended(pe, *steps, most=4000, accuracy=0.9, rate=0.01):
    """Return trainings without a fixed number of steps: how many each took to learn, None for one that stalled."""
    return [
        cell(
            phase="learn",
            pe=pe,
            seed=seed,
            steps=most,
            until_loss=0.02,
            test=accuracy,
            learning_rate=rate,
            course={
                "pooling": "mean",
                "learned_at": count,
                "ended": "learned" if count else "stalled",
                "steps": count or most // 2,
                "marks": [(100, 0.5), (200, 0.6), (400, accuracy)],
            },
        )
        for seed, count in enumerate(steps)
    ]


def test_steps_are_censored_at_the_most_steps():
    """With three that learned and two that stalled the median is the third, and no mean of caps."""
    rows = [*ended("sinusoidal", 800, 900, 1000, 1000, 1100), *ended("learned", 700, 2000, 3000, None, None)]
    found = {one.case.pe: one for one in encodings(cells(*rows))}

    assert (found["learned"].learned.steps, found["learned"].learned.seen) == (3000, 3)
    assert found["sinusoidal"].learned.steps == 1000
    assert found["sinusoidal"].as_fast is None
    assert 0.01 < found["learned"].as_fast < 0.2


def test_the_cost_of_an_accuracy(monkeypatch):
    """Steps until 95 % of the best encoding's accuracy times the seconds of a step; one that stays below has none."""
    rows = [*ended("sinusoidal", *[800] * 5), *ended("rotary", *[None] * 5, accuracy=0.7)]
    of_all = cells(*rows)
    monkeypatch.setattr(of_all, "time", lambda group: Estimate(0.01, 0.009, 0.011))
    found = {one.case.pe: one for one in encodings(of_all)}

    assert found["sinusoidal"].good.steps == pytest.approx(4.0)  # 400 steps
    assert found["rotary"].good.steps is None


def test_encodings_that_cannot_be_told_apart_share_a_tier():
    """The worst is in a tier of its own, in the table too."""
    rows = learned(sinusoidal=[0.90, 0.91, 0.92], learned=[0.91, 0.90, 0.92], rotary=[0.70, 0.71, 0.72])
    (table,) = learning(cells(*rows))

    assert {row["encoding"]: row["tier"] for row in table.rows} == {"sinusoidal": 1, "learned": 1, "rotary": 2}


def test_no_interval_of_accuracies_leaves_what_is_possible():
    """Two seeds that differ have a t interval of many accuracies."""
    rows = learned(sinusoidal=[0.5, 0.9], learned=[0.9, 0.5])
    (base, other) = encodings(cells(*rows))

    assert base.test == (pytest.approx(0.7), 0.0, 1.0)
    assert other.against.difference == (pytest.approx(0.0), -1.0, 1.0)


def test_what_each_rate_reached_is_shown():
    """The mean over the seeds, a column a rate; a rate that an encoding was not tried with stays empty."""
    other = cell(phase="tune", pe="rotary", learning_rate=0.1, seed=100, validation=0.4)
    (table,) = learning(cells(*tuned(0.001, 0.5, 0.7), *tuned(0.01, 0.9), other))

    assert list(table.columns) == ["data", "encoding", "0.001", "0.01", "0.1"]
    assert table.rows == [
        {"data": "digits", "encoding": "learned", "0.001": pytest.approx(0.6), "0.01": 0.9},
        {"data": "digits", "encoding": "rotary", "0.1": 0.4},
    ]


def test_a_rate_at_the_edge_is_said():
    """The best rate may lie beyond the largest that was tried."""
    tried = [*tuned(0.001, 0.5), *tuned(0.01, 0.9)]
    inside = [*tried, *tuned(0.1, 0.6)]
    for found, edge in ((tried, True), (inside, False)):
        rows = [*found, *ended("sinusoidal", 800, 900), *ended("learned", 800, 900)]
        lines = [line for table in learning(cells(*rows)) for line in table.after]
        assert ("learning rates at the edge of those tried: digits L=2 learned 0.01" in lines) == edge


def test_accuracy_over_steps_is_drawn():
    """For each data set and depth; a training that ended early keeps its last accuracy."""
    rows = [*ended("sinusoidal", 800, 1000), *ended("learned", 500, None)]
    figure = find_figure("accuracy_over_steps")(cells(*rows))
    (line, _) = figure.axes[0].get_lines()[:2]

    assert list(line.get_xdata()) == [100, 200, 400, 800, 1000]
    assert list(line.get_ydata()) == pytest.approx([0.5, 0.6, 0.9, 0.9, 0.9])
    assert find_figure("accuracy_over_steps")(cells(*learned(sinusoidal=[0.5]))) is None


def learned(**accuracies):
    return [
        cell(phase="learn", pe=pe, seed=seed, test=accuracy)
        for pe, values in accuracies.items()
        for seed, accuracy in enumerate(values)
    ]


def test_seeds_pair():
    """Seeds that differ by 0.3 do not hide a difference of 0.05 that each of them shows."""
    base = [0.5, 0.6, 0.7, 0.8]
    found = {one.case.pe: one for one in encodings(cells(*learned(sinusoidal=base, learned=[b + 0.05 for b in base])))}

    assert found["learned"].against.word == "better"
    assert found["learned"].against.difference.value == pytest.approx(0.05)
    assert found["sinusoidal"].against is None


def test_a_seed_that_diverged_is_counted_and_not_compared():
    """Its partner has no pair."""
    rows = [
        *learned(sinusoidal=[0.5, 0.6, 0.7], learned=[0.5, 0.6]),
        cell(phase="learn", pe="learned", seed=2, reason="x"),
    ]
    found = {one.case.pe: one for one in encodings(cells(*rows))}

    assert found["learned"].against.seeds == 2
    assert found["learned"].missing == 1


def test_an_encoding_that_always_diverged_is_a_row():
    """Without numbers, and with how many seeds have none."""
    rows = [*learned(sinusoidal=[0.5, 0.6]), *(cell(phase="learn", pe="learned", seed=s, reason="x") for s in range(2))]
    (table,) = learning(cells(*rows))

    assert table.texts()[1]["test accuracy"] == "-"
    assert any("digits, learned: 2 seeds have no result" in line for line in table.after)


def test_another_recipe_is_another_question():
    """Trainings of other steps are neither pooled nor compared."""
    rows = [*learned(sinusoidal=[0.5, 0.6]), *(cell(phase="learn", pe="learned", seed=s, steps=9) for s in range(2))]

    assert {one.case.pe: one.against for one in encodings(cells(*rows))} == {"sinusoidal": None, "learned": None}


def test_more_encodings_widen_the_intervals():
    """They are to hold together."""
    pair = {"sinusoidal": [0.5, 0.6, 0.7], "learned": [0.52, 0.6, 0.71]}
    alone, among = (
        next(one for one in encodings(cells(*learned(**rows))) if one.case.pe == "learned")
        for rows in (pair, pair | {"rotary": [0.1, 0.2, 0.3]})
    )

    assert among.against.difference.high > alone.against.difference.high


def deep(test, train=1.0, block="pre_ln", n_train=100, **fields):
    return [
        cell(
            phase="depth",
            block=block,
            depth=depth,
            seed=seed,
            n_train=n_train,
            test=accuracy + seed / 1000,
            train=train,
            **fields,
        )
        for depth, accuracy in test.items()
        for seed in range(3)
    ]


def test_the_gap_grows_where_it_does():
    """By 0.1 with each doubling, and the test is worse from the first depth whose interval says so."""
    (found,) = answers(depths(cells(*deep({1: 0.9, 2: 0.8, 4: 0.7, 8: 0.6}))))

    assert found.gap_growth.value == pytest.approx(0.1)
    assert (found.best, found.hurts_from, found.not_trainable) == (1, 2, ())


def test_a_stack_that_never_leaves_chance_is_not_trainable():
    """It has no gap, neither overfits nor underfits, and is worse than one that learns."""
    rows = [*deep({1: 0.9, 2: 0.91}), *deep({4: 0.1}, train=0.1, left_chance=False)]
    (found,) = answers(depths(cells(*rows)))
    text = "\n".join(line for table in learning(cells(*rows)) for line in table.after)
    shallow, dead = (next(t for t in learning(cells(*rows))[0].rows if t["L"] == depth) for depth in (1, 4))

    assert (found.best, found.hurts_from, found.not_trainable) == (2, 4, (4,))
    assert (dead["gap"], dead["left chance"]) == (None, "0 of 3 seeds")
    assert shallow["gap"] is not None
    assert "not trainable at L = 4: no seed left chance" in text


def test_seeds_that_never_left_chance_have_no_gap():
    """Dead seeds would make it smaller than it is."""
    rows = [
        *deep({1: 0.9, 2: 0.8}),
        cell(phase="depth", block="pre_ln", depth=2, seed=3, n_train=100, left_chance=False),
    ]
    (_, deeper) = depths(cells(*rows))

    assert sorted(deeper.gap) == [0, 1, 2]
    assert deeper.seeds == 4


def test_without_order_means_without_order():
    """``none`` above the interval of a bag of tokens is said to know positions; within it, it is not."""
    for accuracy, said in (
        (0.31, "does not beat a bag of tokens"),
        (0.5, "it knows positions, or makes more of the counts"),
    ):
        rows = [*learned(none=[accuracy] * 3), cell(phase="bag", test=0.294)]
        (table,) = learning(cells(*rows))

        assert bags(cells(*rows))["digits"].high == pytest.approx(0.336, abs=1e-3)
        assert any(said in line for line in table.after)
