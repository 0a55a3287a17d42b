"""Every measured number of README, results/reference/README.md and docs is what its command prints.

``findings.py`` says where each comes from. The numbers of its sentences are those of cells of tables, rounded. The
other numbers of a section stand somewhere in what its commands print. What no command prints from committed runs is
listed: constants of the method, and measurements that are not committed, with the words of the page that tell their
origin.
"""

import math
import re

import pytest

from attnlib.compare.cells import claims
from attnlib.show.units import digits, seconds, with_interval
from attnlib.tests import ROOT
from attnlib.tests.docs.findings import ELSEWHERE, FINDINGS, PRINTED, SETTINGS, SLOW, SLOW_FINDINGS
from attnlib.tests.docs.numbers import Printed, agree, groups, holes, number, numbers, pattern, stands
from attnlib.tests.docs.reading import PAGES, sections

SECTIONS = sections()
LISTED = {
    key: [*SETTINGS.get(key, ()), *(phrase for own in ELSEWHERE.get(key, {}).values() for phrase in own)]
    for key in SECTIONS
}


def sentences():
    """Return every sentence with its section; those whose commands take minutes run with the long tests."""
    found = []
    for table, marks in ((FINDINGS, []), (SLOW_FINDINGS, [pytest.mark.faults])):
        for key, own in table.items():
            found += [pytest.param(key, text, table, marks=marks, id=f"{key}: {text[:40]}") for text in own]
    return found


def rest(key):
    """Return a section's text without the sentences that are held cell by cell, and without what is listed."""
    text = SECTIONS[key]
    for sentence in [*FINDINGS.get(key, ()), *SLOW_FINDINGS.get(key, ())]:
        text = text.replace(holes(sentence, text)[0][0], "#")
    for phrase in LISTED[key]:
        text = re.sub(pattern(phrase), "#", text)
    return text


@pytest.fixture(name="printed", scope="module")
def _printed():
    """Outputs of commands, each run once."""
    return Printed()


@pytest.mark.parametrize(("key", "sentence", "table"), sentences())
def test_numbers_of_a_sentence_are_those_of_cells(printed, key, sentence, table):
    """Each number, its interval and its half-width are those of its cell, rounded as the sentence writes them."""
    _, written = holes(sentence, SECTIONS[key])
    expected = [read(printed) for read in table[key][sentence]]

    assert len(written) == len(expected)
    wrong = [(said, value) for said, value in zip(written, expected, strict=True) if not agree(said, value)]
    assert wrong == []


@pytest.mark.parametrize(
    "key", [pytest.param(key, marks=[pytest.mark.faults] * (PRINTED.get(key, ()) == list(SLOW))) for key in SECTIONS]
)
def test_other_numbers_are_printed_or_listed(printed, key):
    """A number with a decimal point, a percent sign or an interval stands in an output of the section's commands."""
    outputs = [printed.numbers(command) for command in PRINTED.get(key, ())]

    text = rest(key)
    missing = [
        text[max(0, place - 40) : place + 40]
        for group, place in groups(text)
        if not any(stands(group, output) for output in outputs)
    ]
    assert missing == []


@pytest.mark.parametrize("key", [key for key in SECTIONS if LISTED[key]])
def test_what_is_listed_stands_on_the_page(key):
    """Each phrase, and each origin of a measurement, is in its section."""
    text = SECTIONS[key]

    assert [phrase for phrase in LISTED[key] if not re.search(pattern(phrase), text)] == []
    assert [origin for origin in ELSEWHERE.get(key, ()) if origin not in text] == []


def test_lists_are_of_sections():
    """No list names a section that is gone."""
    for table in (FINDINGS, SLOW_FINDINGS, PRINTED, SETTINGS, ELSEWHERE):
        assert table.keys() <= SECTIONS.keys()


@pytest.mark.parametrize("key", PRINTED)
def test_pages_show_the_commands(key):
    """A reader finds the command on the page that has its numbers, or on the page of all results."""
    pages = {page.relative_to(ROOT).as_posix(): page.read_text() for page in PAGES}
    shown = pages[key.partition("#")[0]] + pages["results/reference/README.md"]

    assert [command for command in PRINTED[key] if command not in shown] == []


def test_samples_are_of_the_first_run(printed):
    """README's lines, its ratio, and the drawing in docs/method.md are of a case of a committed run."""
    readme, method = ((ROOT / name).read_text() for name in ("README.md", "docs/method.md"))
    cells = printed.cells("results/reference/laptop-cpu-1.json")
    group = cells.first(phase="train_step", seq_len=256, depth=8, pe="rotary")
    (case,), ratio = group, with_interval(digits(2))(cells.over_reference(group))
    sides = zip(case.info.time.reference_s[:4], case.samples[:4], strict=True)
    exponent = claims(cells.first(phase="collapse", pe="none", block="plain", causal=False))["exponent"]

    assert f"{seconds(cells.time(group).value)}  {ratio} x none" in readme
    assert f"`{ratio} x none`" in readme
    assert f"`{ratio}`" in method
    assert seconds(cells.reference_time(group).value) in method
    assert [f"{1000 * time:.2f}" for side in sides for time in side if f"{1000 * time:.2f}" not in method] == []
    assert [log for log in case.visited.logs if f"{math.exp(log):.3f}" not in method] == []
    assert f"exponent {exponent.mean:.4g} [{exponent.low:.4g}, {exponent.high:.4g}] theory" in readme


def test_numbers_of_a_text_are_found():
    """Intervals, half-widths, counts and percentages stand together; settings and code are left out."""
    text = "At T = 512 1.26 [1.25, 1.27], `0.5` of 93 % [92, 94], 0.91 ± 0.02, 3 of 27 runs, 94 and 92 %; 1,024.5 MiB"

    found = [[one.value for one in group] for group, _ in groups(text)]

    assert found == [[1.26, 1.25, 1.27], [93, 92, 94], [0.91, 0.02], [3, 27], [94], [92], [1024.5]]


@pytest.mark.parametrize(
    ("said", "output", "found"),
    [
        ("4.5 [2.4, 6.6] points", "+0.045 [+0.024, +0.066]", True),
        ("0.396 [0.390, 0.401]", "-0.3957 -0.401 -0.3904", True),
        ("0.396 [0.390, 0.402]", "-0.3957 -0.401 -0.3904", False),
        ("0.396 [0.390, 0.401]", "0.396 and 0.390 0.401 elsewhere 0.5 0.390", True),
        ("0.0 [0.1, 0.2]", "0.1 0.2 0.0", False),
        ("92.6 %", "92.6%", True),
        ("92.7 %", "92.6%", False),
        ("1.04", "1.0", False),
        ("3 of 27", "27 runs, 3 of 28", False),
    ],
)
def test_numbers_stand_in_an_output(said, output, found):
    """Rounding, percentages and a change of sign are allowed, and nothing else."""
    (group,) = [group for group, _ in groups(said)]

    assert stands(group, numbers(output)) is found


def test_a_wrong_number_of_a_sentence_is_seen():
    """A sentence's number is compared at its own digits, and so are its limits and its half-width."""
    text = "the step takes 0.91 ± 0.02 of the time, or 1.26 [1.25, 1.27] times"
    _, (half, interval) = holes("takes {} of the time, or {} times", text)

    assert agree(half, (0.912, 0.895, 0.934))
    assert not agree(half, (0.912, 0.895, 0.939))
    assert agree(interval, (1.2599, 1.2503, 1.2701))
    assert not agree(interval, (1.2599, 1.2503, 1.2751))
    assert number("1,024").value == 1024
    with pytest.raises(ValueError, match="stands 0 times"):
        holes("takes {} of the years", text)
