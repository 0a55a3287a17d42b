"""Machines side by side: which runs are of one machine, and on which ratios all machines agree."""

import json

import pytest

from attnlib.compare.intervals import Estimate
from attnlib.compare.machines import (
    LONGER,
    OPPOSITE,
    SHORTER,
    SIGNS,
    UNDECIDED,
    as_json,
    common_sign,
    differing,
    machines,
    measured_places,
    ratio_at,
    reference_times,
    signs,
)
from attnlib.runs.load import load
from attnlib.tests import ROOT
from attnlib.tests.runs.examples import saved

ABOVE, BELOW, AROUND = Estimate(1.5, 1.4, 1.6), Estimate(0.5, 0.4, 0.6), Estimate(1.0, 0.9, 1.1)


@pytest.fixture(name="read")
def _read(tmp_path):
    """Return the loaded runs of these arguments of ``saved``, each from a file of its own."""

    def read(*arguments):
        paths = [tmp_path / f"{number}.json" for number in range(len(arguments))]
        for path, words in zip(paths, arguments, strict=True):
            path.write_text(json.dumps(saved(**words)))
        return [load(path) for path in paths]

    return read


@pytest.mark.parametrize(
    ("ratios", "sign"),
    [
        ([ABOVE], LONGER),
        ([BELOW, BELOW], SHORTER),
        ([ABOVE, BELOW], OPPOSITE),
        ([ABOVE, AROUND], UNDECIDED),
        ([AROUND], UNDECIDED),
        ([BELOW, AROUND, ABOVE], OPPOSITE),
    ],
)
def test_the_common_sign(ratios, sign):
    """It is that of all machines, opposite where two contradict each other, and else undecided; in any order."""
    assert common_sign(ratios) == common_sign(ratios[::-1]) == sign


def test_runs_are_grouped_by_machine(read):
    """Two runs of a machine are one machine's; names tell machines apart by what differs."""
    found = machines(read({"ratio": 1.5}, {"ratio": 1.5, "node": "there"}, {"ratio": 1.6}))

    assert [len(machine.cells.runs) for machine in found] == [2, 1]
    assert [machine.name for machine in found] == ["unknown cpu (node here)", "unknown cpu (node there)"]


def test_a_single_machine_has_a_plain_name(read):
    """Nothing is added to a name that no other machine has."""
    assert [machine.name for machine in machines(read({"ratio": 1.5}))] == ["unknown cpu"]


@pytest.mark.parametrize(
    ("there", "sign"), [(1.6, LONGER), (0.5, OPPOSITE), (1.05, UNDECIDED)], ids=["longer", "opposite", "undecided"]
)
def test_signs_on_two_machines(read, there, sign):
    """An encoding that takes longer here: the sign depends on the other machine, at all four places."""
    (found,) = signs(machines(read({"ratio": 1.5}, {"ratio": there, "node": "there"})))

    assert (found.phase, found.pe, found.over) == ("train_step", "sinusoidal", None)
    assert {word: len(found.places(word)) for word in SIGNS} == dict.fromkeys(SIGNS, 0) | {sign: 4}


def test_only_places_of_every_machine_are_compared(read):
    """A case that one machine could not measure is no part of the comparison."""
    (found,) = signs(machines(read({"ratio": 1.5}, {"ratio": 1.5, "node": "there", "status": "oom"})))

    assert [(place.depth, place.seq_len) for place in found.places(LONGER)] == [(2, 64), (2, 128), (8, 64)]


def test_the_reference_has_no_sign(read):
    """Its ratio to itself is 1 but for noise, and says nothing of a machine."""
    assert {sign.pe for sign in signs(machines(read({"ratio": 1.5})))} == {"sinusoidal"}


@pytest.fixture(name="changed")
def _changed(tmp_path):
    """Return the loaded run of ``saved(...)`` with other fields in all of its cases."""

    def changed(fields, device=None, **words):
        run = saved(ratio=1.5, **words)
        for row in [*run["attnlib"]["cases"], *(own["extra_info"] for own in run["benchmarks"])]:
            row["case"] |= fields
        run["machine_info"]["attnlib"]["device"] = device or {}
        path = tmp_path / "changed.json"
        path.write_text(json.dumps(run))
        return load(path)

    return changed


def test_stacks_of_two_widths_differ(read, changed):
    """Machines that measured them are told apart, and say in what."""
    found = machines([*read({"ratio": 1.5}), changed({"d_model": 128}, node="there")])

    assert len(found) == 2
    assert differing(found) == "d_model 64 | 128"
    assert differing(found[:1]) == ""


def test_a_machine_cannot_have_unlike_stacks(read, changed):
    """There is no mean of them."""
    with pytest.raises(ValueError, match=r"unlike stacks .*d_model 64 \| 128"):
        machines([*read({"ratio": 1.5}), changed({"d_model": 128})])


def test_a_card_stands_beside_a_cpu(read, changed):
    """The device belongs to the machine and not to the stack."""
    found = machines([*read({"ratio": 1.5}), changed({"device": "cuda"}, device={"kind": "cuda", "name": "A Card"})])

    assert [machine.name for machine in found] == ["unknown cpu", "A Card"]
    assert differing(found) == ""
    assert [len(sign.places(LONGER)) for sign in signs(found)] == [4]


def test_sizes_differ_where_intervals_do_not_overlap(read):
    """Whatever the sign: 1.5 and 1.6 overlap, 1.5 and 2 do not."""
    near, far = (next(signs(machines(read({"ratio": 1.5}, {"ratio": there, "node": "there"})))) for there in (1.6, 2.0))

    assert (near.apart, len(far.apart)) == ([], 4)


@pytest.fixture(name="reference", scope="module")
def _reference():
    """The machine of a committed run."""
    (machine,) = machines([load(ROOT / "results" / "reference" / "laptop-cpu-1.json")])
    return machine


def test_the_order_of_two_encodings_comes_from_their_ratios(reference):
    """It is the quotient of their ratios over the reference, and its interval is wider than either's."""
    for groups in measured_places(reference.cells).values():
        one, other = (ratio_at(reference.cells, groups, pe, None) for pe in ("rotary", "alibi"))
        both = ratio_at(reference.cells, groups, "rotary", "alibi")

        assert both.value == pytest.approx(one.value / other.value)
        assert both.high / both.low >= max(one.high / one.low, other.high / other.low)


def test_json_has_what_the_cells_say(reference):
    """Every ratio over the reference and every time is there, finite, with its place."""
    found = json.loads(json.dumps(as_json([reference]), allow_nan=False))
    places = measured_places(reference.cells)

    assert len(found["ratios"]) == sum(map(len, places.values()))
    assert len(found["reference_s"]) == len(reference_times(reference.cells)) == len(places)
    assert all(row["low"] <= row["value"] <= row["high"] for row in found["ratios"] + found["reference_s"])
    assert found["references"] == [{"pe": "none"}]
