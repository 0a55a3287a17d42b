"""Reading of a case's fields and of sizes in bytes from text, and writing of sizes."""

import json
import re
from typing import Any

from attnlib.errors import message, shown

UNITS = {None: 1, "B": 1, "KiB": 2**10, "MiB": 2**20, "GiB": 2**30, "TiB": 2**40}


def fields_of(text: str) -> dict[str, Any]:
    """Read the fields of a case from ``seq_len=512,pe=rotary,causal=true``.

    Raises:
        ValueError: an entry has no name or no value, **or** a field is given twice.
    """
    fields: dict[str, Any] = {}
    for entry in text.split(","):
        name, _, value = entry.partition("=")
        if not name or not value:
            raise ValueError(message("fields have the form phase=train_step,seq_len=512,pe=rotary", text))
        if name in fields:
            raise ValueError(message(f"{shown(text)} gives {name} twice", do="give it once"))
        try:
            fields[name] = json.loads(value)
        except ValueError:  # a word
            fields[name] = value
    return fields


def bytes_of(text: str) -> int:
    """Read bytes from ``4096``, ``800MiB`` or ``6.5GiB``.

    Raises:
        ValueError: the text is no positive size with a binary unit.
    """
    found = re.fullmatch(r"(\d+(?:\.\d+)?) ?(B|KiB|MiB|GiB|TiB)?", text)
    if found is None or not float(found[1]):
        raise ValueError(message("it must be a positive number of bytes such as 800MiB or 6.5GiB", text))
    return int(float(found[1]) * UNITS[found[2]])


def size(value: int) -> str:
    """Write bytes with three digits in MiB, or in GiB from 1024 MiB on; a MiB is 2**20 bytes."""
    return f"{value / 2**20:.3g} MiB" if value < 2**30 else f"{value / 2**30:.3g} GiB"
