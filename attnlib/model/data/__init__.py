"""Data sets of labelled sequences, their registry, and random texts for timing."""

from collections.abc import Callable
from functools import cache
from pathlib import Path

from attnlib.model.config import choose
from attnlib.model.data.digits import digits
from attnlib.model.data.labelled import Labelled
from attnlib.model.data.random_texts import random_texts
from attnlib.model.data.stress import stress
from attnlib.model.data.table import read_table

__all__ = ["DATA", "Labelled", "data_set", "random_texts", "register"]

DATA: dict[str, Callable[[], Labelled]] = {"digits": digits, "stress": stress}


@cache
def data_set(name: str) -> Labelled:
    """Return the data set of this name, read once a process.

    Raises:
        ValueError: the name is not registered, **or** its package is not installed.
    """
    try:
        return choose("data set", name, DATA)()
    except ModuleNotFoundError as error:
        raise ValueError(f"data set {name} needs {error.name}: pip install 'attnlib[data]'") from None


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
