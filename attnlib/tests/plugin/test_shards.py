"""Sessions that are a part of a sweep: one plans, the others measure a shard each; and how long cases should take."""

from dataclasses import replace
from types import SimpleNamespace

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from attnlib.cases.case import PHASES, Case
from attnlib.cases.settings import Settings
from attnlib.plugin.pace import Pace
from attnlib.runs.load import load
from attnlib.sweep.cut import cut
from attnlib.sweep.folder import Outline, Shard, read
from attnlib.sweep.merge import of_parts
from attnlib.tests.plugin.sessions import CASES, files, skeleton


@pytest.fixture(name="outline")
def _outline(sessions, tmp_path):
    """Return what a small job plans."""
    file, folder = tmp_path / "outline.json", tmp_path / "plan"
    done = sessions(f"--plan-out={file}", folder=folder)
    assert done.code == 0, done.out
    assert files(folder, "") == []
    return read(file, Outline)


def shard_file(path, outline, numbers):
    """A shard of these tests."""
    shard = Shard(kind=outline.kind, tests=[outline.tests[n] for n in numbers], numbers=list(numbers))
    path.write_bytes(msgspec.json.encode(shard))
    return path


def test_shards_are_an_undisturbed_run(sessions, outline, undisturbed, tmp_path):
    """Cut, measured one by one and merged, a job is what one session measures; no shard measures more than its own."""
    assert len(outline.tests) == len(set(outline.blocks)) * 2 == CASES
    parts = []
    for number, own in enumerate(cut(outline.blocks, outline.seconds, 2)):
        shard = shard_file(tmp_path / f"shard{number}.json", outline, own)
        parts.append(tmp_path / f"part{number}.json")
        done = sessions(f"--shard={shard}", f"--benchmark-json={parts[-1]}", folder=tmp_path)
        assert done.code == 0, done.out
        assert {cell.test for cell in load(parts[-1]).cells} == {outline.tests[n].test for n in own}
    whole = tmp_path / "whole.json"
    whole.write_bytes(b"".join(of_parts(parts, partial=False).chunks(parts)))
    rows, sizes = skeleton(msgspec.json.decode(whole.read_bytes()))

    assert sorted(rows) == sorted(undisturbed[0])
    assert sorted(sizes, key=str) == sorted(undisturbed[1], key=str)
    assert files(tmp_path, ".journal") == []


def test_another_kind_of_machine_refuses_to_measure(sessions, outline, tmp_path):
    """It says what differs; so does a shard of tests that are not there, and a file that is none."""
    other = shard_file(tmp_path / "a.json", msgspec.structs.replace(outline, kind=outline.kind | {"cpu": "x"}), [0])
    out = tmp_path / "out.json"
    done = sessions(f"--shard={other}", f"--benchmark-json={out}", folder=tmp_path)
    assert done.code == 4
    assert "another kind of machine, versions or code than the sweep was planned on: cpu: x | " in done.out
    gone = msgspec.structs.replace(outline.tests[0], test="bench/test_forward.py::test_forward[gone]")
    lacking = shard_file(tmp_path / "b.json", msgspec.structs.replace(outline, tests=[gone]), [0])
    done = sessions(f"--shard={lacking}", f"--benchmark-json={out}", folder=tmp_path)
    assert done.code == 4
    assert "1 of its tests are not here, as bench/test_forward.py::test_forward[gone]" in done.out
    done = sessions(f"--shard={tmp_path / 'none.json'}", f"--benchmark-json={out}", folder=tmp_path)
    assert done.code == 4
    assert "none.json: No such file or directory" in done.out
    assert not out.exists()


def record(rate=1e11, **settings):
    """A record of a session whose machine has this many FLOPs a second."""
    rates = SimpleNamespace(flops_per_s=rate)
    chosen = replace(Settings.from_options({"preset": "smoke"}), **settings)
    return SimpleNamespace(settings=chosen, instruments=lambda case: SimpleNamespace(rates=rates))


@given(st.integers(1, 512), st.integers(1, 64), st.sampled_from(["forward", "backward", "train_step"]))
def test_longer_and_deeper_takes_as_long_or_longer(T, L, phase):
    """And a slower machine too; no case takes nothing."""
    case = Case(seq_len=T, depth=L, phase=phase)
    fast, slow = Pace(record(1e12)), Pace(record(1e9))

    assert 0 < fast(case) <= slow(case)
    assert slow(case) <= slow(replace(case, seq_len=2 * T))
    assert slow(case) < slow(replace(case, depth=L + 1))


def test_checks_are_estimated_without_a_prediction():
    """Every kind of check has its constant; no rate is read for what takes no time at any."""
    nothing = SimpleNamespace(settings=record().settings, instruments=None)

    assert all(Pace(nothing)(Case(phase=phase)) > 0 for phase, own in PHASES.items() if own.kind == "checked")
    assert Pace(nothing)(Case(phase="forward", seq_len=8, depth=1)) > 0
