"""Habits of people at a session of the suite, and what they bring to it: one test a kind of habit."""

import importlib.util
import json
import os
import re
import subprocess
import sys

import pytest

from attnlib.cases.grids import Grid, product, slices
from attnlib.plugin.hooks import options_of
from attnlib.runs.load import load
from attnlib.runs.schema import problems
from attnlib.tests import ROOT
from attnlib.tests.plugin.sessions import files, saved
from bench.test_gradients import profile_points

FORWARD = ["bench/test_forward.py"]
MACHINE = re.compile("another machine|machine_info")


@pytest.mark.parametrize(
    ("points", "wanted", "given", "needed"),
    [
        (slices, "seq_len=8-depth=1-pe=learned", {}, "--seq-lens 8"),
        (slices, "seq_len=16-depth=4-pe=none", {}, "--depths 4"),
        (slices, "seq_len=16-depth=1-pe=fire", {"seq_lens": "16"}, "--pe fire"),
        (product, "seq_len=8-depth=4-pe=fire", {}, "--seq-lens 8 --depths 4 --pe fire"),
        (profile_points, "pe=none-init=linear", {}, "--preset laptop"),
        (slices, "seq_len=8-depth=1-pe=ropee", {}, None),
    ],
)
def test_an_id_of_another_run_names_its_options(points, wanted, given, needed):
    """The options are those that give a run the case, as few as will do; a case that none gives has none."""
    assert options_of(wanted, Grid(points, {}), {"preset": "smoke"} | given) == needed


def test_an_id_of_another_run_is_refused(sessions, tmp_path):
    """The option is in the message, exit code 4, and nothing is written."""
    tests = ["bench/test_forward.py::test_forward[seq_len=16-depth=1-pe=learned]"]
    done = sessions("--benchmark-autosave", folder=tmp_path, tests=tests)

    assert done.code == 4
    assert "is not a case of a run with these options; add --seq-lens 16" in done.out
    assert files(tmp_path, "") == []


def test_a_switch_set_outside_ends_the_session(sessions, tmp_path):
    """Anomaly mode, as a plugin or sitecustomize may leave it: a line that names it, 4, and nothing written."""
    code = "def pytest_sessionstart():\n    import torch\n    torch.autograd.set_detect_anomaly(True)\n"
    done = sessions("--benchmark-autosave", folder=tmp_path / "runs", environment=plugin_of(tmp_path, code))

    assert done.code == 4
    assert "anomaly_mode=True" in done.out
    assert files(tmp_path / "runs", "") == []


@pytest.mark.parametrize(("option", "code"), [("--benchmark-autosave", 4), ("--benchmark-disable", 0), ("--co", 0)])
def test_a_debugger_is_refused_where_times_are_taken(sessions, tmp_path, option, code):
    """Its tracer slows every step; cases can be listed, and run without a clock, under it."""
    text = "import sys\ndef pytest_collection():\n    sys.settrace(lambda *_: None)\n"
    done = sessions(option, folder=tmp_path / "runs", environment=plugin_of(tmp_path, text))

    assert done.code == code
    assert ("nothing is measured with tracer=others.pytest_collection" in done.out) == (code == 4)


@pytest.mark.faults  # ruff's S101 refuses assert statements in each CI run
def test_the_correctness_gate_holds_without_assert_statements():
    """Python's ``-O`` leaves them out; a model whose logits are not finite is refused all the same."""
    code = (
        "from attnlib.cases.case import Case\n"
        "from attnlib.cases.workload import build\n"
        "work = build(Case(seq_len=4, depth=1, d_model=8, n_heads=2, phase='forward'))\n"
        "work.model.head.weight.data.fill_(float('nan'))\n"
        "work.check()\n"
    )
    done = subprocess.run([sys.executable, "-O", "-c", code], cwd=ROOT, capture_output=True, text=True)

    assert done.returncode == 1
    assert done.stderr.strip().endswith("AssertionError: logits are not finite")


def plugin_of(folder, code):
    """Return the variables that make a session load a plugin with this code."""
    (folder / "others.py").write_text(code)
    return {"PYTHONPATH": str(folder), "PYTEST_PLUGINS": "others"}


@pytest.mark.parametrize(
    ("expression", "chosen"),
    [
        ("pe=learned and seq_len=8", {"forward[seq_len=8-depth=1-pe=learned]"}),
        (
            "forward[seq_len=8-depth=1-pe=learned]",
            {"forward[seq_len=8-depth=1-pe=learned]"},
        ),
        ("seq_len=16-pe=None", {"forward[seq_len=16-depth=1-pe=none]"}),
        ("pe=learn", set()),  # a value is named whole
        (
            "phase=forward and not pe=none",
            {"forward[seq_len=8-depth=1-pe=learned]", "forward[seq_len=16-depth=1-pe=learned]"},
        ),
        ("none and seq_len=16", {"forward[seq_len=16-depth=1-pe=none]"}),
    ],
)
def test_cases_are_chosen_by_their_fields(sessions, tmp_path, expression, chosen):
    """``-k`` takes any field of a case as name=value, beside the words that pytest knows."""
    done = sessions("--seq-lens=8,16", "-k", expression, "--collect-only", folder=tmp_path, tests=FORWARD)

    assert set(re.findall(r"test_(forward\[.*\])", done.out)) == chosen


def test_two_runs_on_one_machine_do_not_differ(sessions, tmp_path):
    """Comparing in one go says nothing of the machine, though runs are kept outside the current folder."""
    sessions("--benchmark-save=a", folder=tmp_path, tests=FORWARD)
    done = sessions("--benchmark-save=b", "--benchmark-compare", folder=tmp_path, tests=FORWARD)

    assert done.code == 0, done.out
    assert "Comparing against benchmarks from" in done.out
    assert "NOW" in done.out
    assert not MACHINE.search(done.out)


def test_another_machine_is_named_in_a_line(sessions, tmp_path):
    """Only what differs is said; the comparison is made all the same, in a folder of its own."""
    sessions("--benchmark-save=a", folder=tmp_path, tests=FORWARD)
    (path,) = files(tmp_path, ".json")
    run = json.loads(path.read_text())
    run["machine_info"]["attnlib"]["threads"] = 99
    path.write_text(json.dumps(run))
    done = sessions("--benchmark-save=b", "--benchmark-compare", folder=tmp_path, tests=FORWARD)
    lines = [line for line in done.out.splitlines() if MACHINE.search(line)]

    assert done.code == 0
    assert len(lines) == 1
    assert lines[0].startswith("attnlib: compared with another machine or settings: threads: 99 | ")


def test_nothing_changes_from_minute_to_minute(sessions, tmp_path):
    """Neither load nor the clock of the moment is part of ``machine_info``; the load stands with the process."""
    sessions("--benchmark-autosave", folder=tmp_path, tests=FORWARD)
    run = saved(tmp_path)

    assert not re.search("load|hz_actual", json.dumps(run["machine_info"]))
    assert run["attnlib"]["processes"][0]["load_average"] >= 0


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            ["--benchmark-compare", "--benchmark-compare-fail=mean:5%"],
            "has nothing to compare with; name a saved run in ",
        ),
        pytest.param(
            ["--benchmark-histogram"],
            "--benchmark-histogram needs pygal",
            marks=pytest.mark.skipif(importlib.util.find_spec("pygal") is not None, reason="pygal is installed"),
        ),
        (["--run-name", "x" * 250], "at most 200 bytes"),
        (["--run-name", ""], "'' cannot name a run"),
        (["--run-name", "0003"], "'0003'"),
        (["--benchmark-save", "x "], "'x '"),
        (["-p", "no:benchmark"], "times with pytest-benchmark, which is off"),
        (["-p", "no:pytest-benchmark"], "times with pytest-benchmark, which is off"),  # as pytest-codspeed does
    ],
)
def test_what_cannot_end_well_does_not_begin(sessions, tmp_path, options, message):
    """One line and exit code 4, before anything is measured."""
    done = sessions(*options, folder=tmp_path, tests=FORWARD)

    assert done.code == 4
    assert message in done.out
    assert "forward[" not in done.out
    assert files(tmp_path, "") == []


def test_a_long_name_that_fits_is_saved(sessions, tmp_path):
    """200 bytes, a number, a token and an ending are a file's name."""
    assert sessions("--run-name", "x" * 200, folder=tmp_path, tests=FORWARD).code == 0
    saved(tmp_path)


def test_runs_are_grouped_by_axes(sessions, tmp_path):
    """Every timed row has the axes among its params, so that pytest-benchmark can group by them."""
    tests = [*FORWARD, "bench/test_encodings.py"]
    axes = "--benchmark-group-by=param:seq_len,param:depth,param:pe"
    done = sessions(axes, "--benchmark-autosave", folder=tmp_path, tests=tests)

    assert done.code == 0, done.out
    assert "benchmark 'seq_len=8 depth=1 pe=none'" in done.out
    assert all({"seq_len", "depth", "pe"} <= set(row["params"]) for row in saved(tmp_path)["benchmarks"])


def test_checks_are_no_benchmarks(sessions, tmp_path):
    """The finding of a check of gradients is its row's ``probe``; readers of the format see no benchmark of it."""
    options = ["--benchmark-autosave", "--pe=none", "-k", "phase=collapse"]
    assert sessions(*options, folder=tmp_path, tests=["bench/test_gradients.py"]).code == 0
    run = saved(tmp_path)
    (row,) = run["attnlib"]["cases"]
    (cell,) = load(files(tmp_path, ".json")[0]).cells

    assert run["attnlib"]["schema"] == 2
    assert run["benchmarks"] == []
    assert row["status"] == "ok"
    assert row["probe"]["claims"][0]["name"] == "exponent"
    assert cell.probe.claims[0].mean == row["probe"]["claims"][0]["mean"]
    assert not cell.timed


def test_a_profile_or_a_reason(sessions, tmp_path):
    """If pytest-benchmark profiles without set-up, a backward pass says so; a forward pass is profiled."""
    tests = [*FORWARD, "bench/test_backward.py"]
    done = sessions("--benchmark-cprofile=tottime", "--pe=none", folder=tmp_path, tests=tests)

    assert done.code == 0, done.out
    assert "unsupported: pytest-benchmark profiles a step without its set-up" in done.out
    assert "cProfile" in done.out


def test_parameters_of_plugins_are_no_fields(tmp_path, sessions):
    """A plugin that parametrises every test, as pytest-repeat does, neither breaks collection nor enters a case."""
    environment = plugin_of(
        tmp_path,
        "import pytest\n"
        "def pytest_generate_tests(metafunc):\n"
        "    metafunc.fixturenames.append('__step')\n"
        "    metafunc.parametrize('__step', [0, 1])\n",
    )
    done = sessions("--collect-only", folder=tmp_path / "runs", tests=FORWARD, environment=environment)

    assert done.code == 0, done.out
    assert done.out.count("test_forward[") == 4


def test_no_other_plugin_changes_the_order(sessions, tmp_path):
    """Cases come in the seeded order, timed ones first, whatever another plugin does before or after all others."""
    code = (
        "import pytest\n"
        "@pytest.hookimpl(wrapper=True, tryfirst=True)\n"
        "def pytest_collection_modifyitems(items):\n"
        "    items.sort(key=lambda item: item.name)\n"
        "    result = yield\n"
        "    items.sort(key=lambda item: item.name)\n"
        "    return result\n"
    )
    options = {"folder": tmp_path / "runs", "tests": [*FORWARD, "bench/test_gradients.py"]}
    collected = [
        re.findall(r"test_\w+\[.*\]", sessions("--seq-lens=8,16,32", "--collect-only", **more, **options).out)
        for more in ({}, {"environment": plugin_of(tmp_path, code)})
    ]

    assert collected[0] == collected[1] != sorted(collected[0])
    assert [name.partition("[")[0] for name in collected[0][:7]] == ["test_forward"] * 6 + ["test_rate"]


def test_a_benchmark_of_another_plugin_ends_the_session(sessions, tmp_path):
    """The test is named, exit code 4, and nothing is written."""
    code = "import pytest\n@pytest.fixture\ndef benchmark():\n    return lambda function: function()\n"
    environment = plugin_of(tmp_path, code)
    done = sessions("--benchmark-autosave", folder=tmp_path / "runs", tests=FORWARD, environment=environment)

    assert done.code == 4
    assert "its fixture benchmark must be pytest-benchmark's, not function" in done.out
    assert files(tmp_path / "runs", "") == []


def test_a_test_that_is_tried_again_counts_once(sessions, tmp_path):
    """Its last try decides its row, which keeps nothing of the first, and each progress line counts tests."""
    code = (
        "import pytest\n"
        "from _pytest.runner import runtestprotocol\n"
        "tried = set()\n"
        "@pytest.hookimpl(wrapper=True, trylast=True)\n"
        "def pytest_runtest_call(item):\n"
        "    result = yield\n"
        "    if item not in tried:\n"
        "        tried.add(item)\n"
        "        raise AssertionError('the first try')\n"
        "    return result\n"
        "def pytest_runtest_protocol(item, nextitem):\n"
        "    for _ in range(2):\n"
        "        item.ihook.pytest_runtest_logstart(nodeid=item.nodeid, location=item.location)\n"
        "        runtestprotocol(item, nextitem=nextitem)\n"
        "    item.ihook.pytest_runtest_logfinish(nodeid=item.nodeid, location=item.location)\n"
        "    return True\n"
    )
    environment = plugin_of(tmp_path, code)
    done = sessions("--benchmark-autosave", folder=tmp_path / "runs", tests=FORWARD, environment=environment)
    rows = saved(tmp_path / "runs")["attnlib"]["cases"]

    assert re.findall(r"\[(\d)/2\] forward", done.out) == ["1", "1", "2", "2"]
    assert [(row["status"], row["reason"], "partial" in row) for row in rows] == [("ok", None, False)] * 2


@pytest.mark.parametrize(("fault", "other"), [("wrong", "interrupted"), ("wrong in a visit", "ok")])
def test_a_session_that_stops_at_a_failure_has_pytests_exit_code(sessions, tmp_path, fault, other):
    """With ``--stepwise``, say, it stops at once, also in a later visit, and is saved; no signal ended it."""
    code = (
        "def pytest_sessionstart(session):\n"
        "    global own\n"
        "    own = session\n"
        "def pytest_runtest_logreport(report):\n"
        "    if report.failed:\n"
        "        own.shouldstop = 'a test failed'\n"
    )
    options = ["--visits=2", f"--benchmark-json={tmp_path / 'run.json'}"]
    environment = plugin_of(tmp_path, code)
    done = sessions(*options, folder=tmp_path, tests=FORWARD, fault=fault, environment=environment)
    rows = json.loads((tmp_path / "run.json").read_text())["attnlib"]["cases"]

    assert done.code == pytest.ExitCode.INTERRUPTED
    assert sorted(row["status"] for row in rows) == sorted(["error", other])


def test_a_session_without_a_terminal_is_saved(sessions, tmp_path):
    """Without pytest's reporter, as with ``-p no:terminal``, the file is the same and nothing is printed."""
    code = (
        "import pytest\n"
        "@pytest.hookimpl(trylast=True)\n"
        "def pytest_configure(config):\n"
        "    config.pluginmanager.unregister(name='terminalreporter')\n"
    )
    environment, runs = plugin_of(tmp_path, code), tmp_path / "runs"
    done = sessions("--benchmark-autosave", folder=runs, tests=FORWARD, environment=environment)

    assert done.code == 0, done.out
    assert {row["status"] for row in saved(runs)["attnlib"]["cases"]} == {"ok"}
    assert "forward" not in done.out


def test_progress_is_shown_without_capture(sessions, tmp_path):
    """``-p no:capture`` has the same lines."""
    done = sessions("-p", "no:capture", folder=tmp_path, tests=FORWARD)

    assert re.findall(r"\[(\d)/2\] forward", done.out) == ["1", "2"]


def test_a_file_behind_a_link_is_written(sessions, tmp_path):
    """The link stays a link."""
    (tmp_path / "real.json").write_text("before")
    (tmp_path / "link.json").symlink_to("real.json")
    assert sessions(f"--benchmark-json={tmp_path / 'link.json'}", folder=tmp_path / "x", tests=FORWARD).code == 0

    assert (tmp_path / "link.json").is_symlink()
    assert problems(json.loads((tmp_path / "real.json").read_text())) == []


def test_a_pipe_is_refused(sessions, tmp_path):
    """Nothing is measured for a file that cannot be written whole or not at all."""
    os.mkfifo(tmp_path / "pipe.json")
    done = sessions(f"--benchmark-json={tmp_path / 'pipe.json'}", folder=tmp_path / "x", tests=FORWARD)

    assert done.code == 4
    assert "pipe.json: not a file" in done.out


def test_two_limits_of_time_are_one_too_many(sessions, tmp_path):
    """``--timeout`` of another plugin ends a test without a trace of it; beside ours it is refused."""
    code = "def pytest_addoption(parser):\n    parser.addoption('--timeout', type=float)\n"
    environment = plugin_of(tmp_path, code)
    options = ["--timeout=5", "--case-timeout=5"]
    done = sessions(*options, folder=tmp_path / "runs", tests=FORWARD, environment=environment)

    assert done.code == 4
    assert "--case-timeout is enough" in done.out


def test_a_plan_is_listed_and_nothing_is_measured(sessions, tmp_path):
    """Every case with predicted time and memory, what would not fit as such, the total; no file, no journal."""
    done = sessions("--plan", "--memory-limit=90KiB", "--seq-lens=8,64", folder=tmp_path, tests=FORWARD)

    assert done.code in (0, 5), done.out
    assert re.search(r"forward T=8 L=1 none +\S+ us +\S+ MiB", done.out)
    assert re.search(r"forward T=64 L=1 learned +- +- +oom: predicted to need", done.out)
    assert "4 cases in about " in done.out
    assert not list(tmp_path.rglob("*.json*"))
    assert not list(tmp_path.rglob("*.journal*"))
