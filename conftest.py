"""Options and fixtures of the benchmark suite; the work is in attnlib/ and bench/.

No torch at module level: pytest-benchmark's command line imports this file too.
"""

from __future__ import annotations

import argparse
import os
import tempfile
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from pytest_benchmark.utils import get_tag, parse_save

if TYPE_CHECKING:
    from collections.abc import Callable

    from attnlib.measure.device import Device
    from bench.cases import Case, Settings

OPTIONS = {
    "preset": "axes and widths: auto (laptop without an accelerator, gpu with one), smoke, laptop, gpu, seed",
    "seq_lens": "sequence lengths T, as 64,128",
    "depths": "numbers of layers L, as 2,8,32 (also --self-attn-layers)",
    "pe": "positional encodings, as rotary,alibi, or all",
    "batch_size": "sequences a step, B",
    "tokens_per_batch": "tokens a step instead of --batch-size: B = max(1, tokens // T)",
    "d_model": "model width D",
    "heads": "attention heads H",
    "head_dim": "width of a head K, by default D / H",
    "block": "how a layer is wrapped: plain, residual, post_ln, pre_ln, peri_ln, rezero, deepnorm",
    "init": "initialisation: torch_mha, linear, unit",
    "attention": "attention backend: sdpa, math",
    "dtype": "float32, float64, bfloat16, float16",
    "device": "auto, cpu, cuda, cuda:1, mps, ...",
    "threads": "torch's intra-op threads",
    "num_texts": "texts in an epoch of the seed preset",
    "budget": "seconds of warm-up, pilot and rounds a case; slow steps exceed it by six rounds",
    "precision": "wished relative half-width of the median's 95 %% interval within this run, as 0.03",
    "denormals": "flush subnormal numbers to zero (default) or keep them",
    "order_seed": "seed of the random order of cases",
    "case_timeout": "seconds a case may take in all, after which its status is timeout",
    "memory_limit": "what a case may need, as 800MiB or 6.5GiB, instead of all that is free; none tries every case",
    "fixed_depth": "depth of the slice over lengths (also --fixed-self-attn-layers)",
    "fixed_seq_len": "length of the slice over depths",
}
REFUSED = {  # of pytest-benchmark: rounds are fixed by our own pilot, and our clock waits for the device
    *("--benchmark-min-time", "--benchmark-max-time", "--benchmark-min-rounds", "--benchmark-precision"),
    *("--benchmark-confidence", "--benchmark-timer", "--benchmark-calibration-precision"),
    *("--benchmark-warmup", "--benchmark-warmup-iterations"),
}
ALIASES = {"depths": "--self-attn-layers", "fixed_depth": "--fixed-self-attn-layers"}
RUN = pytest.StashKey["Record"]()


def pytest_addoption(parser: pytest.Parser) -> None:
    """Declare the options; their values are checked by ``bench.cases.Settings``."""
    group = parser.getgroup("attnlib")
    for name, text in OPTIONS.items():
        flags = [f"--{name.replace('_', '-')}", *([ALIASES[name]] if name in ALIASES else [])]
        group.addoption(*flags, dest=f"attnlib_{name}", metavar=name.upper(), help=text)
    group.addoption("--pe-learnable", dest="attnlib_pe", action="store_const", const="learned", help="as --pe learned")
    group.addoption("--run-name", dest="attnlib_run_name", metavar="NAME", help="save the run under this name")
    group.addoption(
        "--resume", dest="attnlib_resume", action="store_true", help="go on with the newest unfinished run of this plan"
    )
    group.addoption(
        "--resume-from", dest="attnlib_resume_from", metavar="JOURNAL", type=Path, help="go on with this one"
    )
    group.addoption(
        "--retry-crashed",
        dest="attnlib_retry_crashed",
        action="store_true",
        help="with --resume: measure cases again in which the process died",
    )


@pytest.hookimpl(tryfirst=True)
def pytest_configure(config: pytest.Config) -> None:
    """Make the choices that must precede torch and pytest-benchmark."""
    # Measured on 2 cores: a passive wait makes small steps 2.5 times slower on an idle machine and gains a fifth on a
    # busy one; binding gains nothing and pins child processes to one core. So: libgomp's spin, unbound.
    os.environ.setdefault("OMP_PROC_BIND", "false")
    os.environ.setdefault("KINETO_LOG_LEVEL", "5")  # the profiler's own chatter
    given = [*config.invocation_params.args, *config.getini("addopts"), *os.environ.get("PYTEST_ADDOPTS", "").split()]
    if refused := [name for arg in given if (name := str(arg).partition("=")[0]) in REFUSED]:
        raise pytest.UsageError(f"{refused[0]} has no effect here; use --budget and --precision")
    option = config.option
    if option.benchmark_storage == "file://./.benchmarks":
        option.benchmark_storage = f"file://{config.rootpath / 'results'}"
    if option.benchmark_storage.startswith("elasticsearch+"):  # its address may hold a password, and is not repeated
        raise pytest.UsageError("--benchmark-storage takes file://FOLDER here: runs are saved as files")
    if option.attnlib_run_name:
        try:
            option.benchmark_save = parse_save(option.attnlib_run_name)
        except argparse.ArgumentTypeError as error:
            raise pytest.UsageError(f"--run-name {option.attnlib_run_name!r}: {error}") from None
    resuming = option.attnlib_resume or option.attnlib_resume_from
    if option.attnlib_retry_crashed and not resuming:
        raise pytest.UsageError("--retry-crashed goes with --resume or --resume-from")
    if resuming and not (option.benchmark_save or option.benchmark_json):
        option.benchmark_autosave = option.benchmark_autosave or get_tag()
    if option.benchmark_autosave or option.benchmark_save:
        option.benchmark_save_data = True


def pytest_sessionstart(session: pytest.Session) -> None:
    """Read the options and open the device, before anything is collected or written."""
    from attnlib.measure.device import open_device
    from bench.cases import Settings
    from bench.ending import Ending
    from bench.record import Record
    from bench.saving import Saving

    config = session.config
    try:
        settings = Settings.from_options({name: getattr(config.option, f"attnlib_{name}") for name in OPTIONS})
    except ValueError as error:
        raise pytest.UsageError(str(error)) from None
    record = Record(settings, open_device(settings.base.device))
    saving = Saving(config, record)
    if saving.to_folder:
        check_writable(Path(config.option.benchmark_storage.removeprefix("file://")))
    if config.option.benchmark_json:
        check_writable(config.option.benchmark_json.parent)
    config.stash[RUN] = record
    config.pluginmanager.register(record, "attnlib-record")
    config.pluginmanager.register(saving, "attnlib-saving")
    config.pluginmanager.register(Ending(record, saving), "attnlib-ending")


def check_writable(folder: Path) -> None:
    """Refuse a results folder that cannot be written to, before an hour of measuring."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise pytest.UsageError(f"cannot save runs in {folder}: {error.strerror}") from None


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """Collect the original experiment for ``--preset seed`` only, and then alone; peers and ratios when named."""
    if collection_path.parent.name != "bench" or not collection_path.name.startswith("test_"):
        return None
    if any(Path(arg.partition("::")[0]).name == collection_path.name for arg in config.args):
        return None
    seed = config.stash[RUN].settings.preset == "seed"
    return (
        collection_path.name in ("test_peers.py", "test_ratios.py")
        or seed != (collection_path.name == "test_seed.py")
        or None
    )


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Spread a bench test over its rows (``bench.cases.over``): scalars, ids such as seq_len=64-depth=2-pe=none."""
    if hasattr(metafunc.function, "rows"):
        rows = metafunc.function.rows(metafunc.config.stash[RUN].settings)
        names = list(rows[0])
        metafunc.fixturenames.extend(names)  # so that a test need not list axes that it does not use
        ids = ["-".join(f"{name}={value}" for name, value in row.items()) for row in rows]
        metafunc.parametrize(names, [tuple(row.values()) for row in rows], ids=ids)


@pytest.fixture(scope="session")
def settings(request: pytest.FixtureRequest) -> Settings:
    """The run's choices."""
    return request.config.stash[RUN].settings


@pytest.fixture
def device(request: pytest.FixtureRequest) -> Device:
    """The device that is measured."""
    return request.config.stash[RUN].device


@pytest.fixture
def case(request: pytest.FixtureRequest) -> Case:
    """The case of this test."""
    return request.config.stash[RUN].case_of(request.node)


@pytest.fixture
def announce(request: pytest.FixtureRequest) -> Callable[[str], None]:
    """Write a progress line for this test."""
    return partial(request.config.stash[RUN].announce, request.node)


@pytest.fixture
def ratio(benchmark: Any, announce: Callable[[str], None]) -> Callable[..., None]:
    """Time a step over another, rounds interleaved; save the ratio and show it."""
    from attnlib.measure.sampling import MIN_ROUNDS
    from bench.ratios import ratio

    def run(title: str, a: Callable[[], None], b: Callable[[], None]) -> None:
        mean, low, high, pairs = ratio(a, b)
        benchmark.extra_info["ratio"] = {"of": title, "mean": mean, "low": low, "high": high, "pairs": pairs}
        benchmark.pedantic(a, rounds=MIN_ROUNDS)
        announce(f"{title} {mean:.3f} [{low:.3f}, {high:.3f}]")

    return run


@pytest.fixture
def inspect(benchmark: Any, case: Case, announce: Any, request: pytest.FixtureRequest) -> Callable[[], None]:
    """Run this test's check of gradients and assert what it found."""
    from bench.gradients import CHECKS
    from bench.measure import inspect

    def run() -> None:
        finding = inspect(benchmark, case, CHECKS[case.phase])
        assert not finding.problems, "; ".join(finding.problems)
        announce(f"{request.node.name.removeprefix('test_')}  {finding}")

    return run


@pytest.fixture
def measure(
    request: pytest.FixtureRequest, benchmark: Any, case: Case, settings: Settings, device: Device, announce: Any
) -> Callable[..., None]:
    """Measure this test's case, if it can be and should fit: in this process, or what ``build`` makes of it."""
    from bench import workload
    from bench.measure import measure
    from bench.predict import fitting
    from bench.record import figure

    record, test = request.config.stash[RUN], request.node.nodeid

    def run(build: Callable[[Case], Any] = lambda case: workload.build(case, settings.num_texts)) -> None:
        fitting(case, settings, device)
        record.timed_s[test] = measure(benchmark, build(case), case, settings, device, record.canary)
        if benchmark.stats is not None:
            if noise := benchmark.extra_info["time"]["disturbed"]:
                record.disturbed[test] = noise
            name = request.node.name.removeprefix("test_")
            announce(figure(name, benchmark.stats.stats.median, benchmark.extra_info))

    return run
