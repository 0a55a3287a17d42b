"""Training of a small classifier, reproducible to the bit for the same case, and a control that ignores token order."""

import hashlib
import math
import time
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from attnlib.cases.case import Case
from attnlib.cases.workload import placed
from attnlib.errors import message
from attnlib.model.classifier import SequenceClassifier, build_model
from attnlib.model.data import Labelled
from attnlib.runs.schema import LEARNED

WARM_UP = 0.1  # share of the steps in which the learning rate rises from 0; then it falls as a cosine
# Of a training that goes on until it has learned: steps in which its rate rises from 0; the share of its steps in which
# it then falls to 0; the share of the most steps in which the loss must fall by ``PROGRESS``, else it has stalled.
RISE, FALL = 100, 0.1
PATIENCE, PROGRESS = 0.1, 0.01
FIRST_MARK, MARKS = 100, 4  # steps after which it is judged for the first time, and how often until twice the steps
WEIGHT_DECAY = 0.01
POINTS = 20  # points of the saved loss curve
CHUNK = 512  # examples evaluated at once
HUGE = 1e12  # a loss of this size or more counts as not finite
Examples = tuple[Tensor, Tensor]  # tokens [N, T] and labels [N]


def rate_at(step: int, steps: int) -> float:
    """Return a step's factor on the learning rate: linear warm-up, then half a cosine to 0 (arXiv 1608.03983)."""
    warm = max(1, round(WARM_UP * steps))
    return (step + 1) / warm if step < warm else 0.5 * (1 + math.cos(math.pi * (step - warm) / max(1, steps - warm)))


def examples(data: Labelled, part: str, device: str) -> Examples:
    """Return one part of a data set as tensors: tokens ``[N, T]`` and labels ``[N]``."""
    tokens, labels = (torch.from_numpy(array).to(device) for array in data.part(part))
    return tokens, labels


def seeded_model(case: Case) -> SequenceClassifier:
    """Return the case's model; the parameters that it shares with a model without encoding have the same values.

    Otherwise an encoding with parameters would shift the random numbers of all later ones, and two encodings that are
    compared by seed would start from different weights.
    """
    torch.manual_seed(case.seed)
    shared = build_model(Case(**vars(case) | {"pe": "none"}))
    torch.manual_seed(case.seed)
    model = build_model(case)
    model.load_state_dict(shared.state_dict(), strict=False)
    return placed(model, torch.empty(0, device=case.device, dtype=getattr(torch, case.dtype)))


def subset(case: Case, count: int) -> tuple[Tensor, torch.Generator]:
    """Return the indices of the case's training examples among ``count``, and the generator for its batches.

    Both depend on the case's seed only.
    """
    generator = torch.Generator().manual_seed(case.seed)
    return torch.randperm(count, generator=generator)[: case.n_train or count], generator


@torch.no_grad()
def judged(model: SequenceClassifier, found: Examples) -> tuple[float, float]:
    """Return the accuracy and the mean cross-entropy of a model on examples."""
    tokens, labels = found
    logits = torch.cat([model(chunk) for chunk in tokens.split(CHUNK)]).double()
    return float((logits.argmax(1) == labels).double().mean()), float(F.cross_entropy(logits, labels))


def left_chance(accuracy: float, labels: np.ndarray) -> bool:
    """Return True if an accuracy is above that of always giving the commonest label (binomial test, level 0.1 %)."""
    from scipy import special

    right, count = round(accuracy * len(labels)), len(labels)
    chance = float(np.bincount(labels).max()) / count
    return right > chance * count and bool(special.bdtrc(right - 1, count, chance) < 1e-3)


@dataclass
class Course:
    """The course of a training.

    Args:
        losses: mean cross-entropy of every step's batch, before the step.
        marks: steps, and the accuracy on held-out examples after them.
        ended: ``steps`` if their number was fixed; else ``learned``, ``stalled`` or ``cap``, see ``ending``.
        reason: reason of an early end without a result, or None.
    """

    losses: list[float] = field(default_factory=list)
    marks: list[tuple[int, float]] = field(default_factory=list)
    ended: str = "steps"
    reason: str | None = None

    def learned_at(self, epoch: int, level: float | None, last: float | None) -> int | None:
        """Return the steps after which the loss was below a level; None if it never was, or without a result.

        Args:
            epoch: steps of an epoch, whose mean loss is compared.
            level: loss in nats; None for a training with a fixed number of steps.
            last: loss on all training examples after the last step; None without a result.
        """
        if level is None or last is None:
            return None
        below = np.flatnonzero(epoch_means(self.losses, epoch) < level)
        if len(below):
            return int(below[0] + 1) * epoch
        return len(self.losses) if last < level else None  # the mean of an epoch is of losses before its steps


def epoch_means(losses: Sequence[float], epoch: int) -> np.ndarray:
    """Return the mean loss of each whole epoch of ``epoch`` steps."""
    whole = len(losses) // epoch
    means: np.ndarray = np.reshape(losses[: whole * epoch], (whole, epoch)).mean(1)
    return means


def ending(losses: Sequence[float], epoch: int, level: float, most: int) -> str | None:
    """Return the reason why a training may end after these losses, or None.

    It has ``learned`` if the mean loss of the last epoch is below ``level``; it has ``stalled`` if the least mean loss
    of an epoch has not fallen by ``PROGRESS`` in the last tenth (``PATIENCE``) of the most steps, after at least twice
    as many; and ``cap`` means that it made the most steps.

    Args:
        losses: of every step so far.
        epoch: steps of an epoch.
        level: loss in nats.
        most: the most steps.
    """
    if len(losses) >= most:
        return "cap"
    if not losses or len(losses) % epoch:
        return None
    means, patience = epoch_means(losses, epoch), math.ceil(PATIENCE * most / epoch)
    if means[-1] < level:
        return "learned"
    if len(means) > 2 * patience and min(means[-patience:]) > (1 - PROGRESS) * min(means[:-patience]):
        return "stalled"
    return None


def rates(case: Case, epoch: int, course: Course) -> Iterator[float]:
    """Yield the factor on the learning rate of every step, and note in ``course`` why a training without end ended.

    With ``until_loss`` the rate rises, stays until ``ending`` names a reason, and falls linearly to 0 over a tenth
    (``FALL``) of the steps so far, one epoch at least (arXiv 2405.18392).
    """
    steps = case.steps or 0
    if case.until_loss is None:
        yield from (rate_at(step, steps) for step in range(steps))
        return
    while (ended := ending(course.losses, epoch, case.until_loss, steps)) is None:
        yield min(1.0, (len(course.losses) + 1) / RISE)
    course.ended = ended
    fall = max(epoch, round(FALL * len(course.losses)))
    yield from (left / fall for left in range(fall, 0, -1))


def train(case: Case, data: Labelled) -> dict[str, Any]:
    """Train the case's model with AdamW (arXiv 1711.05101), evaluate it, and return the row's ``training``.

    A case of phase ``pool`` or ``tune`` is evaluated on the validation part, any other on the test part, so that
    reported accuracies are not those by which a pooling or a learning rate was chosen.

    Args:
        case: a case with ``steps`` and ``learning_rate``.
        data: the data set.

    Raises:
        ValueError: the case has no steps or no learning rate.
    """
    if case.steps is None or case.learning_rate is None:
        given = (case.steps, case.learning_rate)
        raise ValueError(message("a training needs steps and a learning rate", given))
    begun = time.perf_counter()
    model, (tokens, labels) = seeded_model(case), examples(data, "train", case.device)
    chosen, generator = subset(case, len(tokens))
    own = tokens[chosen], labels[chosen]  # [n_train, T] and [n_train]
    kind = LEARNED[case.phase]
    held_out = examples(data, kind, case.device)
    course = fit(model, case, own, held_out, generator)
    results: dict[str, float | None] = {}
    for name, found in (("train", own), (kind, held_out)):
        results[f"{name}_accuracy"], results[f"{name}_loss"] = judged(model, found)
    failed = course.reason
    if failed is None and not all(is_number(results[f"{name}_loss"]) for name in ("train", kind)):
        failed = "the loss was not finite after the last step"
    if failed is not None:
        results = dict.fromkeys(results)
    accuracy, steps = results["train_accuracy"], len(course.losses)
    return {
        **results,
        "reason": failed,
        "left_chance": accuracy is not None and left_chance(accuracy, own[1].cpu().numpy()),
        "learning_rate": case.learning_rate,
        "pooling": case.pooling,
        "n_train": len(own[0]),
        "n_held_out": len(held_out[0]),
        "epochs": steps * case.batch_size / len(own[0]),
        "steps": steps,
        "ended": course.ended,
        "learned_at": course.learned_at(epoch_of(case, len(own[0])), case.until_loss, results["train_loss"]),
        "marks": [] if failed else course.marks,
        "losses": [] if failed else [float(part.mean()) for part in np.array_split(course.losses, min(POINTS, steps))],
        "weights": digest(model),
        "seconds": time.perf_counter() - begun,
    }


def epoch_of(case: Case, count: int) -> int:
    """Return the steps of an epoch over ``count`` examples."""
    return max(1, round(count / case.batch_size))


def fit(model: SequenceClassifier, case: Case, own: Examples, held_out: Examples, order: torch.Generator) -> Course:
    """Run a training's steps and return its course.

    Args:
        model: the model, which is changed.
        case: of the training.
        own: examples to learn from.
        held_out: examples on which a training without a fixed number of steps is judged on the way.
        order: draws the order of the examples in each epoch.
    """
    tokens, labels = own
    optimizer = torch.optim.AdamW(
        model.parameters(), lr=case.learning_rate or 0.0, weight_decay=WEIGHT_DECAY, fused=True
    )
    left, course = torch.empty(0, dtype=torch.int64), Course()
    for factor in rates(case, epoch_of(case, len(tokens)), course):
        for group in optimizer.param_groups:
            group["lr"] = factor * (case.learning_rate or 0.0)
        while len(left) < case.batch_size:  # begins another epoch, in a new order; a batch may span two
            left = torch.cat([left, torch.randperm(len(tokens), generator=order)])
        batch, left = left[: case.batch_size], left[case.batch_size :]
        optimizer.zero_grad(set_to_none=True)
        loss = F.cross_entropy(model(tokens[batch]), labels[batch])
        loss.backward()
        optimizer.step()
        course.losses.append(float(loss.detach()))
        if not is_number(course.losses[-1]):
            course.reason = f"the loss was not finite at step {len(course.losses)}"
            break
        if case.until_loss is not None and is_mark(len(course.losses)):
            course.marks.append((len(course.losses), judged(model, held_out)[0]))
    return course


def is_mark(steps: int) -> bool:
    """Return True if a training is judged after this many steps: 100, 119, 141, 168, 200, 238, ..."""
    octave = MARKS * math.log2(steps / FIRST_MARK)
    return steps >= FIRST_MARK and round(FIRST_MARK * 2 ** (round(octave) / MARKS)) == steps


def is_number(loss: float | None) -> bool:
    """Return True if a loss is finite and below ``HUGE``."""
    return loss is not None and loss < HUGE


def digest(model: SequenceClassifier) -> str:
    """Return the first 16 hex digits of a SHA-256 of all parameters; equal if two trainings agree to the bit."""
    whole = hashlib.sha256()
    for parameter in model.parameters():
        whole.update(parameter.detach().cpu().double().numpy().tobytes())
    return whole.hexdigest()[:16]


def bag_of_tokens(data: Labelled) -> dict[str, Any]:
    """Return the accuracy of the best classifier of token counts, which ignores the order of tokens.

    Chosen by validation accuracy from logistic regressions and random forests (scikit-learn), and evaluated on the test
    part. A stack without encoding that does better uses positions, or makes better use of the counts.

    Raises:
        ModuleNotFoundError: scikit-learn is not installed.
    """
    from sklearn.ensemble import RandomForestClassifier
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    begun = time.perf_counter()

    def counts(part: str) -> tuple[np.ndarray, np.ndarray]:
        tokens, labels = data.part(part)
        return np.array([np.bincount(row, minlength=data.vocab_size) for row in tokens]), labels

    models: list[Any] = [
        *(make_pipeline(StandardScaler(), LogisticRegression(C=C, max_iter=2000)) for C in (0.01, 0.1, 1.0)),
        *(RandomForestClassifier(300, min_samples_leaf=n, random_state=0) for n in (1, 3, 10)),
    ]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # a fit that needs more steps loses to the other models
        for model in models:
            model.fit(*counts("train"))
    best = max(models, key=lambda model: model.score(*counts("validation")))
    accuracy = float(best.score(*counts("train")))
    return {
        "train_accuracy": accuracy,
        "test_accuracy": float(best.score(*counts("test"))),
        "left_chance": left_chance(accuracy, data.part("train")[1]),
        "n_train": data.sizes[0],
        "n_held_out": data.sizes[2],
        "seconds": time.perf_counter() - begun,
    }
