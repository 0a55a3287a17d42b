"""``attnlib share``: check saved runs for publication, and write the folder that a pull request adds."""

import argparse
import contextlib
import getpass
import platform
import re
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from attnlib.commands.options import USAGE, complain, run_name
from attnlib.compare.cells import Cells, belong_together
from attnlib.errors import message
from attnlib.runs.find import INSTALLED, checkout, find
from attnlib.runs.load import Run, load, saved_data
from attnlib.runs.save import as_json
from attnlib.runs.share import failed_checks, visit_counts, with_machine
from attnlib.show.costs import costs
from attnlib.show.methods import methods


def declare(commands: Any) -> None:
    """Add the command and its options."""
    command = commands.add_parser(
        "share",
        help="check saved runs for publication, and write the folder that a pull request adds",
        description="Writes results/reference/MACHINE with the runs, in which MACHINE replaces the host's name, and a "
        "README. Checks: complete, undisturbed, at a clean commit, without paths and names of this host and its user.",
        epilog="example: attnlib share 0003 --machine amd-epyc",
    )
    command.add_argument("runs", nargs="+", type=Path, metavar="RUN", help="saved runs of one machine")
    text = "name of the machine and of the folder (default: that of its card or processor)"
    command.add_argument("--machine", type=run_name, metavar="NAME", help=text)
    text = "a word that may stand in the runs although this host or its user is called so; may be repeated"
    command.add_argument("--allow", action="append", default=[], metavar="WORD", help=text)
    command.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Write the folder and print the line to paste; return 4 if a run fails a check, a line for each."""
    paths = list(dict.fromkeys(path for name in options.runs for path in find(name)))
    runs = [load(path) for path in paths]
    machine = options.machine or machine_name(runs[0])
    folder = destination(machine)
    private = names_here(runs) - {word.lower() for word in [*options.allow, machine]}
    failed = [message(f"{one.path}: another machine or other settings than {paths[0]}") for one in others(runs)]
    names = [path.name for path in paths]
    failed += [message(f"{path}: another run has this file name too") for path in paths if names.count(path.name) > 1]
    shared = {}
    for one in runs:
        shared[one.path.name] = data = with_machine(saved_data(one.path), machine)
        failed += [message(f"{one.path}: {line}") for line in failed_checks(one, data, private)]
    if failed:
        complain(failed)
        return USAGE
    write(folder, {name: as_json(data) for name, data in shared.items()})
    quiet, count = (sum(column) for column in zip(*map(visit_counts, runs), strict=True))
    print(f"{folder}: {', '.join(shared)} and README.md")
    print("Add it in a pull request, with this line at the end of results/reference/README.md:\n")
    print(f"* [{machine}]({machine}/README.md): runs {len(runs)}, undisturbed visits {quiet} of {count}")
    return 0


def machine_name(run: Run) -> str:
    """Return a name for the machine of a run: its card's or processor's, in letters, digits and hyphens."""
    machine = run.machines[0]
    words = re.findall(r"[a-z0-9]+", str(machine["device"] or machine["cpu"] or "machine").lower())
    return "-".join(words) or "machine"


def names_here(runs: Sequence[Run]) -> set[str]:
    """Return the names of this host, of the hosts of the runs, and of the user, in small letters."""
    hosts = {str(machine["node"]) for run in runs for machine in run.machines if machine["node"]} | {platform.node()}
    names = {name for host in hosts for name in (host, host.partition(".")[0])}  # with and without a domain
    with contextlib.suppress(KeyError, OSError):  # a user id may have no account, as in some containers
        names.add(getpass.getuser())
    return {name.lower() for name in names}


def others(runs: Sequence[Run]) -> list[Run]:
    """Return the runs that are not of the first one's machine."""
    return [run for run in runs if not belong_together(run, runs[0])]


def destination(machine: str) -> Path:
    """Return the folder to write, in the reference runs of the checkout around the current folder or the package.

    Raises:
        ValueError: there is no checkout, **or** it has such a folder.
    """
    home = checkout(Path.cwd()) or checkout(INSTALLED)
    if home is None:
        raise ValueError(message("there is no clone of attnlib here", do="start in one"))
    folder = home / "results" / "reference" / machine
    if folder.exists():
        raise ValueError(message(f"{folder} exists", do="choose another name with --machine"))
    return folder


def write(folder: Path, files: dict[str, bytes]) -> None:
    """Write runs and a README that is made from them into a new folder, which gets its name once it is complete.

    Raises:
        OSError: it cannot be written; nothing is left behind.
    """
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=".sharing-", dir=folder.parent) as temporary:
            new = Path(temporary) / folder.name
            new.mkdir()
            for name, content in files.items():
                (new / name).write_bytes(content)
            cells = Cells([load(new / name) for name in files])
            (new / "README.md").write_text(readme(folder.name, cells), encoding="utf-8")
            new.rename(folder)
    except OSError as error:
        raise OSError(message(f"cannot write {folder}: {error.strerror}")) from None


def readme(machine: str, cells: Cells) -> str:
    """Return the README of a machine's folder: how its runs were measured, and what encodings cost on it."""
    tables = [table.markdown() for table in costs(cells) if table.rows]
    shown = [f"`attnlib costs results/reference/{machine}/*.json`:", *tables] if tables else []
    return "\n\n".join([f"# {machine}", methods(cells), *shown]) + "\n"
