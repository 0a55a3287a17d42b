"""Data sets of labelled sequences and tasks by length, their registries, and random texts for timing."""

from collections.abc import Callable
from functools import cache, partial
from pathlib import Path
from typing import TypeVar

import numpy as np

from attnlib.errors import message
from attnlib.model.config import choose
from attnlib.model.data.digits import digits
from attnlib.model.data.labelled import Labelled
from attnlib.model.data.random_texts import random_texts
from attnlib.model.data.stress import stress, stress_by_length
from attnlib.model.data.table import read_table
from attnlib.model.data.tasks import TASKS, Task
from attnlib.model.data.texts import Texts

__all__ = [
    "DATA",
    "TASKS",
    "ByLength",
    "Labelled",
    "by_length",
    "data_names",
    "data_set",
    "random_texts",
    "register",
    "usual_train_length",
]

Read = TypeVar("Read")
ByLength = Task | Texts  # what is trained on short sequences and tested on longer ones
DATA: dict[str, Callable[[], Labelled]] = {"digits": digits, "stress": stress}
TRAIN_LENGTHS = {"stress": 8} | dict.fromkeys(TASKS, 20)  # symbols or letters
TIMES = 4  # questions of a task's test are so many times as long as those of the training, where nothing else is said


def data_names() -> tuple[str, ...]:
    """Return the names of all data sets and tasks."""
    return (*DATA, *TASKS)


@cache
def data_set(name: str) -> Labelled:
    """Return the data set of this name, read once a process.

    Raises:
        ValueError: the name is not registered or is a task's, **or** its package is not installed.
    """
    if name in TASKS:
        wrong = f"{name} is a task with questions of many lengths"
        raise ValueError(message(wrong, do="train on it with bench/test_lengths.py"))
    return read(name, choose("data set", name, DATA))


def read(name: str, make: Callable[[], Read]) -> Read:
    """Return the data set that a function makes.

    Raises:
        ValueError: its package is not installed.
    """
    try:
        return make()
    except ModuleNotFoundError as error:
        raise ValueError(message(f"data set {name} needs {error.name}", do="pip install 'attnlib[data]'")) from None


@cache
def by_length(name: str, train_length: int, test_length: int | None = None) -> ByLength:
    """Return a task or the texts of a data set, to train on short sequences and to test on longer ones.

    Args:
        name: of a task or a data set.
        train_length: symbols or letters of the longest sequence to train on.
        test_length: symbols of a task's longest test question, ``TIMES`` ``train_length`` unless given; texts are
            tested up to their longest.

    Raises:
        ValueError: the name is not registered, its sequences are all of one length, **or** see ``Task`` and ``Texts``.
    """
    if name in TASKS:
        return Task(name, train_length, test_length or TIMES * train_length)
    if name == "stress":
        return read(name, partial(stress_by_length, train_length))
    data, letters = texts_of(name)
    return Texts(
        name=name,
        source=data.source,
        licence=data.licence,
        tokens=data.tokens,
        labels=data.labels,
        letters=letters,
        vocab_size=data.vocab_size,
        n_classes=data.n_classes,
        train_length=train_length,
        notes=data.notes,
    )


def texts_of(name: str) -> tuple[Labelled, np.ndarray]:
    """Return a data set of texts of many lengths, and the letters of each: int64 ``[N]``.

    Raises:
        ValueError: its sequences are all of one length, **or** see ``data_set``.
    """
    data = data_set(name)
    if data.letters is None:
        others = [*TASKS, "stress", "a FILE.csv"]
        raise ValueError(message(f"sequences of {name} are all of one length", choices=others))
    return data, data.letters


def usual_train_length(name: str) -> int:
    """Return the symbols or letters of the longest sequence that a task or stress is trained on.

    Raises:
        ValueError: texts of the user's have no usual one, **or** see ``texts_of``.
    """
    if name not in TRAIN_LENGTHS:
        texts_of(name)
        raise ValueError(message(f"{name} needs --train-length, the letters of the longest texts to train on"))
    return TRAIN_LENGTHS[name]


def register(path: Path) -> str:
    """Read the user's own table of texts and labels, and register it as a data set.

    Returns:
        its name: that of the file, and the first 8 hex digits of its SHA-256.

    Raises:
        ValueError: the table is invalid, see ``read_table``.
    """
    found = read_table(path)
    DATA[found.name] = lambda: found
    return found.name
