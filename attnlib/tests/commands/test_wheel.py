"""The installed package without a checkout: every command that needs none works in an empty folder."""

import pytest

from attnlib.tests import ROOT

RUN = ROOT / "results" / "reference" / "laptop-cpu-1.json"
CASE = "phase=forward,seq_len=16,depth=1"


COMMANDS = {  # with a part of what each prints
    ("list",): "arXiv 2104.09864",
    ("predict", CASE): "parameters",
    ("frontier", "--memory", "2MiB", "--depths", "1", "--seq-lens", "64"): "longest T at each L within 2 MiB",
    ("costs", str(RUN)): "noise floor of train_step",
    ("draw", str(RUN), "--only", "memory", "--report"): "results/report.html",
}


@pytest.mark.faults  # with the long tests
def test_commands_need_no_checkout(attnlib):
    """Names, predictions, and tables and figures of saved runs, one after another in one process."""
    code = f"from attnlib.commands.__main__ import main; print([main(list(words)) for words in {list(COMMANDS)}])"
    done = attnlib("-c", code)

    assert done.stdout.endswith(f"{[0] * len(COMMANDS)}\n"), done.stderr
    assert all(shown in done.stdout for shown in COMMANDS.values())


@pytest.mark.faults  # with the long tests
def test_live_workers_need_no_checkout(attnlib):
    """Two encodings take turns in workers of the installed package."""
    words = ["ab", "pe=none", "pe=rotary", "--case", CASE, "--budget", "1", "--allow-undecided"]
    done = attnlib("-m", "attnlib.commands", *words)

    assert done.returncode in (0, 1), done.stderr
    assert CASE.replace(",", " ") in done.stdout


def test_the_plugin_is_in_the_wheel(attnlib):
    """A suite elsewhere loads it by name, and measures a case."""
    (attnlib.folder / "test_own.py").write_text(
        "from attnlib.cases.grids import over\n\n\n"
        '@over(lambda settings: [{"seq_len": 16, "depth": 1, "pe": "none"}], phase="forward")\n'
        "def test_own(measure_case):\n"
        "    measure_case()\n"
    )
    options = [
        "-p",
        "attnlib.plugin",
        "--preset",
        "smoke",
        "--budget",
        "0.05",
        "--visits",
        "1",
        "-p",
        "no:cacheprovider",
    ]
    done = attnlib("-m", "pytest", "-q", "test_own.py", *options, "--benchmark-json", "run.json")

    assert done.returncode == 0, done.stdout
    assert "forward[" not in done.stderr
    assert (attnlib.folder / "run.json").stat().st_size > 1000
