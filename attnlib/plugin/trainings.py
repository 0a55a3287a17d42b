"""Trainings in a session: the learning rate of a case, the cases to train next, and results as lines of text."""

from collections.abc import Iterator
from dataclasses import replace
from itertools import islice
from typing import Any

from attnlib.cases.case import CHOSEN, Case
from attnlib.errors import message
from attnlib.learning.study import chosen_pooling, chosen_rate
from attnlib.learning.trainers import AHEAD, Trainers
from attnlib.learning.training import bag_of_tokens
from attnlib.model.data import data_set
from attnlib.plugin.record import Left, Record
from attnlib.runs.journal import NOT_YET


class Study:
    """Trainer of a session's cases.

    Args:
        record: the session's.
    """

    def __init__(self, record: Record) -> None:
        self.record, self.trainers = record, Trainers()

    def probe(self, case: Case) -> dict[str, Any]:
        """Return the result of a case as its row's ``probe``; raises as ``training``."""
        found = self.training(case)
        return found if case.phase == "lengths" else {"training": found}

    def training(self, case: Case) -> dict[str, Any]:
        """Return the result of training a case; a bag of tokens is fitted in this process.

        Raises:
            Left: no learning rate was chosen.
        """
        if case.phase == "bag":
            return bag_of_tokens(data_set(case.data or ""))
        ready = self.ready(case)
        if ready is None:
            wrong = f"no pooling or learning rate was chosen for {case.pe} on {case.data}"
            raise Left("unsupported", message(wrong, do="run test_pool and test_tune in the same session"))
        return self.trainers.train(ready, list(islice(self.upcoming(case.phase), AHEAD)))

    def upcoming(self, phase: str) -> Iterator[Case]:
        """Yield the cases of this phase that have not run yet and have a learning rate."""
        for entry in self.record.entries.values():
            if entry.case is not None and entry.case.phase == phase and entry.row == NOT_YET:
                ready = self.ready(entry.case)
                if ready is not None:
                    yield ready

    def ready(self, case: Case) -> Case | None:
        """Return the case with its own pooling and learning rate, or else the chosen ones; None if none was chosen."""
        pooling: str | None = case.pooling
        if pooling == CHOSEN:
            pooling = chosen_pooling(self.record.trainings("pool"), case.data)
        rate = case.learning_rate
        if rate is None:
            shown = self.record.settings.encoding_label(case.pe)  # as rows are read
            rate = chosen_rate(self.record.trainings("pool", "tune"), case.data, shown)
        return None if pooling is None or rate is None else replace(case, pooling=pooling, learning_rate=rate)


def in_words(probe: dict[str, Any]) -> str:
    """Return the result of a training as a line of text."""
    return lengths_in_words(probe["lengths"]) if "lengths" in probe else training_in_words(probe["training"])


def lengths_in_words(found: dict[str, Any]) -> str:
    """Return the result of a training on short sequences as a line of text."""
    if found["reason"]:
        return str(found["reason"])
    shares = ", ".join(f"{one['exact']:.3f} at {one['low']} to {one['high']}" for one in found["ranges"])
    ended = ", ended early" if found["ended_early"] else ""
    return f"right {shares}; {found['steps']} steps{ended}"


def training_in_words(training: dict[str, Any]) -> str:
    """Return the result of a training on a labelled data set as a line of text."""
    if training.get("reason"):
        return str(training["reason"])
    part = "test" if training.get("test_accuracy") is not None else "validation"
    rate = "" if training.get("learning_rate") is None else f", learning rate {training['learning_rate']:g}"
    chance = "" if training["left_chance"] else ", never left chance"
    return f"{part} {training[f'{part}_accuracy']:.3f}, train {training['train_accuracy']:.3f}{rate}{chance}"
