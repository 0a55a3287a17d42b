"""Labelled sequences: real ones that a classifier can learn, their registry, and random ones that only cost time."""

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
    """The data set of this name, made once a process.

    Raises:
        ValueError: the name is not registered, **or** its package is not installed.
    """
    try:
        return choose("data set", name, DATA)()
    except ModuleNotFoundError as error:
        raise ValueError(f"data set {name} needs {error.name}: pip install 'attnlib[data]'") from None


def register(path: Path) -> str:
    """Read the user's own table of texts and labels, and register it.

    Returns:
        its name: that of the file, with the beginning of a checksum.

    Raises:
        ValueError: see ``read_table``.
    """
    found = read_table(path)
    DATA[found.name] = lambda: found
    return found.name
