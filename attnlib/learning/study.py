"""Comparisons of trainings: the chosen pooling and learning rate, encodings paired by seed, depth at fixed data."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from math import comb
from typing import Any, NamedTuple

import numpy as np

from attnlib.compare.cells import Cells
from attnlib.compare.intervals import Estimate, mean_share, share_interval, t_interval
from attnlib.learning.equivalence import Equivalence, verdict
from attnlib.learning.survival import Median, Steps, differ, median_steps
from attnlib.learning.tiers import tiers
from attnlib.runs.load import Cell
from attnlib.runs.schema import Case, Training

BASE = "sinusoidal"  # the fixed encoding that others are compared with
GOOD = 0.95  # share of the best encoding's accuracy whose cost is reported
Key = tuple[Any, ...]


def chosen_rate(cells: Iterable[Cell], data: str | None, pe: str) -> float | None:
    """Return the learning rate with the highest mean validation accuracy (the smallest of equals); None if untuned."""
    cells = list(cells)
    if not any(cell.case.phase == "tune" and (cell.case.data, cell.case.pe) == (data, pe) for cell in cells):
        return None
    found = rates_tried(cells, data, pe)
    return max(sorted(found), key=lambda rate: np.mean(found[rate]), default=None)


def rates_tried(cells: Iterable[Cell], data: str | None, pe: str) -> dict[float, list[float]]:
    """Return the validation accuracies of an encoding on a data set by learning rate; 0 stands for no result.

    They are those of phase ``tune``, and of the trainings in phase ``pool`` with the pooling that was chosen there.
    """
    own = [cell for cell in cells if cell.case.data == data and cell.status == "ok"]
    pooling = chosen_pooling(own, data)
    found: dict[float, list[float]] = {}
    for cell in own:
        case = cell.case
        counts = case.phase == "tune" or (case.phase == "pool" and case.pooling == pooling)
        if counts and case.pe == pe and case.learning_rate is not None:
            accuracy = cell.training.validation_accuracy if cell.training else None
            found.setdefault(case.learning_rate, []).append(accuracy or 0.0)
    return found


def chosen_pooling(cells: Iterable[Cell], data: str | None) -> str | None:
    """Return the pooling whose worst encoding has the highest mean validation accuracy; None if none was tried."""
    found: dict[str, dict[str, list[float]]] = {}  # by pooling and encoding
    for cell in cells:
        if cell.case.phase == "pool" and cell.status == "ok" and cell.case.data == data:
            accuracy = cell.training.validation_accuracy if cell.training else None
            found.setdefault(cell.case.pooling, {}).setdefault(cell.case.pe, []).append(accuracy or 0.0)
    return max(found, key=lambda name: min(map(np.mean, found[name].values())), default=None)


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
    tier: int | None  # by test accuracy, among the encodings of the same data and depth, see ``learning.tiers``
    pooling: str | None
    learned: Median | None  # steps until the loss was below until_loss; None if trainings had a fixed number of steps
    as_fast: float | None  # p-value of the log-rank test that it learns in as many steps as the base
    good: Median | None  # seconds until the test accuracy was ``GOOD`` times that of the best encoding
    at_edge: bool  # True if the chosen learning rate is the least or the largest that was tried


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
    keys = sorted(planned, key=lambda key: (*map(str, key[:-1]), order(key[-1])))
    alike = {key: [other for other in planned if other[:-1] == key[:-1]] for key in keys}
    best = {key: max((mean_test(ended.get(other, {})) for other in alike[key]), default=0.0) for key in keys}
    place = {key: places({other[-1]: ended[other] for other in alike[key] if other in ended}) for key in keys}
    return [
        trained(
            cells,
            planned[key],
            ended.get(key, {}),
            {} if key[-1] == BASE else ended.get((*key[:-1], BASE), {}),
            tests=sum(other[-1] != BASE for other in alike[key]),
            target=GOOD * best[key],
        )._replace(tier=place[key].get(key[-1]))
        for key in keys
    ]


def places(ended: Mapping[str, Mapping[int, Training]]) -> dict[str, int]:
    """Return the tier of each encoding by test accuracy, given its trainings by seed."""
    held_out = [training.n_held_out for own in ended.values() for training in own.values()]
    values = {pe: {seed: one.test_accuracy or 0.0 for seed, one in own.items()} for pe, own in ended.items()}
    return {one.name: one.tier for one in tiers(values, 1 / max(held_out, default=1))}


def mean_test(ended: Mapping[int, Training]) -> float:
    """Return the mean test accuracy over seeds; 0 without any."""
    return float(np.mean([training.test_accuracy or 0.0 for training in ended.values()])) if ended else 0.0


def trained(
    cells: Cells,
    planned: Sequence[Case],
    own: Mapping[int, Training],
    base: Mapping[int, Training],
    *,
    tests: int,
    target: float,
) -> Trained:
    """Return the result of one encoding.

    Args:
        cells: all cells.
        planned: its cases, one a seed.
        own: its trainings with a result, by seed.
        base: the base's, by seed; empty for the base itself.
        tests: number of verdicts that hold together.
        target: test accuracy whose cost is wanted.
    """
    case, first = planned[0], next(iter(own.values()), None)
    shared = sorted(own.keys() & base.keys())
    pairs = [(own[seed].test_accuracy or 0.0) - (base[seed].test_accuracy or 0.0) for seed in shared]
    rate = first.learning_rate if first else None
    tried = rates_tried((cell for group in cells.by_id.values() for cell in group), case.data, case.pe)
    learned = [steps_to_learn(case, training) for training in own.values()] if case.until_loss else []
    others = [steps_to_learn(case, training) for training in base.values()] if case.until_loss else []
    step = cells.time(cells.first(phase="train_step", pe=case.pe, **setting(case)))
    good = [steps_to_accuracy(case, training, target) for training in own.values()] if case.until_loss else []
    return Trained(
        case=case,
        learning_rate=rate,
        test=mean_share([training.test_accuracy or 0.0 for training in own.values()]) if own else None,
        train=mean_share([training.train_accuracy or 0.0 for training in own.values()]) if own else None,
        against=verdict(pairs, tests=tests, step=1 / first.n_held_out) if pairs and first else None,
        missing=len(planned) - len(own),
        tier=None,
        pooling=first.pooling if first else None,
        learned=median_steps(learned) if learned else None,
        as_fast=differ(learned, others) if learned and others else None,
        good=median_steps(good).times(step) if good and step else None,
        at_edge=len(tried) > 1 and rate in (min(tried), max(tried)),
    )


def steps_to_learn(case: Case, training: Training) -> Steps:
    """Return the steps until the loss was below ``until_loss``; a training that stalled had not come to it at its cap.

    A training that stalled is counted as if it had gone on to the cap without learning: it ended because its loss no
    longer fell, so that its end says more than that the event was not seen until then.
    """
    found = training.learned_at
    return Steps(case.steps or 0, seen=False) if found is None else Steps(found, seen=True)


def steps_to_accuracy(case: Case, training: Training, target: float) -> Steps:
    """Return the steps until a training was first judged to have this test accuracy, at its end or on the way."""
    judged = [*training.marks, (training.steps or 0, training.test_accuracy or 0.0)]
    found = next((steps for steps, accuracy in judged if accuracy >= target), None)
    return Steps(case.steps or 0, seen=False) if found is None else Steps(found, seen=True)


def kind(case: Case) -> Key:
    """Return the fields that compared encodings must share, and the encoding last."""
    return case.data, case.block, case.depth, case.d_model, case.batch_size, case.steps, case.until_loss, case.pe


def setting(case: Case) -> dict[str, Any]:
    """Return the fields that the timed train step of a trained stack shares with it."""
    return {name: getattr(case, name) for name in ("data", "batch_size", "block", "depth", "d_model")}


def time_over_none(cells: Cells, case: Case) -> Estimate | None:
    """Return the ratio of a training step's time to that of the same stack without encoding; None if not measured."""
    own, none = (cells.first(phase="train_step", pe=pe, **setting(case)) for pe in (case.pe, "none"))
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
