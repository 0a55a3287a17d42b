"""Publication of a saved run: its checks, and the name of the machine in place of those of hosts."""

import re
from collections.abc import Collection, Iterator
from typing import Any

from attnlib.errors import message
from attnlib.runs.journal import SUFFIX
from attnlib.runs.load import Cell, Run
from attnlib.runs.schema import SCHEMA
from attnlib.runs.text import printable

UNDISTURBED = 0.9  # least share of the visits
RESUME = "go on with pytest bench/ --resume"
# an absolute path with a folder in it, here or on Windows; not the rest of an address or of a fraction
FOLDERS = re.compile(r"(?<![\w.:/\\])(?:/[^/\s'\":,;=]+/|~/|[A-Za-z]:\\)[^\s'\":,;]*")
Object = dict[str, Any]


def failed_checks(run: Run, data: Object, private: Collection[str]) -> list[str]:
    """Return a line for each reason not to publish a run; an empty list if there is none.

    Args:
        run: a saved run.
        data: its JSON, with the names of hosts replaced by ``with_machine``.
        private: words that must not be in it, such as the names of this host and of its user.
    """
    return [*incomplete(run), *disturbed(run), *uncommitted(data), *private_texts(data, private)]


def incomplete(run: Run) -> list[str]:
    """Return why a run is not complete: an older schema, a journal, interrupted cases, or visits that are left."""
    found = []
    if (schema := run.data["attnlib"]["schema"]) != SCHEMA:
        found.append(message(f"it has schema {schema}, and this version publishes {SCHEMA}", do="measure it again"))
    if run.path.suffix == SUFFIX:
        found.append(message("it is the journal of an unfinished run", do=RESUME))
    rows = [(cell.test, cell.status) for cell in run.cells] + [(row.test, row.status) for row in run.beside]
    if left := [test for test, status in rows if status == "interrupted"]:
        found.append(message(f"{len(left)} of {len(rows)} cases are interrupted, as {left[0]}", do=RESUME))
    lacking = {cell.test: count for cell in run.cells if (count := visits_left(cell))}
    if lacking:
        first, count = next(iter(lacking.items()))
        total = sum(lacking.values())
        found.append(message(f"{total} visits are left, as {count} of {first}", do=RESUME))
    return found


def visits_left(cell: Cell) -> int:
    """Return how many of its planned visits a case lacks; lost visits count as made."""
    time = cell.info.time if cell.info and cell.visits else None
    return max(0, time.visits_planned - len(time.visits) - len(time.visits_lost)) if time else 0


def visit_counts(run: Run) -> tuple[int, int]:
    """Return the number of undisturbed visits of a run, and of all its visits."""
    visits = [visit for cell in run.cells for visit in cell.visits]
    return sum(not visit.disturbed for visit in visits), len(visits)


def disturbed(run: Run) -> list[str]:
    """Return a line if too many visits were disturbed."""
    quiet, count = visit_counts(run)
    if quiet >= UNDISTURBED * count:
        return []
    wrong = f"{quiet} of {count} visits are undisturbed, less than {100 * UNDISTURBED:g} %"
    return [message(wrong, do="measure on a quiet machine")]


def uncommitted(data: Object) -> list[str]:
    """Return a line if a run was not measured at a clean commit, so that nobody else can repeat it."""
    commit = data["commit_info"]
    name = str(commit.get("id") or "unknown")
    if not re.fullmatch(r"[0-9a-f]{40,64}", name):
        return [message(f"its commit is {name}", do="measure in a clone")]
    wrong = f"commit {name[:12]} had changes that are not committed"
    return [message(wrong, do="commit them, and measure again")] * bool(commit.get("dirty"))


def private_texts(data: Object, private: Collection[str]) -> list[str]:
    """Return a line for each path and each of the private words in the texts of a run, with the first place of it."""
    words = [re.compile(rf"(?<!\w){re.escape(word)}(?!\w)", re.IGNORECASE) for word in private if word]
    found: dict[str, list[str]] = {}
    for place, text in texts(data):
        if path := FOLDERS.search(text):
            found.setdefault(f"the path {path[0]}", []).append(place)
        for name in filter(None, (word.search(text) for word in words)):
            found.setdefault(f"the name {name[0]}", []).append(place)
    return [
        printable(f"{places[0]} has {what}" + (f", one of {len(places)} places" if len(places) > 1 else ""))
        for what, places in found.items()
    ]


def texts(node: Any, place: str = "") -> Iterator[tuple[str, str]]:
    """Yield every text of decoded JSON, keys too, with its place, such as ``attnlib.command[1]``."""
    if isinstance(node, str):
        yield place, node
    elif isinstance(node, dict):
        for key, value in node.items():
            inner = f"{place}.{key}" if place else key
            yield inner, key
            yield from texts(value, inner)
    elif isinstance(node, list):
        for index, value in enumerate(node):
            yield from texts(value, f"{place}[{index}]")


def with_machine(data: Object, machine: str) -> Object:
    """Return a run's JSON with the name of a machine in place of its host's name; several hosts get numbers.

    Args:
        data: as it was saved; it stays as it is.
        machine: the name; of several hosts the first one is ``machine-1``.
    """
    ours = data["attnlib"]
    places = [data["machine_info"], *ours.get("processes", ()), *ours["cases"], *ours.get("nodes", {}).values()]
    hosts = list(dict.fromkeys(host for place in places if isinstance(host := place.get("node"), str)))
    names = {host: f"{machine}-{number}" if len(hosts) > 1 else machine for number, host in enumerate(hosts, 1)}

    def renamed(place: Object) -> Object:
        host = place.get("node")
        return place | {"node": names[host]} if isinstance(host, str) else place

    changes: Object = {"cases": [renamed(row) for row in ours["cases"]]}
    if "processes" in ours:
        changes["processes"] = [renamed(process) for process in ours["processes"]]
    if "nodes" in ours:
        changes["nodes"] = {names.get(host, host): renamed(info) for host, info in ours["nodes"].items()}
    return data | {"machine_info": renamed(data["machine_info"]), "attnlib": ours | changes}
