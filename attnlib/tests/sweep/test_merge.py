"""Merged runs: every planned case once, as one process would have measured it; what does not go together is refused."""

import json
import signal
from types import SimpleNamespace

import pytest

from attnlib.commands.__main__ import main
from attnlib.runs.load import BadRun, load
from attnlib.sweep.merge import of_sweep
from attnlib.sweep.task import TaskRun, planned
from attnlib.tests.plugin.sessions import skeleton
from attnlib.tests.sweep import fake
from attnlib.tests.sweep.fake import planned as named
from attnlib.tests.sweep.fake import shard_of


class Here:
    """A process of the fake pytest, which runs in this one as soon as it is started: nothing here kills it."""

    stdout = stderr = ""

    def __init__(self, words, **_):
        heard = signal.getsignal(signal.SIGTERM)
        self.returncode = fake.main(words[words.index(fake.__name__) + 1 :])
        signal.signal(signal.SIGTERM, heard)

    def poll(self):
        """Return its exit code: it has ended."""
        return self.returncode


@pytest.fixture(name="measured")
def _measured(sweep):
    """A sweep that two nodes measured, but for the ``left`` last shards."""

    def make(*options, left=0, **more):
        begun = sweep(*options, **more)
        with pytest.MonkeyPatch.context() as patched:
            patched.setattr("attnlib.sweep.task.subprocess", SimpleNamespace(run=Here, Popen=Here))
            planned(begun)
            tasks = begun.tasks
            for number, task in enumerate(tasks[: len(tasks) - left]):
                patched.setenv("SLURMD_NODENAME", f"n{1 + number % 2}")
                assert TaskRun(task, 3)() == 0
        return begun

    return make


def merged(sweep, *options):
    """Return what ``attnlib merge`` makes of a sweep, read as any run."""
    out = sweep.folder / "merged.json"
    assert main(["merge", str(sweep.folder), "--out", str(out), *options]) == 0
    return load(out)


def refusal(capsys, *words):
    """Return what ``attnlib merge`` says as it refuses."""
    assert main(["merge", *map(str, words)]) == 4
    said = capsys.readouterr()
    assert said.out == ""
    return said.err


def change(path, where, value):
    """Change a saved part at ``where``, as ``attnlib.kind.cpu``."""
    data = json.loads(path.read_text())
    place, *names = data, *where.split(".")
    for name in names[:-1]:
        place = place[name]
    place[names[-1]] = value
    path.write_text(json.dumps(data))


def test_a_merged_run_is_as_one_process_would_have_measured_it(measured, capsys):
    """Every case once, in the planned order, with the same status, bytes and FLOPs; each with its node."""
    apart, whole = measured("--cells=60", shards=5), measured("--cells=60", shards=1, name="whole")
    run = merged(apart)
    says = capsys.readouterr().out
    (part,) = whole.folder.glob("run-1/*.json")
    expected = skeleton(json.loads(part.read_text()) | {"benchmarks": with_floor(part)})
    found = skeleton(json.loads(run.path.read_text()) | {"benchmarks": with_floor(run.path)})

    assert found[0] == expected[0]
    assert dict(found[1]) == dict(expected[1])
    assert len(run.cells) == len({cell.case_id for cell in run.cells}) == 60
    assert "60 cases of 5 parts on 2 nodes" in says
    assert {cell.node for cell in run.cells} == {"n1", "n2"} == run.nodes.keys()
    assert {row["node"] for row in run.data["attnlib"]["cases"]} == {"n1", "n2"}
    assert {name: info["node"] for name, info in run.data["attnlib"]["nodes"].items()} == {"n1": "n1", "n2": "n2"}
    assert len(run.canary_readings) == 60


def with_floor(path):
    """The benchmarks of a file, with a floor, which the skeleton of a run takes off."""
    rows = json.loads(path.read_text())["benchmarks"]
    for row in rows:
        row["extra_info"]["cost"]["floor_s"] = None
    return rows


def test_blocks_stay_on_one_node(measured):
    """So that no ratio spans machines."""
    run = merged(measured("--cells=60", shards=7))
    nodes = {}
    for cell in run.cells:
        nodes.setdefault((cell.case.phase, cell.case.seq_len, cell.case.depth), set()).add(cell.node)

    assert set(map(len, nodes.values())) == {1}


def test_gaps_are_refused_or_become_rows(measured, capsys):
    """The message counts them and names one; with --partial they are interrupted, and a later merge fills them."""
    begun = measured("--cells=60", shards=5, left=2)
    text = refusal(capsys, begun.folder, "--out", begun.folder / "no.json")
    run = merged(begun, "--partial")
    statuses = [cell.status for cell in run.cells]

    unmeasured = {test.test for task in begun.tasks[3:] for test in shard_of(begun, task)}

    assert f"{len(unmeasured)} of 60 cases are missing, as bench/test_" in text
    assert text.rstrip().endswith("--partial merges the others")
    assert not (begun.folder / "no.json").exists()
    assert set(statuses) == {"ok", "interrupted"}
    assert {cell.test for cell in run.cells if cell.status == "interrupted"} == unmeasured
    for task in begun.tasks[3:]:
        TaskRun(task, 3)()
    assert {cell.status for cell in merged(begun).cells} == {"ok"}


def test_a_journal_is_a_part(measured):
    """It is part of a shard that is not whole yet; what it has measured is taken over."""
    begun = measured("--cells=60", shards=2, left=1)
    task = begun.tasks[1]
    change(begun.folder / "sweep.json", "options", ["--dies-in=" + shard_of(begun, task)[10].case["case_id"]])
    TaskRun(task, 1)()
    run = merged(begun, "--partial")
    statuses = {cell.test: cell.status for cell in run.cells if cell.test in {t.test for t in shard_of(begun, task)}}

    assert list(statuses.values())[:12] == ["ok"] * 10 + ["crashed", "interrupted"]


@pytest.mark.parametrize(
    ("where", "value", "says"),
    [
        ("attnlib.kind.cpu", "other", "kind.cpu: fake | other"),
        ("attnlib.kind.versions.torch", "2.12.0", "kind.versions.torch: 2.13.0 | 2.12.0"),
        ("attnlib.kind.code", "beef", "kind.code: c0de | beef"),
        ("attnlib.settings.budget", 0.2, "settings.budget: 0.1 | 0.2"),
    ],
)
def test_parts_that_differ_are_refused_with_what_differs(measured, capsys, where, value, says):
    """Code, versions, kind of node, settings, data; and nothing is written."""
    begun = measured("--cells=9", shards=2)
    change(begun.tasks[1].final, where, value)
    text = refusal(capsys, begun.folder, "--out", begun.folder / "no.json")

    assert f"0001.json and {begun.tasks[1].final} differ: {says}" in text
    assert not list(begun.folder.glob("no.json")) + list(begun.folder.glob(".*"))


def test_data_sets_are_put_together(measured, capsys):
    """A part knows of those that it learned; the same name must be the same data in all."""
    begun = measured("--cells=9", shards=3)
    for task, sets in zip(begun.tasks, ({"digits": {"sha": 1}}, {}, {"stress": {"sha": 2}}), strict=True):
        change(task.final, "attnlib.data", sets)
    assert merged(begun).data["attnlib"]["data"] == {"digits": {"sha": 1}, "stress": {"sha": 2}}
    capsys.readouterr()
    change(begun.tasks[1].final, "attnlib.data", {"digits": {"sha": 3}})
    text = refusal(capsys, begun.folder, "--out", begun.folder / "no.json")

    assert "differ: data.digits.sha: 1 | 3" in text


def test_a_part_may_have_no_times(measured):
    """Such are parts of checks alone, or in which every case failed; wherever they stand."""
    begun = measured("--cells=27", shards=4)
    for number in (0, 2):
        path = begun.tasks[number].final
        change(path, "benchmarks", [])
        rows = json.loads(path.read_text())["attnlib"]["cases"]
        change(path, "attnlib.cases", [row | {"status": "error", "reason": "x"} for row in rows])
    statuses = [cell.status for cell in merged(begun).cells]

    assert statuses.count("ok") == begun.plan.tests[1] + begun.plan.tests[3]
    assert len(statuses) == 27


def test_a_case_that_is_there_twice_is_refused(measured, capsys):
    """Nobody could say which of the two counts."""
    begun, other = measured("--cells=9", shards=1), measured("--cells=12", shards=1, name="other")
    parts = begun.tasks[0].final, other.tasks[0].final
    text = refusal(capsys, *parts, "--out", begun.folder / "no.json")

    assert f"measured twice: {named(9)[0].test}: {parts[0]} and {parts[1]}" in text


def test_parts_by_themselves(measured, tmp_path, capsys):
    """Saved runs of parts make the same run, the same one again; it is saved beside the first, and once."""
    begun = measured("--cells=30", shards=3)
    parts = [str(task.final) for task in begun.tasks]
    for _ in range(2):
        assert main(["merge", *parts, "--run-name", "joint"]) == 0
    (path,) = begun.folder.glob("run-1/*_joint.json")

    assert len(load(path).cells) == 30
    assert capsys.readouterr().out == 2 * f"{path}: 30 cases of 3 parts on 2 nodes\n"


def test_every_run_of_a_sweep_is_saved_once(measured, monkeypatch, tmp_path):
    """With the next free numbers; merging again changes them in place."""
    monkeypatch.setattr("attnlib.commands.merge.results", lambda: tmp_path / "results")
    begun = measured("--cells=9", shards=2, runs=2)
    for _ in range(2):
        assert main(["merge", str(begun.folder)]) == 0
    saved = sorted((tmp_path / "results" / "Fake").iterdir())

    assert [path.name for path in saved] == ["0001_fake.json", "0002_fake.json"]
    assert len({load(path).token for path in saved}) == 2


def test_what_cannot_be_merged_says_why(measured, sweep, tmp_path, capsys):
    """One line each, and a code that is not zero."""
    early, begun = sweep("--cells=9"), measured("--cells=9", runs=2, name="two")
    old = tmp_path / "old.json"
    old.write_bytes(begun.tasks[0].final.read_bytes())
    data = json.loads(old.read_text())
    del data["attnlib"]["kind"]
    old.write_text(json.dumps(data))

    assert "was not planned yet" in refusal(capsys, early.folder)
    assert "--out names one file for 2 runs" in refusal(capsys, begun.folder, "--out", tmp_path / "no.json")
    assert f"only one sweep can be merged at a time; leave out {begun.folder}" in refusal(
        capsys, early.folder, begun.folder
    )
    assert "cannot be merged, an entry is missing or wrong: " in refusal(capsys, old, "--out", tmp_path / "no.json")
    assert "no such" in refusal(capsys, tmp_path / "none.json").lower()
    planned(early)
    assert "no part has begun" in refusal(capsys, early.folder, "--out", tmp_path / "no.json")


def test_a_part_is_not_held_while_the_others_are_read(measured):
    """A piece of the run is there before the next part is read."""
    begun = measured("--cells=60", shards=6)
    run, parts = of_sweep(begun, 1, partial=False)
    pieces = run.chunks(parts)
    next(pieces)
    for part in parts[1:]:
        part.unlink()
    with pytest.raises(BadRun, match=parts[1].name):
        list(pieces)
