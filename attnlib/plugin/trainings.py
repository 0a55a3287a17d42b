"""The study of ``bench/test_learning.py`` in a session: which learning rate a case has, and what is trained next."""

from collections.abc import Iterator
from dataclasses import replace
from itertools import islice
from typing import Any

from attnlib.cases.case import Case
from attnlib.learning.study import chosen_rate
from attnlib.learning.trainers import AHEAD, Trainers
from attnlib.learning.training import bag_of_tokens
from attnlib.model.data import data_set
from attnlib.plugin.record import Left, Record
from attnlib.runs.journal import NOT_YET


class Study:
    """Trains the cases of a session.

    Args:
        record: of the session.
    """

    def __init__(self, record: Record) -> None:
        self.record, self.trainers = record, Trainers()

    def training(self, case: Case) -> dict[str, Any]:
        """What a training found; a bag of tokens is fitted here and now.

        Raises:
            Left: no learning rate was chosen.
        """
        if case.phase == "bag":
            return bag_of_tokens(data_set(case.data or ""))
        ready = self.ready(case)
        if ready is None:
            why = f"no learning rate was chosen for {case.pe} on {case.data}: run test_tune in the same session"
            raise Left("unsupported", why)
        return self.trainers.train(ready, list(islice(self.upcoming(case.phase), AHEAD)))

    def upcoming(self, phase: str) -> Iterator[Case]:
        """The cases of this phase that are still to come, ready to be trained."""
        for entry in self.record.entries.values():
            if entry.case is not None and entry.case.phase == phase and entry.row == NOT_YET:
                ready = self.ready(entry.case)
                if ready is not None:
                    yield ready

    def ready(self, case: Case) -> Case | None:
        """The case with a learning rate: its own, or the one that was chosen; None where none was."""
        if case.learning_rate is not None:
            return case
        shown = self.record.settings.encoding_label(case.pe)  # as rows are read
        rate = chosen_rate(self.record.trainings("tune"), case.data, shown)
        return None if rate is None else replace(case, learning_rate=rate)


def in_words(training: dict[str, Any]) -> str:
    """A training in a line."""
    if training.get("reason"):
        return str(training["reason"])
    part = "test" if training.get("test_accuracy") is not None else "validation"
    rate = "" if training.get("learning_rate") is None else f", learning rate {training['learning_rate']:g}"
    chance = "" if training["left_chance"] else ", never left chance"
    return f"{part} {training[f'{part}_accuracy']:.3f}, train {training['train_accuracy']:.3f}{rate}{chance}"
