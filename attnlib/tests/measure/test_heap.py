"""The heap with freed memory kept, in processes of their own; and how many threads leave a core free."""

import os
import subprocess
import sys

import pytest

from attnlib.measure import cores, heap

HEAP = """
from attnlib.measure import heap
"""
FAULTS = """
import resource, sys
import torch
def faults(step):
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    step()
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before
def step(numbers=2**23):  # 32 MiB
    x = torch.ones(numbers)
    y = x + x
def steps(*numbers):  # until pieces of the right sizes lie about
    for _ in range(10):
        step(*numbers)
"""
NO_GLIBC = pytest.mark.skipif(heap._glibc() is None, reason="the C library is not glibc")


def run(code, more=FAULTS, **environment):
    """Return what a fresh process prints."""
    clean = {name: value for name, value in os.environ.items() if not name.startswith(("MALLOC_", "GLIBC_", "LD_PRE"))}
    done = subprocess.run(
        [sys.executable, "-c", HEAP + more + code], capture_output=True, text=True, env=clean | environment, check=True
    )
    return done.stdout.split()


@NO_GLIBC
def test_what_rounds_need_is_set_each_time_and_set_back():
    """In a second block of the same process too, whatever lies about; a heap that was kept before stays so."""
    code = """
from attnlib.measure.conditions import set_for_rounds
from attnlib.measure.environment import flushes_subnormals
def once():
    torch.set_num_threads(2)
    with set_for_rounds(1) as notes:
        steps(2**24)
        inside = faults(lambda: step(2**24)), torch.get_num_threads(), flushes_subnormals()
    steps(2**24)
    return inside[0] < 100, inside[1:] == (1, True), torch.get_num_threads() == 2, flushes_subnormals(), heap.is_set()
first, second = once(), once()
step(2**26)  # more than may lie about in pieces
outside = faults(lambda: step(2**26)) > 1000
heap.keep()
once()
print(first, second, outside, heap.is_set(), faults(lambda: step(2**24)) < 100, sep=";")
"""
    found = " ".join(run(code)).split(";")

    assert found[:2] == ["(True, True, True, False, False)"] * 2
    assert found[2:] == ["True"] * 3


@NO_GLIBC
def test_a_kept_heap_has_no_page_faults():
    """Tensors of 32 MiB are mapped anew in every step, and taken again without a page fault once memory is kept."""
    code = (
        "steps(); before = faults(step); why = heap.keep(); steps(); print(before, why, faults(step), heap.is_kept())"
    )
    before, why, after, kept = run(code)

    assert int(before) > 1000
    assert (why, kept) == ("None", "True")
    assert int(after) < 100


@NO_GLIBC
def test_another_process_is_given_a_kept_heap():
    """By its environment, which is believed only since a block is taken again without page faults."""
    assert run("print(heap.is_kept(), heap.keep())", "", **heap.variables("kept", {})) == ["True", "None"]
    assert run("print(heap.is_kept())", "", **heap.variables("system", {})) == ["False"]


@NO_GLIBC
@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("MALLOC_ARENA_MAX", "2"),
        pytest.param("GLIBC_TUNABLES", "glibc.malloc.arena_max=2", marks=pytest.mark.faults),
    ],
)
def test_what_the_user_chose_stays(name, value):
    """Nothing is set against a variable of the user's, which is named."""
    assert " ".join(run("print(heap.keep(), heap.is_kept())", "", **{name: value})) == f"{name} is set False"
    assert heap.variables("kept", {name: value}) == {}


def test_another_library_is_named(monkeypatch):
    """Without glibc nothing is kept, levelled or trimmed, and the reason says so."""
    monkeypatch.setattr(heap, "_glibc", lambda: None)
    monkeypatch.setattr(heap, "chosen_outside", lambda: None)
    heap.level()
    heap.trim()

    assert heap.keep() == "the C library is not glibc"
    assert not heap.is_kept()


@pytest.mark.faults  # with the long tests
@NO_GLIBC
def test_a_heap_of_the_system_starts_alike():
    """A levelled heap serves blocks of 24 MiB as one that has freed larger ones, whatever was freed before."""
    small, count = "; n = 6 * 2**20; steps(n); print(faults(lambda: step(n)) > 1000)", "heap.level()"
    larger = "x = torch.ones(7 * 2**20); del x"

    assert run(f"{larger}{small}") == run(f"{larger}; {count}{small}") == run(f"{count}{small}") == ["False"]


@pytest.mark.parametrize(
    ("most", "usable", "quota", "threads"),
    [(2, 2, None, 1), (8, 8, None, 7), (4, 8, None, 4), (8, 8, 3.5, 2), (1, 1, None, 1), (8, 8, 0.5, 1)],
)
def test_a_core_is_left(most, usable, quota, threads):
    """The least of torch's own number, cores less one and quota less one, but at least one."""
    assert cores.default_threads(most, usable, float("inf") if quota is None else quota) == threads


def test_cpus_of_a_core_count_once(tmp_path, monkeypatch):
    """Four CPUs on two cores, of which the process may use three, are two cores."""
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: {0, 1, 2}, raising=False)
    for cpu in range(4):
        folder = tmp_path / f"cpu{cpu}" / "topology"
        folder.mkdir(parents=True)
        (folder / "thread_siblings_list").write_text(f"{cpu % 2},{cpu % 2 + 2}\n")

    assert cores.usable_cores(tmp_path) == 2
    assert cores.usable_cores(tmp_path / "nothing") == 3
    assert cores.cores_of({0, 1, 2}, tmp_path) == [[0, 2], [1]]


def test_the_least_busy_cores_are_taken():
    """Both CPUs of a core count as its load; a CPU of each is returned, and of equal cores each now and then."""
    of_two = [[0, 2], [1, 3], [4, 5]]

    assert cores.quiet_cpus(1, of_two, [0.0, 20.0, 90.0, 10.0, 40.0, 40.0]) == {1}
    assert cores.quiet_cpus(2, of_two, [0.0, 20.0, 90.0, 10.0, 40.0, 40.0]) == {1, 4}
    assert {min(cores.quiet_cpus(1, [[0], [1]], [0.0, 0.0])) for _ in range(64)} == {0, 1}
    assert cores.quiet_cpus(1, [[0], [7]], [1.0]) == {7}  # a CPU whose load is not known counts as idle
