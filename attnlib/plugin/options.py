"""Declaration and checks of a session's pytest options, before torch is imported. No torch here."""

import importlib.util
import os
import tempfile
from pathlib import Path
from typing import Any

import pytest
from pytest_benchmark.utils import get_tag

from attnlib.cases.options import OPTIONS, flag_of
from attnlib.errors import message
from attnlib.runs.find import results
from attnlib.runs.save import check_name

REFUSED = {  # of pytest-benchmark: rounds are fixed by our own pilot, and our clock waits for the device
    *("--benchmark-min-time", "--benchmark-max-time", "--benchmark-min-rounds", "--benchmark-precision"),
    *("--benchmark-confidence", "--benchmark-timer", "--benchmark-calibration-precision"),
    *("--benchmark-warmup", "--benchmark-warmup-iterations"),
}
SWITCHES = Path(__file__).parents[2] / "bench" / "test_switches.py"  # which has a preset of its own
NO_BENCHMARK = message(
    "attnlib times with pytest-benchmark, which is off",
    do="leave out -p no:benchmark, --codspeed or what turns it off",
)
ASKING = tuple(  # options of pytest-benchmark that ask for its own table
    f"--benchmark-{name}"
    for name in ("columns", "sort", "group-by", "name", "compare", "histogram", "cprofile", "verbose", "time-unit")
)


def declare(parser: pytest.Parser) -> None:
    """Add attnlib's options to pytest's parser."""
    group = parser.getgroup("attnlib")
    for name, option in OPTIONS.items():
        flags, says = [flag_of(name)], option.says
        if option.alias:
            flags, says = [*flags, option.alias], f"{says} (also {option.alias})"
        group.addoption(*flags, dest=f"attnlib_{name}", metavar=name.upper(), help=says)
    group.addoption("--pe-learnable", dest="attnlib_pe", action="store_const", const="learned", help="as --pe learned")
    group.addoption(
        "--plan",
        dest="attnlib_plan",
        action="store_true",
        help="list the cases with the least time of a step and predicted memory, and end",
    )
    group.addoption(
        "--plan-out",
        dest="attnlib_plan_out",
        metavar="FILE",
        type=Path,
        help="write the planned tests, which of them must stay together, and their expected seconds; then end",
    )
    group.addoption(
        "--shard",
        dest="attnlib_shard",
        metavar="FILE",
        type=Path,
        help="measure the tests of this shard, which attnlib sweep wrote",
    )
    group.addoption(
        "--import-path",
        dest="attnlib_import_path",
        metavar="FOLDER",
        type=Path,
        action="append",
        default=[],
        help="put a folder on the import path, for parts named as package.module:Attribute; may be given several times",
    )
    group.addoption("--run-name", dest="attnlib_run_name", metavar="NAME", help="save the run under this name")
    group.addoption(
        "--resume",
        dest="attnlib_resume",
        action="store_true",
        help="continue the newest unfinished run of the same cases and settings",
    )
    group.addoption(
        "--resume-from",
        dest="attnlib_resume_from",
        metavar="JOURNAL",
        type=Path,
        help="continue the unfinished run of this journal",
    )
    group.addoption(
        "--retry-crashed",
        dest="attnlib_retry_crashed",
        action="store_true",
        help="with --resume: measure those cases again in which the process died",
    )


def given(config: pytest.Config) -> dict[str, str | None]:
    """Return the options that ``Settings`` reads, by name; None for one that was not given."""
    return {name: getattr(config.option, f"attnlib_{name}") for name in OPTIONS}


def asked(config: pytest.Config) -> list[str]:
    """Return the arguments that the user gave on the command line and in PYTEST_ADDOPTS."""
    return [str(text) for text in (*config.invocation_params.args, *os.environ.get("PYTEST_ADDOPTS", "").split())]


def asks_for_table(config: pytest.Config) -> bool:
    """Return True if an option asks for pytest-benchmark's own table."""
    return any(text.startswith(ASKING) for text in asked(config))


def settle(config: pytest.Config) -> None:
    """Refuse options that have no effect or conflict, and set where and under which name runs are saved.

    Raises:
        pytest.UsageError: an option that has no effect here, or does not go with the others; or no pytest-benchmark.
    """
    if not hasattr(config.option, "benchmark_json"):
        raise pytest.UsageError(NO_BENCHMARK)
    arguments = [*asked(config), *config.getini("addopts")]
    if refused := [name for text in arguments if (name := str(text).partition("=")[0]) in REFUSED]:
        raise pytest.UsageError(message(f"{refused[0]} has no effect here", do="use --budget and --precision"))
    option = config.option
    files = [Path(argument.partition("::")[0]).resolve() for argument in config.args]
    if option.attnlib_preset is None and SWITCHES in files:
        option.attnlib_preset = "switches"
    if option.benchmark_histogram and importlib.util.find_spec("pygal") is None:
        advice = "pip install pytest-benchmark[histogram]"
        raise pytest.UsageError(message("--benchmark-histogram needs pygal", do=advice))
    if option.benchmark_disable_gc:
        wrong = "--benchmark-disable-gc would time a case and its reference unlike each other"
        raise pytest.UsageError(message(wrong, do="leave it out"))
    others = (getattr(option, "timeout", None), os.environ.get("PYTEST_TIMEOUT"))
    if option.attnlib_case_timeout and any(others):
        wrong = "--timeout of pytest-timeout ends a whole test, unsaved"
        raise pytest.UsageError(message(wrong, do="leave it out: --case-timeout is enough"))
    if option.benchmark_storage == "file://./.benchmarks":
        option.benchmark_storage = f"file://{results(config.rootpath)}"
    if option.benchmark_storage.startswith("elasticsearch+"):  # its address may hold a password, and is not repeated
        raise pytest.UsageError(message("--benchmark-storage takes file://FOLDER here: runs are saved as files"))
    if option.attnlib_run_name is not None:
        option.benchmark_save = option.attnlib_run_name
    if option.benchmark_save is not None:
        try:
            check_name(option.benchmark_save)
        except ValueError as error:
            raise pytest.UsageError(str(error)) from None
    if not asks_for_table(config):
        option.benchmark_quiet = True  # our own tables say it shorter
    resuming = option.attnlib_resume or option.attnlib_resume_from
    if option.attnlib_retry_crashed and not resuming:
        raise pytest.UsageError(message("--retry-crashed needs --resume or --resume-from"))
    if resuming and not (option.benchmark_save or option.benchmark_json):
        option.benchmark_autosave = option.benchmark_autosave or get_tag()
    if option.benchmark_autosave or option.benchmark_save:
        option.benchmark_save_data = True


def check_comparison(config: pytest.Config) -> None:
    """Refuse ``--benchmark-compare-fail`` without a run to compare with, before anything is measured.

    Raises:
        pytest.UsageError: there is no such run, **or** another plugin has turned pytest-benchmark off.
    """
    session: Any = config.pluginmanager.get_plugin("pytest-benchmark")
    if session is None:
        raise pytest.UsageError(NO_BENCHMARK)
    if session.compare_fail and not session.compared_mapping:
        advice = f"name a saved run in {session.storage} with --benchmark-compare"
        raise pytest.UsageError(message("--benchmark-compare-fail has nothing to compare with", do=advice))


def check_targets(config: pytest.Config) -> None:
    """Refuse a results folder that cannot be written to, before anything is measured.

    Raises:
        pytest.UsageError: it cannot; the message says why.
    """
    option, folders = config.option, []
    if option.benchmark_autosave or option.benchmark_save:
        folders.append(Path(option.benchmark_storage.removeprefix("file://")))
    if option.benchmark_json:
        try:
            if option.benchmark_json.exists() and not option.benchmark_json.is_file():
                raise pytest.UsageError(message(f"cannot save runs in {option.benchmark_json}: not a file"))
            folders.append(option.benchmark_json.resolve().parent)
        except (OSError, RuntimeError) as error:  # a link that leads to itself
            raise pytest.UsageError(message(f"cannot save runs in {option.benchmark_json}: {error}")) from None
    for folder in folders:
        try:
            folder.mkdir(parents=True, exist_ok=True)
            with tempfile.NamedTemporaryFile(dir=folder):
                pass
        except OSError as error:
            raise pytest.UsageError(message(f"cannot save runs in {folder}: {error.strerror}")) from None
