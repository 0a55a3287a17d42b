"""Training of a small classifier, reproducible to the bit for the same case, and a control that ignores token order."""

import hashlib
import math
import time
import warnings
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from attnlib.cases.case import Case
from attnlib.cases.workload import placed
from attnlib.model.classifier import SequenceClassifier, build_model
from attnlib.model.data import Labelled

WARM_UP = 0.1  # share of the steps in which the learning rate rises from 0; then it falls as a cosine
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


def train(case: Case, data: Labelled) -> dict[str, Any]:
    """Train the case's model with AdamW (arXiv 1711.05101), evaluate it, and return the row's ``training``.

    A case of phase ``tune`` is evaluated on the validation part, any other on the test part, so that reported
    accuracies are not those by which a learning rate was chosen.

    Args:
        case: a case with ``steps`` and ``learning_rate``.
        data: the data set.

    Raises:
        ValueError: the case has no steps or no learning rate.
    """
    if case.steps is None or case.learning_rate is None:
        raise ValueError(f"a training needs steps and a learning rate, not {case.steps} and {case.learning_rate}")
    begun = time.perf_counter()
    model, (tokens, labels) = seeded_model(case), examples(data, "train", case.device)
    chosen, generator = subset(case, len(tokens))
    own = tokens[chosen], labels[chosen]  # [n_train, T] and [n_train]
    losses, failed = fit(model, case, own, generator)
    kind = "validation" if case.phase == "tune" else "test"
    held_out = examples(data, kind, case.device)
    results: dict[str, float | None] = {}
    for name, found in (("train", own), (kind, held_out)):
        results[f"{name}_accuracy"], results[f"{name}_loss"] = judged(model, found)
    if failed is None and not all(is_number(results[f"{name}_loss"]) for name in ("train", kind)):
        failed = "the loss was not finite after the last step"
    if failed is not None:
        results = dict.fromkeys(results)
    accuracy = results["train_accuracy"]
    return {
        **results,
        "reason": failed,
        "left_chance": accuracy is not None and left_chance(accuracy, own[1].cpu().numpy()),
        "learning_rate": case.learning_rate,
        "n_train": len(own[0]),
        "n_held_out": len(held_out[0]),
        "epochs": case.steps * case.batch_size / len(own[0]),
        "losses": [] if failed else [float(part.mean()) for part in losses.tensor_split(min(POINTS, case.steps))],
        "weights": digest(model),
        "seconds": time.perf_counter() - begun,
    }


def fit(model: SequenceClassifier, case: Case, own: Examples, order: torch.Generator) -> tuple[Tensor, str | None]:
    """Run a training's steps; return the loss before each, ``[steps]``, and the reason of an early end or None."""
    steps, size = case.steps or 0, case.batch_size
    optimizer = torch.optim.AdamW(
        model.parameters(), lr=case.learning_rate or 0.0, weight_decay=WEIGHT_DECAY, fused=True
    )
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: rate_at(step, steps))
    tokens, labels = own
    left, losses = torch.empty(0, dtype=torch.int64), torch.full((steps,), math.nan)
    for step in range(steps):
        while len(left) < size:  # begins another epoch, in a new order; a batch may span two
            left = torch.cat([left, torch.randperm(len(tokens), generator=order)])
        batch, left = left[:size], left[size:]
        optimizer.zero_grad(set_to_none=True)
        loss = F.cross_entropy(model(tokens[batch]), labels[batch])
        loss.backward()
        optimizer.step()
        schedule.step()
        losses[step] = loss.detach()
        if not is_number(float(losses[step])):
            return losses, f"the loss was not finite at step {step + 1}"
    return losses, None


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
