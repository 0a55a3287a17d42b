"""``attnlib list``: the names that options and fields take, each with what it is and where it comes from."""

import argparse
import re
from functools import partial
from typing import TYPE_CHECKING, Any

from attnlib.commands.options import add_markdown, output
from attnlib.errors import message, shown
from attnlib.runs.text import docstring_summary
from attnlib.show.table import Column, Table

if TYPE_CHECKING:
    from attnlib.cases.settings import Preset
    from attnlib.cases.switches import Stack
    from attnlib.model.registry import Registry

ARXIV = re.compile(r"arXiv \d{4}\.\d{4,5}")
COLUMNS = {"name": Column(), "what it is": Column(prose=True), "source": Column()}
Entry = tuple[str, str, str]  # a name, what it is, its source


def declare(commands: Any) -> None:
    """Add the command and its options."""
    command = commands.add_parser(
        "list",
        help="encodings, blocks, switches and all other names that options take, a line each with its source",
        epilog="example: attnlib list pe",
    )
    command.add_argument("kind", nargs="?", metavar="KIND", help="one kind, such as pe, block, norm, preset or stack")
    add_markdown(command)
    command.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Show a table a kind."""
    found = listing()
    if options.kind not in (None, *found):
        raise ValueError(message(f"unknown kind {shown(options.kind)}", choices=found))
    for kind, entries in found.items():
        if options.kind in (None, kind):
            rows = [dict(zip(COLUMNS, entry, strict=True)) for entry in entries]
            output(Table(COLUMNS, rows, before=[kind], after=[""]), as_markdown=options.markdown)
    return 0


def listing() -> dict[str, list[Entry]]:
    """Return the names that each field takes, with what they are."""
    from attnlib.cases.case import NAMES, PARTS
    from attnlib.cases.settings import PRESETS
    from attnlib.cases.switches import STACKS

    found = {
        kind: [*(entry(name, made) for name, made in registry.built_in.items()), *installed(registry)]
        for kind, registry in PARTS.items()
    }
    for kind in ("norm", "activation", "softmax", "gate", "depth_scale"):
        found[kind] = [entry(name, made) for name, made in NAMES[kind].items()]
    presets = [(name, of_preset(preset), "attnlib/cases/settings.py") for name, preset in PRESETS.items()]
    stacks = [(name, of_stack(stack), "attnlib/cases/switches.py") for name, stack in STACKS.items()]
    return found | {"preset": presets, "stack": stacks}


def entry(name: str, made: Any) -> Entry:
    """Return a name, the first sentence of what it stands for, and the paper that it names, or else its module."""
    if isinstance(made, str):  # said where it is defined
        return name, re.sub(r" \([^()]*\)$", "", made), (ARXIV.findall(made) or ["attnlib/model/attention.py"])[0]
    options = dict(made.keywords) if isinstance(made, partial) else {}
    made = made.func if isinstance(made, partial) else made
    # a function among them, such as a rotary's frequencies, says more than what it is given to
    own = [options.pop(key) for key in list(options) if callable(options[key])]
    made = own[0] if own else made
    papers = ARXIV.findall(made.__doc__ or "")
    values = {key: f"{value:g}" if isinstance(value, float) else value for key, value in options.items()}
    what = docstring_summary(made) + "".join(f" {key}={value}" for key, value in values.items())
    what = re.sub(r" \((?:[^()]*, )?arXiv[^()]*\)", "", what)
    return name, what, papers[0] if papers else f"{made.__module__.replace('.', '/')}.py"


def installed(registry: "Registry[Any]") -> list[Entry]:
    """Return the names that installed packages offer, with their places and packages; nothing of them is imported."""
    found = []
    for name, points in registry.installed.items():
        taken = "a name of attnlib's too, which nobody can ask for" if registry.owns(name) else ""
        taken = taken or ("offered several times, which nobody can ask for" if len(points) > 1 else "")
        for point in points:
            dist = point.dist
            source = f"{dist.name} {dist.version}" if dist else "an unnamed distribution"
            found.append((name, f"{point.value}: {taken}" if taken else point.value, source))
    return found


def of_stack(stack: "Stack") -> str:
    """Return the switches of a family of stacks in words, and their source."""
    words = [f"{name}={value}" for name, value in stack.fields.items()]
    words += [f"{stack.shared} heads of queries share one of keys and values"] if stack.shared > 1 else []
    return f"{', '.join(words)} ({stack.source})"


def of_preset(preset: "Preset") -> str:
    """Return the axes and widths of a preset in words."""
    widths = ", ".join(f"{name}={value}" for name, value in preset.case.items())
    axes = f"T {', '.join(map(str, preset.seq_lens))} x L {', '.join(map(str, preset.depths))}"
    return f"{axes} x {len(preset.pe)} encodings; {widths}"
