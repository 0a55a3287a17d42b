"""Answers of saved runs to the suite's questions: one sentence each, linked to the cases that it rests on."""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np

from attnlib.compare.cells import STEP, Cells, claims, fullest
from attnlib.compare.intervals import Estimate
from attnlib.compare.pairs import floor
from attnlib.compare.scaling import lines, slopes
from attnlib.learning.study import BASE, depths, encodings
from attnlib.learning.study import answers as depth_answers
from attnlib.runs.load import Cell
from attnlib.show.ceilings import errors_of
from attnlib.show.encodings import Law, checks
from attnlib.show.learning import in_words, sentence
from attnlib.show.units import digits, seconds, signed, with_interval

TWO, THREE = with_interval(digits(2)), with_interval(digits(3))
Part = tuple[str, str | None]  # part of a sentence, and the id of the case that it links to


class Answer(NamedTuple):
    """A question, and its answer in parts."""

    question: str
    parts: Sequence[Part]


def answers(cells: Cells) -> list[Answer]:
    """Return the answers for which these runs have data."""
    return [*costs(cells), *noise(cells), *memory(cells), *gradients(cells), *learning(cells)]


def costs(cells: Cells) -> Iterator[Answer]:
    """Yield the time of a step, the cost of each encoding and the growth with length, at the depth of most lengths."""
    if not cells.axis("depth", **STEP):
        return
    depth = fullest(cells, "seq_len", "depth")
    at = {"depth": depth, "seq_len": cells.axis("seq_len", depth=depth, **STEP)[-1]}
    base = cells.first(pe="none", **at, **STEP)
    others = [cells.first(pe=pe, **at, **STEP) for pe in cells.axis("pe", **STEP) if pe != "none"]
    ratios = [(ratio, group[0]) for group in others if (ratio := cells.ratio(group, base))]
    place = f"train step at L = {at['depth']} and T = {at['seq_len']}"
    if time := cells.time(base):
        parts = (f"A {place} takes ", None), (seconds(time.value), base[0].case_id), (" without positions.", None)
        yield Answer("How long is a step?", parts)
    if ratios:
        by_ratio = sorted(ratios, key=lambda found: found[0].value)
        words: list[Part] = [(f"{cell.case.pe} {TWO(ratio)}", cell.case_id) for ratio, cell in by_ratio]
        commas = [part for word in words for part in ((", ", None), word)][1:]
        yield Answer("What does an encoding cost?", [(f"A {place}, over the same without: ", None), *commas])
    for cell, fitted, times in lines(cells, "seq_len", pe="none", depth=depth, **STEP):
        first, last = fitted.sizes[-2:]
        power = TWO(slopes(fitted.sizes, times)[-1]), cell.case_id
        yield Answer("How does time grow?", [(f"From {first:g} to {last:g} tokens as T to the power ", None), power])


def noise(cells: Cells) -> Iterator[Answer]:
    """Yield the noise floor and the number of disturbed timings."""
    timed = [cell for run in cells.runs for cell in run.cells if cell.timed]
    if found := floor(timed):
        yield Answer("What is noise?", [(f"The reference {found}.", None)])
    if timed:
        count = sum(cell.disturbed for cell in timed)
        text = f"{count} of {len(timed)} timings were disturbed in both attempts, and are marked."
        yield Answer("Was the machine quiet?", [(text, None)])


def memory(cells: Cells) -> Iterator[Answer]:
    """Yield the errors of predicted memory peaks."""
    if errors := errors_of([cell for run in cells.runs for cell in run.cells]):
        worst = max(errors, key=abs)
        text = (
            f"Errors of {len(errors)} predicted peaks: the largest {worst:+.2%}, the median {np.median(errors):+.2%}."
        )
        yield Answer("Is memory as predicted?", [(text, None)])


def gradients(cells: Cells) -> Iterator[Answer]:
    """Yield the decay of gradients and tokens in a plain stack, and the number of claims that hold."""
    none, learned = checks(cells, "none"), checks(cells, "learned")
    rate, alike = (none[name] or learned[name] for name in none)
    if claim := claims(rate).get("first_layer"):
        fitted = THREE(Estimate(claim.mean, claim.low, claim.high))
        theory = "no closed form is known" if claim.theory is None else f"theory says {claim.theory:.3f}"
        parts = (f"{fitted} decades", rate[0].case_id), (f"; {theory}.", None)
        before = "With each additional layer the first layer's gradient changes by "
        yield Answer("Do gradients survive a plain stack?", [(before, None), *parts])
    if exponent := claims(alike).get("exponent"):
        law = str(Law(exponent.mean, exponent.theory, None)), alike[0].case_id
        yield Answer("Do tokens stay different?", [("From layer to layer they become alike: ", None), law])
    failed = [group[0] for group in cells.by_id.values() if any(is_failed_check(cell) for cell in group)]
    passed = [group for group in cells.by_id.values() if group[0] not in failed]
    held = [len(own) for group in passed if (own := claims(group))]
    if held or failed:
        said: list[Part] = [(f"{sum(held)} claims hold, in {len(held)} checks; {len(failed)} failed", None)]
        said += [part for cell in failed for part in ((", ", None), (cell.label, cell.case_id))]
        yield Answer("Does theory hold?", [*said, (".", None)])


def learning(cells: Cells) -> Iterator[Answer]:
    """Yield the verdict on a learned encoding against a fixed one, on each data set, and the effect of depth."""
    verdicts = [(one.case, one.against) for one in encodings(cells) if one.case.pe == "learned"]
    words = [
        f"{case.data}, L = {case.depth}: {in_words(found)}, {signed(found.difference)}"
        for case, found in verdicts
        if found
    ]
    if words:
        said = f"Test accuracy with a learned table minus that with {BASE}, paired by seed: {'; '.join(words)}."
        yield Answer("Is a learned encoding as good as a fixed one?", [(said, None)])
    if deep := [sentence(one) for one in depth_answers(depths(cells))]:
        yield Answer("Does depth overfit?", [(f"{'. '.join(deep)}.", None)])


def is_failed_check(cell: Cell) -> bool:
    """Return True for a check of gradients some of whose claims do not hold."""
    return cell.status == "error" and cell.question.endswith("_gradients.py::test_" + cell.case.phase)
