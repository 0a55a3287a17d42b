"""Publication of a run: what is checked, what is written, and that a failed check writes nothing."""

import getpass
import json
import platform
from dataclasses import replace

import pytest

from attnlib.commands.__main__ import main
from attnlib.runs.find import load_all
from attnlib.runs.load import load
from attnlib.runs.share import incomplete
from attnlib.tests.runs.examples import saved

VISIT = {"log_ratio": 0.4, "interval": [1.4, 1.6], "rounds": 2, "disturbed": []}


def complete(node="secret.example.org", **options):
    """Return a run that passes every check, of three visits a case."""
    run = saved((1.0,) * 6, ratio=1.5, node=node, **options)
    run["commit_info"] = {"id": 40 * "a", "dirty": False, "branch": "main"}
    run["attnlib"] |= {"schema": 2, "processes": [{"node": node}]}
    for benchmark in run["benchmarks"]:
        benchmark["extra_info"]["time"] |= {"visits": [VISIT] * 3, "visits_planned": 3, "visits_lost": []}
    return run


@pytest.fixture(name="clone")
def _clone(tmp_path, monkeypatch):
    """Start in a folder that is laid out as a clone, and return it."""
    for name in ("bench", "attnlib"):
        (tmp_path / name).mkdir()
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture(name="share")
def _share(clone, capsys):
    """Save runs and share them; return the exit code, and what was printed and complained of."""

    def run(*runs, more=("--machine", "mine")):
        paths = [clone / f"{number}.json" for number in range(1, len(runs) + 1)]
        for path, one in zip(paths, runs, strict=True):
            path.write_text(json.dumps(one))
        code = main(["share", *map(str, paths), *more])
        printed = capsys.readouterr()
        return code, printed.out, printed.err

    return run


def written(clone):
    """Return everything under the reference runs of a clone."""
    return sorted(str(path.relative_to(clone)) for path in (clone / "results").rglob("*"))


def test_a_good_run_is_written(clone, share):
    """A folder named after the machine has the runs with every number, and a README; a line is there to paste."""
    code, out, err = share(complete(), complete())
    folder = clone / "results" / "reference" / "mine"

    assert (code, err) == (0, "")
    assert sorted(path.name for path in folder.iterdir()) == ["1.json", "2.json", "README.md"]
    assert "* [mine](mine/README.md): runs 2, undisturbed visits 48 of 48" in out
    assert [cell.samples for cell in load(folder / "1.json").cells] == [
        cell.samples for cell in load(clone / "1.json").cells
    ]
    page = (folder / "README.md").read_text()
    assert page.startswith("# mine\n\nTimes and memory were measured with attnlib")
    assert "`attnlib costs results/reference/mine/*.json`" in page
    assert "| 2 | 64 |" in page


def test_hosts_are_called_after_the_machine(clone, share):
    """The host's name is nowhere in what is written, whatever wrote it: machine, processes, nodes and rows."""
    run = complete(node="n1")
    run["attnlib"]["processes"].append({"node": "n2"})
    run["attnlib"]["cases"][0] |= {"node": "n2", "process": 1}
    run["attnlib"]["nodes"] = {name: run["machine_info"] | {"node": name} for name in ("n1", "n2")}
    assert share(run)[0] == 0
    found = load(clone / "results" / "reference" / "mine" / "1.json")

    assert [machine["node"] for machine in found.machines] == ["mine-1", "mine-2"]
    assert list(found.data["attnlib"]["nodes"]) == ["mine-1", "mine-2"]
    assert found.data["attnlib"]["cases"][0]["node"] == "mine-2"


def test_a_published_run_is_read_as_one_run_with_its_original(clone, share):
    """They have one token and the same numbers."""
    run = complete()
    run["attnlib"]["run"] = "abc"
    assert share(run)[0] == 0
    runs, left_out = load_all([clone / "1.json", clone / "results" / "reference" / "mine" / "1.json"])

    assert (len(runs), left_out) == (1, [])


def interrupted(run):
    run["attnlib"]["cases"][0] |= {"status": "interrupted", "reason": "the run ended before it"}
    run["benchmarks"].pop(0)


def lacking(run):
    run["benchmarks"][1]["extra_info"]["time"]["visits_planned"] = 5


def changed(run):
    run["commit_info"]["dirty"] = True


def without_commit(run):
    run["commit_info"] = {"id": "unversioned"}


def with_path(run):
    run["attnlib"]["command"] = ["pytest", "--import-path=/home/somebody/lab"]


def with_user(run):
    run["commit_info"]["branch"] = f"{getpass.getuser()}-tries"


def with_host(run):
    run["commit_info"]["project"] = platform.node().upper()


def with_host_of_the_run(run):
    run["attnlib"]["note"] = "on secret"


def older(run):
    run["attnlib"]["schema"] = 1


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (interrupted, "1 of 8 cases are interrupted, as test_train_step["),
        (lacking, "2 visits are left, as 2 of test_train_step["),
        (changed, "commit aaaaaaaaaaaa had changes that are not committed"),
        (without_commit, "its commit is unversioned"),
        (with_path, "attnlib.command[1] has the path /home/somebody/lab"),
        (with_user, f"commit_info.branch has the name {getpass.getuser()}"),
        (with_host, f"commit_info.project has the name {platform.node().upper()}"),
        (with_host_of_the_run, "attnlib.note has the name secret"),
        (older, "it has schema 1, and this version publishes 2"),
    ],
)
def test_each_failed_check_is_a_line(clone, share, spoil, said):
    """The line names the file and what is wrong; the exit code is 4 and nothing is written."""
    run = complete()
    spoil(run)
    code, out, err = share(run)

    assert (code, out) == (4, "")
    (line,) = err.splitlines()
    assert line.startswith(f"attnlib: {clone / '1.json'}: ")
    assert said in line
    assert not (clone / "results").exists()


def test_a_journal_is_not_complete(tmp_path):
    """It is the file of a run that was not saved yet, even if every case is measured."""
    path = tmp_path / "run.json"
    path.write_text(json.dumps(complete()))
    run = load(path)

    assert incomplete(run) == []
    (line,) = incomplete(replace(run, path=path.with_suffix(".journal")))
    assert "journal of an unfinished run" in line


@pytest.mark.parametrize(
    "text", ["bench/test_a.py::test[1/2]", "a / b", "https://a.org/b/c", "3 steps/s", "and/or/not"]
)
def test_what_only_looks_like_a_path_is_none(share, text):
    """Relative paths, fractions and addresses say nothing of where a run was made."""
    run = complete()
    run["attnlib"]["note"] = text

    assert share(run)[0] == 0


@pytest.mark.parametrize("text", ["/data/x/y.so", "in ~/lab", "x=/opt/lab/x", r"C:\Users\somebody\x", "'/srv/a/b'"])
def test_paths_are_found_in_any_text(share, text):
    """Absolute paths with a folder, paths of a home and paths of Windows all count."""
    run = complete()
    run["attnlib"]["note"] = text

    assert "attnlib.note has the path" in share(run)[2]


@pytest.mark.parametrize(("count", "code"), [(2, 0), (4, 4)])
def test_a_few_disturbed_visits_are_allowed(share, count, code):
    """Nine of ten must be undisturbed: 2 disturbed ones of 24 are allowed, 4 are not."""
    run = complete()
    for benchmark in run["benchmarks"][:count]:
        benchmark["extra_info"]["time"]["visits"] = [VISIT, VISIT, VISIT | {"disturbed": ["a neighbour"]}]
    found, _, err = share(run)

    assert found == code
    assert ("20 of 24 visits are undisturbed, less than 90 %" in err) == bool(code)


def test_all_failed_checks_are_said_at_once(share):
    """Several lines, so that a run need not be tried again and again."""
    run = complete()
    changed(run)
    with_path(run)

    assert len(share(run)[2].splitlines()) == 2


def test_runs_of_two_machines_are_refused(clone, share):
    """A folder is one machine's."""
    code, _, err = share(complete(), complete(node="other"))

    assert code == 4
    assert f"{clone / '2.json'}: another machine or other settings than {clone / '1.json'}" in err


def test_a_word_may_be_allowed(share):
    """A host may be called as something that a run is full of."""
    run = complete(node="laptop")
    run["attnlib"]["preset"] = "laptop"

    assert "attnlib.preset has the name laptop" in share(run)[2]
    assert share(run, more=["--machine", "mine", "--allow", "Laptop"])[0] == 0


def test_a_machine_that_is_there_is_not_replaced(clone, share):
    """4 and a line; what was there stays."""
    assert share(complete())[0] == 0
    before = written(clone)
    code, _, err = share(complete())

    assert code == 4
    assert "exists; choose another name with --machine" in err
    assert written(clone) == before


def test_the_folder_is_called_after_the_processor(clone, share):
    """The name is made of letters, digits and hyphens."""
    run = complete()
    run["machine_info"]["cpu"] = {"brand_raw": "AMD EPYC(tm) 9V74"}

    assert share(run, more=[])[0] == 0
    assert (clone / "results" / "reference" / "amd-epyc-tm-9v74").is_dir()


def test_nothing_is_left_where_it_cannot_be_written(clone, share):
    """74 and a line."""
    (clone / "results").write_text("a file")

    assert share(complete())[0] == 74
    assert (clone / "results").read_text() == "a file"
