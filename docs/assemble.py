"""Lay out the pages of the site in build/pages, for mkdocs: README, docs, examples, and pages made of saved runs.

The folder has the paths of the checkout, so that links between pages need no change. ``tox -e docs`` runs it.
"""

import re
import shutil
from collections.abc import Collection, Iterator, Sequence
from dataclasses import replace
from html import escape
from pathlib import Path
from typing import NamedTuple

from attnlib.compare.machines import Machine, differing, machines
from attnlib.runs.find import load_all
from attnlib.runs.load import BadRun
from attnlib.show.figures import FIGURES
from attnlib.show.figures.files import caption, draw
from attnlib.show.machines import machine_tables
from attnlib.show.report import page
from attnlib.show.report.machine import machine as description
from attnlib.show.table import Column, Table

ROOT = Path(__file__).parents[1]
PAGES = ROOT / "build" / "pages"
STYLE = ROOT / "docs" / "site.css"
SOURCES = (
    "README.md",
    "CHANGELOG.md",
    "CONTRIBUTING.md",
    "docs/*.md",
    "examples/README.md",
    "examples/*/README.md",
    "results/reference/README.md",
    "results/reference/*/README.md",
)
SETS: dict[str, tuple[str, Collection[str]]] = {  # title and figures of each folder of saved runs
    "reference": ("The default job", FIGURES),
    "switches": ("What switches cost", ["switch_cost"]),
    "learning": ("What is learned", ["learned_accuracy", "accuracy_over_steps", "accuracy_cost"]),
    "race": ("What is learned in 400 steps, and with depth", ["learned_accuracy", "depth_accuracy"]),
    "lengths": ("Longer than trained on", ["length_accuracy"]),
}
GALLERY, OVERVIEW = "gallery.md", "machines/README.md"
LINK = re.compile(r"\]\((?!\w+:)([^)#\s]+)")  # the path of a link within the checkout
WIDE = "---\nhide: [toc]\n---"  # head of a page whose tables need the room
WHOLE = re.compile(r" (?=±)|(?<=\d) (?=[a-z])")  # a blank between a number and its unit or interval
NESTED = re.compile(r"^  (?=[-*] )", re.MULTILINE)  # an item in a list, which Python-Markdown wants four blanks deep


class Result(NamedTuple):
    """The runs of one machine in one folder of results/reference, and where the site has its report."""

    folder: str
    machine: Machine
    report: str


def main() -> None:
    """Lay out all pages anew."""
    shutil.rmtree(PAGES, ignore_errors=True)
    for source in sources():
        copy(source, PAGES)
    shutil.copy(STYLE, PAGES)
    found = [result for name in SETS for result in results(name)]
    gallery = ["# Figures\n\nEach is drawn from the runs that its section names, by `python plots.py`.\n"]
    for result in found:
        gallery.append(drawn(result))
    write(GALLERY, "\n".join(gallery))
    measured = [result for result in found if result.folder == "reference"]
    for result in measured:
        write(machine_page(result.machine), of_machine(result))
    write(OVERVIEW, overview([result.machine for result in measured]))


def sources() -> list[Path]:
    """Return the pages that people write, as paths relative to the checkout."""
    return [path.relative_to(ROOT) for pattern in SOURCES for path in sorted(ROOT.glob(pattern))]


def copy(source: Path, folder: Path) -> None:
    """Copy a page into a folder, with the figures and saved runs that it links to; a folder's link leads to its README.

    Args:
        source: path of the page relative to the checkout.
        folder: folder of the pages, which has the paths of the checkout.
    """

    def linked(match: re.Match[str]) -> str:
        target = (ROOT / source.parent / match[1]).resolve().relative_to(ROOT)
        if (ROOT / target).is_dir():
            return f"]({match[1].rstrip('/')}/README.md"
        if target.suffix != ".md":
            (folder / target).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / target, folder / target)
        return match[0]

    text = LINK.sub(linked, NESTED.sub("    ", (ROOT / source).read_text(encoding="utf-8")))
    (folder / source).parent.mkdir(parents=True, exist_ok=True)
    (folder / source).write_text(text, encoding="utf-8")


def results(name: str) -> Iterator[Result]:
    """Yield the runs of each machine in a folder of results/reference.

    Runs of other machines, which ``attnlib share`` puts into a folder of their own, count as those of the default job.

    Raises:
        BadRun: a file there is no saved run.
    """
    reference = ROOT / "results" / "reference"
    if name == "reference":
        others = (path for path in reference.glob("*/*.json") if path.parent.name not in SETS)
        paths = [*sorted(reference.glob("*.json")), *sorted(others)]
    else:
        paths = sorted((reference / name).glob("*.json"))
    runs, bad = load_all(paths)
    if bad:
        raise BadRun("; ".join(bad))
    for machine in machines(runs):
        yield Result(name, machine, f"reports/{name}-{slug(machine.name)}.html")


def drawn(result: Result) -> str:
    """Draw the figures of runs, write their report, and return their section of the gallery."""
    title, names = SETS[result.folder]
    folder = PAGES / "figures" / Path(result.report).stem
    figures = [png for png in draw(result.machine.cells, folder, names).values() if png]
    page.write(PAGES / result.report, result.machine.cells, figures)
    files = " ".join(page.place(run.path) for run in result.machine.cells.runs)
    lines = [f"## {title}, {result.machine.name}", f"From `{files}`; see also the [report]({result.report})."]
    for png in figures:
        path = png.with_suffix(".svg").relative_to(PAGES).as_posix()
        lines += [f"![{png.stem.replace('_', ' ')}]({path})", f"*{caption(png.stem)}*"]
    return "\n\n".join(lines) + "\n"


def of_machine(result: Result) -> str:
    """Return the page of a machine: what it is, ratios, what holds, seconds."""
    machine = result.machine
    files = ", ".join(linked_run(run.path) for run in machine.cells.runs)
    heads = {"machine": Column(), machine.name: Column()}
    facts = [dict(zip(heads, fact, strict=True)) for fact in description(machine.cells).items()]
    lines = [
        WIDE,
        f"# {machine.name}",
        f"From {files}. See also the [report](../{result.report}) and the [figures](../{GALLERY}). "
        "`attnlib machines` prints the tables below.",
        Table(heads, facts).markdown(),
    ]
    return "\n\n".join([*lines, *sections([machine])]) + "\n"


def overview(found: Sequence[Machine]) -> str:
    """Return the page of all machines: a link to each, and tables of all if several measured like stacks."""
    unlike = differing(found)
    links = [f"* [{machine.name}]({Path(machine_page(machine)).name})" for machine in found]
    lines = [
        WIDE,
        "# Machines",
        "What does a step cost on which machine, and what holds on all of them?",
        "\n".join(links),
        "Another machine is added with five files, see [contributing](../CONTRIBUTING.md#a-machines-results). "
        "`attnlib machines RUN...` sets any saved runs of like stacks side by side.",
        *([f"These machines measured unlike stacks, so each stands alone: {escape(unlike)}."] if unlike else []),
    ]
    return "\n\n".join([*lines, *(sections(found) if len(found) > 1 and not unlike else [])]) + "\n"


def sections(found: Sequence[Machine]) -> Iterator[str]:
    """Yield the tables of machines with their titles, as parts of a page."""
    for title, tables in machine_tables(found).items():
        if title != "Machines" or len(found) > 1:
            yield f"## {title}"
            for table in tables:
                yield from parts(table)


def parts(table: Table) -> Iterator[str]:
    """Yield a table as parts of a page: the lines before it as headings and sentences, and those after it as a list."""
    for line in table.before:
        phase, colon, rest = line.partition(": ")
        yield f"### {phase}\n\n{escape(rest, quote=False)}" if colon else escape(line, quote=False)
    yield WHOLE.sub("\u00a0", replace(table, before=(), after=()).markdown())
    if lines := [f"* {escape(line, quote=False)}" for line in table.after if line]:
        yield "\n".join(lines)


def linked_run(path: Path) -> str:
    """Copy a saved run beside the pages, and return a link to it from the page of a machine."""
    target = path.resolve().relative_to(ROOT)
    (PAGES / target).parent.mkdir(parents=True, exist_ok=True)
    shutil.copy(path, PAGES / target)
    return f"[{path.name}](../{target.as_posix()})"


def machine_page(machine: Machine) -> str:
    """Return the path of a machine's page."""
    return f"machines/{slug(machine.name)}.md"


def slug(name: str) -> str:
    """Return a name for a file: lower-case letters and digits, with dashes between them."""
    return "-".join(re.findall(r"[a-z0-9]+", name.lower()))


def write(name: str, text: str) -> None:
    """Write a page."""
    path = PAGES / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
