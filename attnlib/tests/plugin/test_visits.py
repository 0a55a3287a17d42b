"""Cases are visited several times in a session; what happens in a later visit takes nothing away from earlier ones."""

import pytest

from attnlib.runs import journal
from attnlib.runs.load import load
from attnlib.tests.plugin.sessions import files, samples_in, saved

VISITS = ["--visits", "3", "--benchmark-autosave"]
PAIRED = 2  # cases of the small session beside a reference, of four


def paired(run):
    """The row of each paired case."""
    return [row for row in run["benchmarks"] if "over_reference" in row["extra_info"]["time"]]


def timed(folder):
    """The saved row of each paired case."""
    return paired(saved(folder))


def test_every_paired_case_is_visited_thrice(sessions, tmp_path):
    """Each visit has its ratio and its rounds; the case's samples are those of all, and so is what is printed."""
    done = sessions(*VISITS, "--benchmark-columns=rounds", folder=tmp_path)
    assert done.code == 0, done.out
    rows = timed(tmp_path)

    assert len(rows) == PAIRED
    for row in rows:
        time = row["extra_info"]["time"]
        assert len(time["visits"]) == 3 <= 5
        assert sum(visit["rounds"] for visit in time["visits"]) == len(row["stats"]["data"]) == row["stats"]["rounds"]
        assert row["stats"]["max"] == max(row["stats"]["data"])
        assert (time["over_reference"]["visits"], time["over_reference"]["interval"]) == (3, "visits")
        moments = [visit["at_s"] for visit in time["visits"]]
        assert moments == sorted(moments)
        assert f" {row['stats']['rounds']} " in done.out.replace("\n", " \n")  # in pytest-benchmark's own table
    assert "x none after 2 of 3 visits" in done.out


def test_passes_follow_one_another(sessions, tmp_path):
    """No case has its third visit before all have had their second, and the orders of the passes differ."""
    sessions(*VISITS, "--pe=none,learned,rotary", folder=tmp_path)
    visits = [visit for row in timed(tmp_path) for visit in enumerate(row["extra_info"]["time"]["visits"])]
    last = [max(visit["at_s"] for number, visit in visits if number == place) for place in range(3)]
    first = [min(visit["at_s"] for number, visit in visits if number == place) for place in range(3)]

    assert last[0] < first[1]
    assert last[1] < first[2]


def test_an_interrupt_in_a_later_pass_leaves_what_there_is(sessions, tmp_path):
    """After Ctrl-C every case has one visit, the intervals say so, and --resume makes the others."""
    done = sessions(*VISITS, folder=tmp_path, fault="SIGINT in a visit")
    (path,) = files(tmp_path, ".json")
    overs = [cell.ratio for cell in load(path).cells if cell.ratio]

    assert done.code == 130
    assert "4 measurements are left: go on with --resume" in done.out
    assert [(over.visits, over.interval) for over in overs] == [(1, "pairs of one visit")] * PAIRED
    before = samples_in(tmp_path)
    done = sessions("--resume", "--visits", "3", folder=tmp_path)
    assert done.code == 0, done.out
    assert files(tmp_path, "") == [path]
    for row in timed(tmp_path):
        assert len(row["extra_info"]["time"]["visits"]) == 3
        assert row["stats"]["data"][: len(before[row["fullname"]])] == before[row["fullname"]]


def test_a_process_that_dies_in_a_visit_takes_that_visit_alone(sessions, tmp_path):
    """The case keeps its first visit, the one that killed is not made again, and the row says so."""
    assert sessions(*VISITS, folder=tmp_path, fault="visit begun").code == 128 + 9
    before = samples_in(tmp_path)
    assert sessions("--resume", "--visits", "3", folder=tmp_path).code == 0
    lost = [time["visits_lost"] for row in timed(tmp_path) if (time := row["extra_info"]["time"])["visits_lost"]]

    assert lost == [[{"visit": 2, "reason": "crashed: the process died in it"}]]
    assert sorted(len(row["extra_info"]["time"]["visits"]) for row in timed(tmp_path)) == [2, 3]
    for row in timed(tmp_path):
        assert row["stats"]["data"][: len(before[row["fullname"]])] == before[row["fullname"]]


def test_a_finished_visit_is_not_made_again(sessions, tmp_path):
    """A journal that ends behind a visit is gone on with from there, and it is read as it is."""
    assert sessions(*VISITS, folder=tmp_path, fault="visit finished").code == 128 + 9
    (book,) = files(tmp_path, ".journal")
    assert sum(journal.visits_left(journal.events(book.read_bytes())).values()) == 3
    assert sorted(len(cell.visits) for cell in load(book).cells if cell.ratio) == [1, 2]
    before = samples_in(tmp_path)
    assert sessions("--resume", "--visits", "3", folder=tmp_path).code == 0
    for row in timed(tmp_path):
        assert len(row["extra_info"]["time"]["visits"]) == 3
        assert row["stats"]["data"][: len(before[row["fullname"]])] == before[row["fullname"]]


@pytest.mark.parametrize(
    ("fault", "options", "reason"),
    [
        ("visit too long", ["--case-timeout", "2"], "timeout: it took longer than 2 s"),
        ("out of memory in a visit", [], "oom: "),
    ],
)
def test_visits_that_come_to_nothing(sessions, tmp_path, fault, options, reason):
    """Time and memory that end take the visit, not the case; nothing fails."""
    done = sessions("--visits", "2", "--benchmark-autosave", *options, folder=tmp_path, fault=fault)
    found = [row["extra_info"]["time"] for row in timed(tmp_path)]

    assert done.code == 0, done.out
    assert [len(time["visits"]) for time in found] == [1] * PAIRED
    assert all(time["visits_lost"][0]["reason"].startswith(reason) for time in found)
    assert f"visit 2 of 2 came to nothing: {reason}" in done.out


def test_a_wrong_result_in_a_visit_is_an_error(sessions, tmp_path):
    """A case that fails its gate in its second visit has no time any more, and the session fails."""
    done = sessions("--visits", "2", "--benchmark-autosave", folder=tmp_path, fault="wrong in a visit")
    statuses = [row["status"] for row in saved(tmp_path)["attnlib"]["cases"]]

    assert done.code == 1
    assert statuses.count("error") == PAIRED
    assert "logits are not finite" in done.out
    assert timed(tmp_path) == []


def test_one_visit_is_enough_where_it_is_asked_for(usual):
    """With --visits 1 nothing follows the tests."""
    assert [len(row["extra_info"]["time"]["visits"]) for row in paired(usual[1])] == [1] * PAIRED
