"""The ledger of what operators allocate and move, on steps whose bytes are known."""

import pytest
import torch

from attnlib.predict.ledger import OTHER, WORKSPACE, Ledger, distinct_bytes

KIB = 2**10


def nothing(*_):
    return 0


def floats(kib):
    return torch.empty(kib * KIB // 4)


def booked(step, inside=nothing):
    with torch.device("meta"), Ledger(inside, nothing) as seen:
        step(seen)
    return seen


def test_the_highest_moment_of_a_region_by_kind():
    """Named storages are told apart, freed ones count no more, and each region has a peak of its own."""

    def step(seen):
        weights = floats(4)
        seen.name("parameters", [weights])
        seen.region = "a"
        temporary = floats(8)
        del temporary
        kept = floats(1)
        seen.region = "b"
        more = floats(2)
        seen.name("more", [more, kept])

    seen = booked(step)

    peaks = seen.peaks()
    assert peaks["a"] == {"parameters": 4 * KIB, OTHER: 8 * KIB}
    assert {kind: size for kind, size in peaks["b"].items() if size} == {"parameters": 4 * KIB, "more": 3 * KIB}
    assert seen.held == 0


def test_workspace_counts_beside_the_output():
    """Bytes that an operator allocates inside are there together with its output, and then gone."""
    seen = booked(lambda _: torch.relu(floats(1)), inside=lambda func, _: 5 * KIB if "relu" in func.name() else 0)

    assert sum(seen.peaks()[""].values()) == 7 * KIB
    assert seen.peaks()[""][WORKSPACE] == 5 * KIB


def test_views_share_and_move_nothing():
    """A view is booked once with what it looks at; a copy reads and writes; what is repeated by a stride moves once."""

    def step(_):
        x = floats(1).view(-1, 1)
        x.expand(-1, 4).contiguous()

    seen = booked(step)

    assert sum(seen.peaks()[""].values()) == 5 * KIB
    assert dict(seen.operators) == {(0, 5 * KIB): 1}
    assert distinct_bytes(torch.empty(3, 1).expand(3, 7)) == 12
    assert distinct_bytes(torch.empty(0, 3)) == 0


def test_an_operator_on_lists_is_one():
    """It reads and writes what it changes, and reads the rest, whether it returns something or not."""

    def step(seen):
        ones, others = ([floats(1), floats(2)] for _ in range(2))
        seen.forget_operators()
        torch._foreach_mul_(ones, 0.9)
        torch._foreach_add_(ones, others)
        torch._foreach_add(ones, others)

    seen = booked(step)

    assert seen.batched == [6 * KIB, 9 * KIB, 9 * KIB]
    assert not seen.operators


@pytest.mark.parametrize("consumers", [2, 3])
def test_gradients_are_added_in_place(consumers):
    """So they are without a ledger: a leaf that is used several times needs two gradients at once, not more."""

    def step(_):
        x = floats(64).requires_grad_()
        ys = [x.exp() for _ in range(consumers)]
        torch.autograd.grad(sum(y.sum() for y in ys), x)

    kinds = booked(step).peaks()[""]

    assert sum(kinds.values()) <= (1 + consumers + 2) * 64 * KIB + KIB


def test_additions_of_the_forward_pass_stay_out_of_place():
    """Only the backward pass may write into what it was given."""

    def step(_):
        x, y = floats(1), floats(1)
        with torch.no_grad():
            assert (x + y).untyped_storage()._cdata != x.untyped_storage()._cdata

    assert sum(booked(step).peaks()[""].values()) == 3 * KIB
