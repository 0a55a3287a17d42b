"""Sentences of the errors that a user can see: what is wrong, the value, what to choose from, and what to do.

Each text of a ``raise`` goes through ``message``, also one that only precedes another error's text. These have words of
their own:

* ``AttributeError``, in Python's own words for a name that a module lacks;
* ``NotApplicable`` of ``attnlib.cases.subject``, which says why a check was left out, and is no error;
* errors without words, such as a ``KeyError``, which other code catches.

The reason of a missing reading or of a verdict, and what ``attnlib.runs.schema`` finds in a file, are results,
which the modules that find them write.
"""

from collections.abc import Iterable
from typing import Any

LONGEST = 80  # characters that are shown of a value
NOTHING: Any = object()  # stands for no value, since None is one


def shown(value: object) -> str:
    """Return a value as a message shows it: a class by its name, else the ``repr``, cut if it is long, in one line."""
    text = value.__name__ if isinstance(value, type) else repr(value).replace("\n", " ")
    return text if len(text) <= LONGEST else f"{text[: LONGEST - 3]}..."


def message(wrong: str, value: object = NOTHING, *, choices: Iterable[object] = (), do: str = "") -> str:
    """Return the sentence of an error, such as ``unknown pe 'rope'; choose from none, rotary``.

    Args:
        wrong: what is wrong, or what must hold.
        value: what was given instead of what must hold, as in ``dropout must lie in [0, 1), not 1.5``.
        choices: what could have been given.
        do: what to do about it, as in ``n_heads=3 does not divide d_model=64; give head_dim``.
    """
    parts = [wrong if value is NOTHING else f"{wrong}, not {shown(value)}"]
    if listed := ", ".join(map(str, choices)):
        parts.append(f"choose from {listed}")
    if do:
        parts.append(do)
    return "; ".join(parts)
