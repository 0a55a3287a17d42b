"""``attnlib check``: an encoding, a block, an attention or an initialisation, examined before it is measured."""

import argparse
import json
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from attnlib.cases.text import fields_of
from attnlib.commands.options import add_import_path, add_markdown, import_from, output
from attnlib.errors import message
from attnlib.show.table import Column, Table

if TYPE_CHECKING:
    from attnlib.cases.conformance import Finding

KINDS = ("pe", "block", "attention", "init")
DTYPES = ("float32", "float64", "bfloat16", "float16")
RULED = ("dtype", "device", "causal")  # fields with an option of their own


def declare(commands: Any) -> None:
    """Add the command and its options."""
    command = commands.add_parser(
        "check",
        epilog="example: attnlib check mylab.attn:MyPE --import-path . --causal",
        help="does a part of yours keep the rules: shapes, causality, gradients, state, ...",
        description="The part runs in a small stack. Exit code: 0 every check passed or does not apply, 1 one failed, "
        "4 it cannot be imported or is none of these parts.",
    )
    command.add_argument("name", metavar="NAME", help="a place, package.module:Attribute, or a name of attnlib list")
    text = "other fields of the small stack, as seq_len=128,head_dim=64,pe=alibi"
    command.add_argument("fields", nargs="?", metavar="FIELDS", help=text)
    command.add_argument("--kind", choices=KINDS, help="kind of the part; by default the one that fits")
    text = "a part of the same kind that gives the right outputs, compared at ordinary and at large inputs"
    command.add_argument("--oracle", metavar="NAME", help=text)
    command.add_argument(
        "--dtype", choices=DTYPES, default="float32", help="number format of parameters and activations (%(default)s)"
    )
    command.add_argument("--device", default="cpu", metavar="NAME", help="device, such as cpu or cuda (%(default)s)")
    command.add_argument("--causal", action="store_true", help="mask the stack: no output may see a later token")
    add_import_path(command)
    command.add_argument("--json", action="store_true", help="print JSON")
    add_markdown(command)
    command.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Check the part, then show what was found; 1 where a check failed."""
    from attnlib.cases.conformance import FAILED, check_part, kind_of
    from attnlib.cases.subject import KINDS as PARTS
    from attnlib.model.config import choose

    import_from(options)
    usable(options.device)
    sizes = fields_of(options.fields) if options.fields else {}
    if ruled := [name for name in RULED if name in sizes]:
        raise ValueError(message(f"{ruled[0]} is set by --{ruled[0]}", do="leave it out of the fields"))
    kind = options.kind or kind_of(options.name)
    choose(kind, options.name, PARTS[kind])  # a part that does not fit is no finding
    setting = {"dtype": options.dtype, "device": options.device, "causal": options.causal}
    found = check_part(kind, options.name, oracle=options.oracle, **setting, **sizes)
    if options.json:
        findings = [one._asdict() for one in found]
        print(json.dumps({"kind": kind, "name": options.name, **setting, "findings": findings}, indent=2))
    else:
        causal = "causal" if options.causal else "not causal"
        title = f"{kind} {options.name}: {options.dtype} on {options.device}, {causal}"
        output(as_table(title, found), as_markdown=options.markdown)
    return int(any(one.result == FAILED for one in found))


def usable(device: str) -> None:
    """Make a tensor on a device.

    Raises:
        ValueError: torch cannot.
    """
    import torch

    try:
        torch.empty(1, device=device)
    except (RuntimeError, AssertionError) as error:  # torch without CUDA asserts
        why = str(error).partition("\n")[0]
        raise ValueError(message(f"--device {device} cannot be used here: {why}")) from None


def as_table(title: str, found: Sequence["Finding"]) -> Table:
    """Return a table with a row a check."""
    columns = {"check": Column(), "result": Column(), "found": Column(prose=True)}
    rows = [dict(zip(columns, one, strict=True)) for one in found]
    return Table(columns, rows, before=[title])
