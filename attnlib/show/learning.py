"""The tables of what was learned: encodings against the fixed one, seed by seed, and depth at fixed data."""

import numpy as np

from attnlib.compare.cells import Cells
from attnlib.compare.intervals import MOST, Estimate, mean_over_runs, mean_share
from attnlib.learning.equivalence import MARGIN, Equivalence
from attnlib.learning.study import (
    BASE,
    GOOD,
    Answer,
    Depth,
    Trained,
    answers,
    bags,
    depths,
    encodings,
    rates_tried,
    time_over_none,
)
from attnlib.learning.survival import Median
from attnlib.show.table import Column, Table
from attnlib.show.units import digits, signed, with_interval

THREE = with_interval(digits(3))
OVER = f"minus {BASE}"


def median(found: Median) -> str:
    """A median with its interval, and how many came to the event; the bound that is missing is ``-``."""

    def short(number: float | None) -> str:
        return "-" if number is None else f"{number:,.0f}" if number >= 100 else f"{number:.3g}"

    ends = " .. ".join(map(short, (found.low, found.high)))
    value = "more than half never" if found.steps is None else f"{short(found.steps)} [{ends}]"
    return f"{value}, {found.seen} of {found.trainings}"


ENCODINGS = {
    "data": Column(),
    "L": Column(number=True),
    "encoding": Column(),
    "learning rate": Column("{:g}".format, number=True),
    "test accuracy": Column(THREE),
    "tier": Column(number=True),
    "train accuracy": Column(THREE),
    OVER: Column(signed),
    "verdict": Column(prose=True),
    "time / none": Column(with_interval(digits(2))),
}
GOOD_AFTER = f"seconds to {GOOD:.0%} of the best"
STEPS = {
    "data": Column(),
    "L": Column(number=True),
    "encoding": Column(),
    "pooling": Column(),
    "steps until learned": Column(median),
    f"as fast as {BASE}, p": Column("{:.2g}".format, number=True),
    GOOD_AFTER: Column(median),
}
DEPTHS = {
    "data": Column(),
    "block": Column(),
    "examples": Column(number=True),
    "L": Column(number=True),
    "train accuracy": Column(THREE),
    "test accuracy": Column(THREE),
    "gap": Column(THREE),
    "left chance": Column(prose=True),
}


def learning(cells: Cells) -> list[Table]:
    """Return the tables of what was learned, by encoding and by depth, as far as the runs have them."""
    found = encodings(cells)
    tables = by_encoding(cells, found), by_steps(found), by_rate(cells), by_depth(cells)
    return [table for table in tables if table.rows]


def by_encoding(cells: Cells, found: list[Trained]) -> Table:
    """Return the accuracy with each encoding, its difference to the fixed one, and what a step costs."""
    rows = [
        {
            "data": one.case.data,
            "L": one.case.depth,
            "encoding": one.case.pe,
            "learning rate": one.learning_rate,
            "test accuracy": one.test,
            "tier": one.tier,
            "train accuracy": one.train,
            OVER: None if one.against is None else one.against.difference,
            "verdict": None if one.against is None else in_words(one.against),
            "time / none": time_over_none(cells, one.case),
        }
        for one in found
    ]
    bag = bags(cells)
    after = [
        "intervals of accuracies: 95 % over the seeds; of differences: 95 % for all encodings of a data set together, "
        f"paired by seed; margin {MARGIN:g}, {100 * MARGIN:g} in a hundred answers, fixed beforehand; all on these "
        "test examples, not on another draw of them",
        "encodings of a tier cannot be told apart from its best: the interval of their difference, paired by seed and "
        "wide enough to hold for all pairs of a data set and depth together, contains 0",
    ]
    after += [
        control(one.case.data, one.test, bag[str(one.case.data)])
        for one in found
        if one.case.pe == "none" and one.test and one.case.data in bag
    ]
    after += [f"{one.case.data}, {one.case.pe}: {one.missing} seeds have no result" for one in found if one.missing]
    edge = [f"{one.case.data} L={one.case.depth} {one.case.pe} {one.learning_rate:g}" for one in found if one.at_edge]
    after += [f"learning rates at the edge of those tried: {', '.join(edge)}"] if edge else []
    return Table(ENCODINGS, rows, after=after, keys=3)


def by_steps(found: list[Trained]) -> Table:
    """Return the steps that trainings without a fixed number of steps took to learn, and what an accuracy costs."""
    rows = [
        {
            "data": one.case.data,
            "L": one.case.depth,
            "encoding": one.case.pe,
            "pooling": one.pooling,
            "steps until learned": one.learned,
            f"as fast as {BASE}, p": one.as_fast,
            GOOD_AFTER: one.good,
        }
        for one in found
        if one.learned is not None
    ]
    after = [
        "steps until the mean loss of an epoch was below until_loss: Kaplan and Meier's median over the seeds with its "
        "95 % interval, and how many seeds came to it; a training that stalled counts as one that never does",
        f"p: of the log-rank test against {BASE}, of each encoding alone",
        f"seconds: steps until the test accuracy was {GOOD:g} times the mean of the best encoding of the same data and "
        "depth, times the measured seconds of a step",
    ]
    return Table(STEPS, rows, after=after, keys=3)


def by_rate(cells: Cells) -> Table:
    """Return the mean validation accuracy at each learning rate that was tried."""
    found = [cell for group in cells.by_id.values() for cell in group]
    tuned = dict.fromkeys((cell.case.data, cell.case.pe) for cell in found if cell.case.phase == "tune")
    tried = {key: rates_tried(found, *key) for key in tuned}
    heads: dict[str, Column] = {"data": Column(), "encoding": Column()}
    heads |= {f"{rate:g}": Column("{:.3f}".format, number=True) for rate in sorted(set().union(*tried.values()))}
    rows = [
        {"data": data, "encoding": pe} | {f"{rate:g}": np.mean(values) for rate, values in accuracies.items()}
        for (data, pe), accuracies in tried.items()
    ]
    return Table(
        heads,
        rows,
        before=["validation accuracy at each learning rate that was tried; a training without a result counts as 0"],
        keys=2,
    )


def in_words(verdict: Equivalence) -> str:
    """A verdict, and of an undecided one how many seeds would decide."""
    if verdict.word != "undecided":
        return verdict.word
    if verdict.seeds < 2:
        return "undecided: one seed"
    return f"undecided ({f'about {verdict.needed}' if verdict.needed else f'more than {MOST}'} seeds would decide)"


def control(data: str, none: Estimate, bag: Estimate) -> str:
    """Return a line that compares the stack without encoding with a bag of tokens, which cannot know positions."""
    beats = none.low > bag.high
    said = (
        "beats a bag of tokens: it knows positions, or makes more of the counts"
        if beats
        else "does not beat a bag of tokens"
    )
    return f"{data}, control: none {said}, {THREE(none)} against {THREE(bag)}"


def by_depth(cells: Cells) -> Table:
    """Accuracy at each depth, block and number of examples."""
    found = depths(cells)
    return Table(DEPTHS, [row(one) for one in found], after=[sentence(one) for one in answers(found)], keys=4)


def row(one: Depth) -> dict[str, object]:
    """One line of the table of depths; a stack that cannot be trained has no gap."""
    dead = one.seeds - len(one.test)
    return {
        "data": one.data,
        "block": one.block,
        "examples": one.n_train,
        "L": one.depth,
        "train accuracy": mean_share(list(one.train.values())) if one.train else None,
        "test accuracy": mean_share(list(one.test.values())) if one.test else None,
        "gap": mean_over_runs(list(one.gap.values())),
        "left chance": f"{len(one.alive)} of {one.seeds} seeds" + (f", {dead} diverged" if dead else ""),
    }


def sentence(answer: Answer) -> str:
    """Return a line on what depth does to one block with this number of examples."""
    parts = []
    if answer.gap_growth is not None:
        low, high = answer.gap_growth.low, answer.gap_growth.high
        grows = "grows" if low > 0 else "shrinks" if high < 0 else "may grow or shrink"
        parts.append(f"train minus test accuracy {grows} with depth, {signed(answer.gap_growth)} a doubling")
    if answer.best is not None:
        hurts = "" if answer.hurts_from is None else f", and worse from L = {answer.hurts_from}"
        parts.append(f"the test is best at L = {answer.best}{hurts}")
    if answer.not_trainable:
        parts.append(f"not trainable at L = {', '.join(map(str, answer.not_trainable))}: no seed left chance")
    return f"{answer.data}, {answer.block}, {answer.n_train} examples: {'; '.join(parts)}"
