"""A small real run, its journal, and whatever a file may hold instead: what readers are fuzzed with."""

import copy
import json
from typing import NamedTuple

import msgspec
from hypothesis import strategies as st

from attnlib.runs.journal import SUFFIX
from attnlib.tests import ROOT

NASTY = [
    "\x1b[31mred\x1b[0m",
    "a\rb\nc",
    "\u202egnp",
    "<script>alert(1)</script>",
    "$\\frac{",
    "../../x",
    "[bold]",
    "|",
    "%s{0}",
]


def small_run():
    """A real run: three lengths and depths, two encodings, every check, some trainings; three samples a case."""
    run = json.loads((ROOT / "results" / "reference" / "laptop-cpu-1.json").read_text())
    rows = run["attnlib"]["cases"]
    grid = [r for r in rows if r["case"]["phase"] == "train_step" and r["case"]["pe"] in ("none", "t5")]
    grid = [r for r in grid if r["case"]["seq_len"] in (64, 128, 256) and r["case"]["depth"] == 2]
    checks = {r["case"]["phase"]: r for r in rows if r["case"]["phase"] not in ("train_step", "backward", "forward")}
    kept = {r["test"]: r for r in [*grid, *checks.values(), next(r for r in rows if r["status"] != "ok")]}
    run["attnlib"]["cases"] = list(kept.values())
    del run["machine_info"]["cpu"]["flags"]
    run["benchmarks"] = [b for b in run["benchmarks"] if b["fullname"] in kept]
    for benchmark in run["benchmarks"]:
        benchmark["stats"]["data"] = benchmark["stats"]["data"][:3]
        time = benchmark["extra_info"]["time"]
        time |= {"canary_s": [1e-3, 1.1e-3], "disturbed": [], "visits_planned": 1}
        time["visits"] = [time["visits"][0] | {"rounds": 3, "left": []}]
        if time.get("reference_s"):
            time["reference_s"] = time["reference_s"][:3]
    for row in kept.values():
        curves = row.get("probe", {}).get("curves", {})
        curves.update({name: points[:4] for name, points in curves.items()})
    run["attnlib"]["cases"] += trainings()
    run["attnlib"] |= {"canary": run["attnlib"]["canary"][:2], "processes": [{"node": "n1"}, {"node": "n1"}]}
    return run


def saved_rows(path):
    """Return the rows of a saved run."""
    return json.loads(path.read_text())["attnlib"]["cases"]


def trainings():
    """Two encodings, seeds, depths and rates of the committed studies, and their bag of tokens."""
    learning, race = (ROOT / "results" / "reference" / name for name in ("learning/study.json", "race/race.json"))
    rows = [row for row in saved_rows(learning) if row["case"]["phase"] != "depth"]
    rows += [row for row in saved_rows(race) if row["case"]["phase"] == "depth"]
    for row in rows:
        found = row.get("probe", {}).get("training") or {}
        found["marks"] = found.get("marks", [])[:2]
    wanted = {"bag": {}, "tune": {"pe": "learned"}, "learn": {}, "depth": {"block": "pre_ln", "n_train": 100}}
    return [
        row
        for row in rows
        if (case := row["case"])["phase"] in wanted
        and case["data"] == "digits"
        and case["pe"] in ("none", "sinusoidal", "learned")
        and case["seed"] in (0, 1, 100)
        and case["depth"] in (1, 2)
        and all(case[name] == value for name, value in wanted[case["phase"]].items())
    ]


GOOD = small_run()


def small_journal():
    """The same run as a journal whose last two cases are not finished."""
    plan = {
        "event": "plan",
        "run": "0123",
        "name": "x",
        "fingerprint": {},
        "settings": {},
        "head": {key: value for key, value in GOOD.items() if key not in ("benchmarks", "attnlib")},
        "ours": {key: value for key, value in GOOD["attnlib"].items() if key != "cases"},
        "tests": [
            {"test": r["test"], "case": {k: r[k] for k in ("case", "case_id")}} for r in GOOD["attnlib"]["cases"]
        ],
    }
    measured = {b["fullname"]: b for b in GOOD["benchmarks"]}
    events = [plan, {"event": "process", "about": {"started": "now"}}]
    for row in GOOD["attnlib"]["cases"][:-1]:
        events.append({"event": "start", "test": row["test"], "at_s": 1.0})
        own = {name: row[name] for name in ("status", "reason", "probe") if name in row}
        end = {"row": own, "benchmark": measured.get(row["test"])}
        events.append({"event": "finish", "test": row["test"], "at_s": 2.0, "timed_s": 1.0, "spent_s": 2.0, **end})
    return events[:-1]


def paths_in(node, path=()):
    """Every place in decoded JSON."""
    yield path
    items = node.items() if isinstance(node, dict) else enumerate(node) if isinstance(node, list) else ()
    for key, value in items:
        yield from paths_in(value, (*path, key))


JOURNAL = small_journal()
RUN_PATHS, JOURNAL_PATHS = list(paths_in(GOOD))[1:], list(paths_in(JOURNAL))[1:]
numbers = st.sampled_from([0, -1, 1, 2**63, 10**400, 1e308, -1e308, 5e-324, 0.5, float("nan"), float("inf")])
scalars = (
    st.none() | st.booleans() | numbers | st.floats() | st.integers() | st.text(max_size=8) | st.sampled_from(NASTY)
)
values = st.recursive(
    scalars, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3)
)


@st.composite
def mutations(draw, good, paths):
    """The good JSON (as bytes) with one to three values replaced, deleted or repeated."""
    changed = msgspec.json.decode(good)
    for _ in range(draw(st.integers(1, 3))):
        *way, last = draw(st.sampled_from(paths))
        node = changed
        try:
            for key in way:
                node = node[key]
            if draw(st.booleans()):
                node[last] = draw(values)
            elif isinstance(node, list):
                node.insert(last, copy.deepcopy(node[last]))
            else:
                del node[last]
        except (LookupError, TypeError):  # an earlier change took the place away
            pass
    return changed


def numbers_in(run):
    """Return where a run has numbers that no other place repeats: times, readings, claims, curves, costs."""
    return [
        path
        for path in paths_in(run)
        if path
        and path[0] in ("benchmarks", "attnlib")
        and "case" not in path
        and path[-1] not in ("schema", "order_seed")
        if type(at(run, path)) in (int, float)
    ]


def at(node, path):
    for key in path:
        node = node[key]
    return node


GOOD_BYTES, JOURNAL_BYTES = json.dumps(GOOD).encode(), json.dumps(JOURNAL).encode()
NUMBERS = numbers_in(GOOD)
LOST = ("oom", "timeout", "unsupported", "error", "crashed", "interrupted")


@st.composite
def good_runs(draw):
    """A run that keeps the contract, mostly: other numbers, and cases that were lost or never planned."""
    run = msgspec.json.decode(GOOD_BYTES)
    for path in draw(st.lists(st.sampled_from(NUMBERS), max_size=8)):
        *way, last = path
        if type(at(run, path)) is float:
            at(run, way)[last] = draw(st.floats(1e-12, 1e12) | st.sampled_from([1e-12, 1.0, 1e12]))
        else:
            at(run, way)[last] = draw(st.integers(1, 2**40))
    for row in draw(st.lists(st.sampled_from(run["attnlib"]["cases"]), max_size=4, unique_by=lambda row: row["test"])):
        run["benchmarks"] = [b for b in run["benchmarks"] if b["fullname"] != row["test"]]
        if draw(st.booleans()):
            run["attnlib"]["cases"].remove(row)
        else:
            row |= {"status": draw(st.sampled_from(LOST)), "reason": draw(st.sampled_from(NASTY))}
    return run


class Content(NamedTuple):
    """A file's bytes and its ending."""

    data: bytes
    ending: str

    def __repr__(self):
        return f"{len(self.data)} bytes of {self.ending}"


@st.composite
def contents(draw):
    """Draw a file's content: a good run, a mutated run or journal, its text cut or overwritten, any JSON, any bytes."""
    if draw(st.booleans()):
        return Content(json.dumps(draw(good_runs())).encode(), ".json")
    if draw(st.booleans()):
        data = json.dumps(draw(mutations(GOOD_BYTES, RUN_PATHS))).encode()
        ending = ".json"
    else:
        data = b"".join(json.dumps(event).encode() + b"\n" for event in draw(mutations(JOURNAL_BYTES, JOURNAL_PATHS)))
        ending = SUFFIX
    kind = draw(st.integers(0, 7))
    if kind == 0:
        data = data[: draw(st.integers(0, len(data)))]
    elif kind == 1:
        place = draw(st.integers(0, len(data)))
        data = data[:place] + draw(st.binary(max_size=4)) + data[place + 4 :]
    elif kind == 2:
        data = json.dumps(draw(values)).encode()
    elif kind == 3:
        data = draw(st.binary(max_size=100))
    return Content(data, ending)
