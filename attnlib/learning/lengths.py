"""Training on short sequences and its test on longer ones (arXiv 2410.02140), reproducible to the bit for a case."""

import time
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from attnlib.cases.case import Case
from attnlib.errors import message
from attnlib.learning.training import POINTS, WEIGHT_DECAY, digest, is_number, seeded_model
from attnlib.model.classifier import SequenceClassifier
from attnlib.model.data import ByLength
from attnlib.model.data.tasks import IGNORED, Sequences, Task
from attnlib.model.data.texts import Texts

LARGEST_NORM = 1.0  # of all gradients together; larger ones are scaled down
CHECKS = 10  # a training is looked at after each tenth of its steps, and may end there
FIT = 0.99  # share of new examples of the training lengths that a stack which fits them answers right
BATCHES, LOOKS = 0, 1  # streams of a seed's examples: to train on, and to decide whether to end


class Score(NamedTuple):
    """Numbers of examples and of those answered right, and the same of the tokens in their answers."""

    examples: int
    exact: int
    tokens: int
    right: int


def train(case: Case, data: ByLength) -> dict[str, Any]:
    """Train the case's model on short sequences, evaluate it at every length, and return the row's ``probe``.

    Args:
        case: a case with ``steps`` and ``learning_rate``.
        data: its task or texts.

    Raises:
        ValueError: the case has no steps or no learning rate.
    """
    if case.steps is None or case.learning_rate is None:
        given = (case.steps, case.learning_rate)
        raise ValueError(message("a training needs steps and a learning rate", given))
    begun = time.perf_counter()
    model = seeded_model(case)
    losses, ended_early, failed = fit(model, case, data)
    found: dict[str, Any] = {
        "learning_rate": case.learning_rate,
        "steps": len(losses),
        "ended_early": ended_early,
        "reason": failed,
        "weights": digest(model),
    }
    curves = {}
    if failed is None:
        scores = {length: judged(model, data.tested(length)) for length in data.lengths}
        curves = curves_of(scores)
        found["ranges"] = in_ranges(data, scores)
        found["fits"] = found["ranges"][0]["exact"] >= FIT if isinstance(data, Task) else None
        found["losses"] = [float(part.mean()) for part in np.array_split(losses, min(POINTS, len(losses)))]
    return {"lengths": found | {"seconds": time.perf_counter() - begun}, "curves": curves}


def fit(model: SequenceClassifier, case: Case, data: ByLength) -> tuple[list[float], bool, str | None]:
    """Train a model with AdamW (arXiv 1711.05101) at a rate that falls linearly to 0.

    A task's training ends early if, after a tenth of its steps or a multiple of it, every new example of the training
    lengths is answered right.

    Returns:
        the loss before each step; whether the training ended early; and the reason if it failed, else None.
    """
    steps, every = case.steps or 0, max(1, (case.steps or 0) // CHECKS)
    optimizer = torch.optim.AdamW(
        model.parameters(), lr=case.learning_rate or 0.0, weight_decay=WEIGHT_DECAY, fused=True
    )
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: 1 - step / steps)
    batches, looks = (np.random.Generator(np.random.PCG64([case.seed, stream])) for stream in (BATCHES, LOOKS))
    torch.manual_seed(case.seed)  # of random offsets
    losses: list[float] = []
    for step in range(1, steps + 1):
        optimizer.zero_grad(set_to_none=True)
        loss = loss_of(model, data.batch(batches, case.batch_size))
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), LARGEST_NORM)
        optimizer.step()
        schedule.step()
        losses.append(float(loss.detach()))
        if not is_number(losses[-1]):
            return losses, False, f"the loss was not finite at step {step}"
        if step % every == 0 and step < steps and isinstance(data, Task) and all_right(model, data.short(looks)):
            return losses, True, None
    if not all(bool(parameter.isfinite().all()) for parameter in model.parameters()):
        return losses, False, "the weights were not finite after the last step"
    return losses, False, None


def loss_of(model: SequenceClassifier, found: Sequences) -> Tensor:
    """Return the mean cross-entropy of the targets that are not ``IGNORED``: for a task, those of the answers alone."""
    tokens, targets = (torch.from_numpy(array).to(model.head.weight.device) for array in found)
    logits = model(tokens)  # [B, T, n_classes], or [B, n_classes] of a text
    return F.cross_entropy(logits.flatten(0, -2), targets.flatten(), ignore_index=IGNORED)


@torch.no_grad()
def judged(model: SequenceClassifier, found: Sequences) -> Score:
    """Return how many examples a model answers right, each token given the right ones before it."""
    tokens, targets = (torch.from_numpy(array).to(model.head.weight.device) for array in found)
    model.eval()
    right = model(tokens).argmax(-1) == targets
    model.train()
    asked = targets != IGNORED
    whole = (right | ~asked).view(len(tokens), -1).all(1)
    return Score(len(tokens), int(whole.sum()), int(asked.sum()), int((right & asked).sum()))


def all_right(model: SequenceClassifier, found: Sequences) -> bool:
    """Return True if a model answers every example right."""
    score = judged(model, found)
    return score.exact == score.examples


def curves_of(scores: Mapping[int, Score]) -> dict[str, list[float]]:
    """Return the lengths, and at each the share of examples and of tokens that are right."""
    return {
        "length": [float(length) for length in scores],
        "exact": [score.exact / score.examples for score in scores.values()],
        "per_token": [score.right / score.tokens for score in scores.values()],
    }


def in_ranges(data: ByLength, scores: Mapping[int, Score]) -> list[dict[str, Any]]:
    """Return the accuracy at up to N, 2 N and all further letters or symbols, N those of the training.

    A range without test examples is left out.
    """
    shortest, longest = 1, data.test_length
    ends = sorted({data.train_length, min(2 * data.train_length, longest), longest})
    found = []
    for high in ends:
        own = [score for length, score in scores.items() if shortest <= length <= high]
        if own:
            examples, exact, tokens, right = (sum(counts) for counts in zip(*own, strict=True))
            shares = {"exact": exact / examples, "per_token": right / tokens}
            if isinstance(data, Texts):
                shares["commonest"] = share_of_commonest(data, shortest, high)
            found.append({"low": shortest, "high": high, "examples": examples} | shares)
        shortest = high + 1
    return found


def share_of_commonest(data: Texts, low: int, high: int) -> float:
    """Return the accuracy, on the test texts of a range of lengths, of always giving the commonest training label."""
    labels = np.concatenate([data.tested(length).targets for length in data.lengths if low <= length <= high])
    return float((labels == data.commonest).mean())
