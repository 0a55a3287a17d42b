"""What there is to choose from: every name of a registry with a line of what it is and where it comes from."""

import re
from collections.abc import Mapping
from functools import partial
from typing import Any

from attnlib.cases.case import NAMES
from attnlib.cases.settings import PRESETS, Preset
from attnlib.model.positional import POSITIONAL

ARXIV = re.compile(r"arXiv \d{4}\.\d{4,5}")
Entry = tuple[str, str, str]  # a name, what it is, its source


def listing() -> dict[str, list[Entry]]:
    """By field: the names that it takes."""
    registries: dict[str, Mapping[str, Any]] = {"pe": POSITIONAL}
    registries |= {name: NAMES[name] for name in ("block", "attention", "init")}
    found = {kind: [entry(name, made) for name, made in registry.items()] for kind, registry in registries.items()}
    return found | {
        "preset": [(name, of_preset(preset), "attnlib/cases/settings.py") for name, preset in PRESETS.items()]
    }


def entry(name: str, made: Any) -> Entry:
    """A name, the first sentence of what it stands for, and the paper that its documentation names, or its module."""
    options = made.keywords if isinstance(made, partial) else {}
    made = made.func if isinstance(made, partial) else made
    text = (made.__doc__ or "").replace("``", "")
    papers = ARXIV.findall(text)
    what = text.partition("\n")[0].strip() + "".join(f" {key}={value}" for key, value in options.items())
    what = re.sub(r" \((?:[^()]*, )?arXiv[^()]*\)", "", what)
    return name, what, papers[0] if papers else f"{made.__module__.replace('.', '/')}.py"


def of_preset(preset: Preset) -> str:
    """The axes and widths of a preset."""
    widths = ", ".join(f"{name}={value}" for name, value in preset.case.items())
    axes = f"T {', '.join(map(str, preset.seq_lens))} x L {', '.join(map(str, preset.depths))}"
    return f"{axes} x {len(preset.pe)} encodings; {widths}"
