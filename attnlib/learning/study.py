"""Comparisons of trainings: the best learning rate, encodings paired by seed with a base, depth at fixed data."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from math import comb
from typing import Any, NamedTuple

import numpy as np

from attnlib.compare.cells import Cells
from attnlib.compare.intervals import Estimate, mean_over_runs, share_interval, t_interval
from attnlib.learning.equivalence import Equivalence, verdict
from attnlib.runs.load import Cell
from attnlib.runs.schema import Case, Training

BASE = "sinusoidal"  # the fixed encoding that others are compared with
Key = tuple[Any, ...]


def chosen_rate(cells: Iterable[Cell], data: str | None, pe: str) -> float | None:
    """Return the learning rate with the highest mean validation accuracy (the smallest of equals); None if untuned."""
    found: dict[float, list[float]] = {}
    for cell in cells:
        case = cell.case
        tuned = case.phase == "tune" and cell.status == "ok" and (case.data, case.pe) == (data, pe)
        if tuned and case.learning_rate is not None:
            accuracy = cell.training.validation_accuracy if cell.training else None
            found.setdefault(case.learning_rate, []).append(accuracy or 0.0)
    return max(sorted(found), key=lambda rate: np.mean(found[rate]), default=None)


def trainings(cells: Cells, phase: str) -> list[tuple[Case, Training]]:
    """Return the cases of a phase with their trainings, each from the first run that has it."""
    found: list[tuple[Case, Training]] = []
    for group in cells.where(phase=phase):
        found += [(cell.case, cell.training) for cell in group if cell.training][:1]
    return found


class Trained(NamedTuple):
    """One encoding on one data set: mean accuracies over the seeds, and the verdict against the base."""

    case: Case
    learning_rate: float | None  # None, like the accuracies, if no seed has a result
    test: Estimate | None
    train: Estimate | None
    against: Equivalence | None  # None for the base itself
    missing: int  # seeds without a result: the training diverged or failed


def encodings(cells: Cells) -> list[Trained]:
    """Return the result of every planned encoding, by data set and in the registry's order.

    The verdicts of a data set hold together for all of its encodings.
    """
    planned: dict[Key, list[Case]] = {}
    for group in cells.where(phase="learn"):
        planned.setdefault(kind(group[0].case), []).append(group[0].case)
    ended: dict[Key, dict[int, Training]] = {}  # by seed
    for case, training in trainings(cells, "learn"):
        if training.reason is None:
            ended.setdefault(kind(case), {})[case.seed] = training
    order = cells.names("pe").index
    result = []
    for key in sorted(planned, key=lambda key: (*map(str, key[:-1]), order(key[-1]))):
        own, base = ended.get(key, {}), ended.get((*key[:-1], BASE), {})
        tests = sum(other[:-1] == key[:-1] and other[-1] != BASE for other in planned)
        shared = sorted(own.keys() & base.keys())
        pairs = [(own[seed].test_accuracy or 0.0) - (base[seed].test_accuracy or 0.0) for seed in shared]
        first = next(iter(own.values()), None)
        step = 1 / first.n_held_out if first else 1.0
        result.append(
            Trained(
                case=planned[key][0],
                learning_rate=first.learning_rate if first else None,
                test=mean_over_runs([training.test_accuracy or 0.0 for training in own.values()]),
                train=mean_over_runs([training.train_accuracy or 0.0 for training in own.values()]),
                against=verdict(pairs, tests=tests, step=step) if pairs and key[-1] != BASE else None,
                missing=len(planned[key]) - len(own),
            )
        )
    return result


def kind(case: Case) -> Key:
    """Return the fields that compared encodings must share, and the encoding last."""
    return case.data, case.block, case.depth, case.d_model, case.batch_size, case.steps, case.pe


def time_over_none(cells: Cells, case: Case) -> Estimate | None:
    """Return the ratio of a training step's time to that of the same stack without encoding; None if not measured."""
    same = {name: getattr(case, name) for name in ("data", "batch_size", "block", "depth", "d_model")}
    own, none = (cells.first(phase="train_step", pe=pe, **same) for pe in (case.pe, "none"))
    return cells.ratio(own, none)


def bags(cells: Cells) -> dict[str, Estimate]:
    """Return the test accuracy of a bag of tokens by data set, with its interval over draws of test examples."""
    return {
        str(case.data): share_interval(training.test_accuracy or 0.0, training.n_held_out)
        for case, training in trainings(cells, "bag")
    }


@dataclass(frozen=True)
class Depth:
    """Accuracies by seed of one block at one depth and training size, without seeds that diverged."""

    data: str
    block: str
    n_train: int
    depth: int
    train: Mapping[int, float]
    test: Mapping[int, float]
    alive: frozenset[int]  # seeds whose train accuracy is above chance
    seeds: int

    @property
    def gap(self) -> dict[int, float]:
        """Train minus test accuracy by seed, of the seeds above chance: the others learned nothing to overfit."""
        return {seed: self.train[seed] - self.test[seed] for seed in sorted(self.alive)}

    @property
    def trainable(self) -> bool:
        """True if any seed rose above chance."""
        return bool(self.alive)


def depths(cells: Cells) -> list[Depth]:
    """Return the accuracies of every block, training size and depth that was trained."""
    found: dict[tuple[str, str, int, int], dict[int, Training]] = {}
    for case, training in trainings(cells, "depth"):
        key = str(case.data), case.block, training.n_train, case.depth
        found.setdefault(key, {})[case.seed] = training
    order = cells.names("block").index
    result = []
    for key in sorted(found, key=lambda key: (key[0], order(key[1]), *key[2:])):
        ended = {seed: training for seed, training in found[key].items() if training.reason is None}
        train = {seed: training.train_accuracy or 0.0 for seed, training in ended.items()}
        test = {seed: training.test_accuracy or 0.0 for seed, training in ended.items()}
        alive = frozenset(seed for seed, training in ended.items() if training.left_chance)
        result.append(Depth(*key, train=train, test=test, alive=alive, seeds=len(found[key])))
    return result


class Answer(NamedTuple):
    """The effect of depth on one block at one training size.

    Args:
        data: name of the data set.
        block: block of the stacks.
        n_train: number of training examples.
        gap_growth: growth of train minus test accuracy per doubling of depth; None with fewer than two trainable
            depths.
        best: depth with the highest mean test accuracy.
        hurts_from: smallest depth beyond ``best`` with a lower test accuracy, in intervals that hold together for all
            pairs of depths; None if there is none.
        not_trainable: depths at which no seed rose above chance.
    """

    data: str
    block: str
    n_train: int
    gap_growth: Estimate | None
    best: int | None
    hurts_from: int | None
    not_trainable: tuple[int, ...]


def answers(found: Sequence[Depth]) -> list[Answer]:
    """Return the effect of depth for each data set, block and training size; intervals are over paired seeds."""
    kinds = dict.fromkeys((one.data, one.block, one.n_train) for one in found)
    return [answer([one for one in found if (one.data, one.block, one.n_train) == kind]) for kind in kinds]


def answer(line: Sequence[Depth]) -> Answer:
    """Return the effect of depth along stacks that differ in depth only, in growing order."""
    learned = [one for one in line if one.trainable]
    best = max(learned, key=lambda one: float(np.mean(list(one.test.values()))), default=None)
    hurts = None
    if best is not None:
        deeper = (one for one in line if one.depth > best.depth)
        hurts = next((one.depth for one in deeper if _is_worse(one, best, comb(len(line), 2))), None)
    return Answer(
        data=line[0].data,
        block=line[0].block,
        n_train=line[0].n_train,
        gap_growth=_growth(learned),
        best=None if best is None else best.depth,
        hurts_from=hurts,
        not_trainable=tuple(one.depth for one in line if not one.trainable),
    )


def _is_worse(one: Depth, best: Depth, pairs: int) -> bool:
    """Return True if a depth's test accuracy is below the best's, corrected for ``pairs``, or it is not trainable."""
    paired = [one.test[seed] - best.test[seed] for seed in one.test.keys() & best.test.keys()]
    return not one.trainable or (len(paired) > 1 and t_interval(paired, 1 - 0.05 / pairs).high < 0)


def _growth(learned: Sequence[Depth]) -> Estimate | None:
    """Return the mean slope of the gap against log2 of the depth over seeds; None below two depths or seeds."""
    seeds = set.intersection(*(set(one.gap) for one in learned)) if len(learned) > 1 else set()
    if len(seeds) < 2:
        return None
    x = np.log2([one.depth for one in learned])
    return t_interval([float(np.polyfit(x, [one.gap[seed] for one in learned], 1)[0]) for seed in sorted(seeds)])
