"""Plan of a session, which is the first line of its journal, and the fields that must agree to resume the run."""

import hashlib
import re
import secrets
from collections.abc import Iterable, Mapping
from dataclasses import asdict, replace
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import psutil
import pytest

from attnlib.cases.case import PARTS, PHASES, Case
from attnlib.cases.settings import Settings
from attnlib.errors import message
from attnlib.gradients.closed_forms import decay_rate
from attnlib.model.attention import INITS
from attnlib.model.config import StackConfig
from attnlib.model.data import by_length, data_set
from attnlib.plugin.measuring import identity
from attnlib.plugin.record import Entry
from attnlib.runs import journal
from attnlib.runs.load import processor
from attnlib.runs.save import plain
from attnlib.runs.schema import SCHEMA

PACKAGE = Path(__file__).parents[1]
CODE = {  # by field of the fingerprint: the code that decides a number
    "code": (
        *("model", "cases", "measure", "predict", "live/worker.py", "live/remote.py", "live/process.py"),
        *("plugin/pair.py", "plugin/measuring.py", "plugin/interleaved.py", "plugin/record.py", "plugin/visits.py"),
        *("gradients/fits.py", "gradients/probes.py"),  # which timed cases of denormals and of the original use
    ),
    "code_gradients": ("gradients", "compare/intervals.py"),
    "code_learning": ("learning",),
}
PLACE = ("affinity", "memory_bytes")  # of the environment: where a process ran, and not on what kind of machine
FREE = ("case_timeout", "memory_limit")  # settings that a resumed run may change: what is tried, not what is measured


def planned(config: pytest.Config, settings: Settings, entries: Mapping[str, Entry]) -> journal.Plan:
    """Return this session's plan, with the machine, settings and tests that must agree when it is resumed.

    Args:
        config: pytest's configuration.
        settings: the run's choices.
        entries: every planned test.

    Raises:
        ValueError: see ``refuse_twins``.
    """
    cases = {test: entry.case for test, entry in entries.items()}
    refuse_twins(cases)
    hook, base, option = config.hook, settings.base, config.option
    machine = machine_info(config)
    kind = plain(fingerprint(machine))
    chosen = plain({name: value for name, value in asdict(settings).items() if name not in FREE})
    commit = hook.pytest_benchmark_generate_commit_info(config=config)
    hook.pytest_benchmark_update_commit_info(config=config, commit_info=commit)
    commit.pop("error", None)  # it quotes folders
    head = hook.pytest_benchmark_generate_json(
        config=config, benchmarks=[], include_data=True, machine_info=machine, commit_info=commit
    )
    own = settings.own_parts
    plain_stack = StackConfig(d_model=base.d_model, n_heads=base.n_heads, head_dim=base.head_width)
    axes = {name: [*PARTS[name], *own.get(name, ())] for name in PARTS if name != "model" or name in own}
    return journal.Plan(
        run=secrets.token_hex(6),
        name=option.benchmark_save or option.benchmark_autosave or option.benchmark_json.stem,
        fingerprint=kind,
        settings=chosen,
        head=plain(head),
        ours=plain(
            {
                "schema": SCHEMA,
                "command": command(config),
                "preset": settings.preset,
                "order_seed": settings.order_seed,
                "axes": axes,
                "theory": {init: decay_rate(replace(plain_stack, init=init)) for init in INITS},
                "data": data_of(case for case in cases.values() if case is not None),
                "kind": kind,
                "settings": chosen,
            }
        ),
        tests=planned_tests(entries),
    )


def data_of(cases: Iterable[Case]) -> dict[str, dict[str, object]]:
    """Return the descriptions of the data that cases learn by name, as "sort up to 20" where short sequences are."""
    found: dict[str, dict[str, object]] = {}
    for data, train, test in sorted({(c.data, c.train_length or 0, c.test_length or 0) for c in cases if c.data}):
        if train:
            found[f"{data} up to {train}"] = by_length(data, train, test).as_json()
        else:
            found[data] = data_set(data).as_json()
    return found


def planned_tests(entries: Mapping[str, Entry]) -> list[journal.Planned]:
    """Return the tests of a plan, each with the fields that identify its row."""
    return [
        journal.Planned(
            test=test,
            case=None if entry.case is None else plain(identity(entry.case)),
            beside=None if entry.params is None else plain(entry.params),
        )
        for test, entry in entries.items()
    ]


def machine_info(config: pytest.Config) -> dict[str, Any]:
    """Return the description of the machine by pytest-benchmark and this suite."""
    found: dict[str, Any] = config.hook.pytest_benchmark_generate_machine_info(config=config)
    config.hook.pytest_benchmark_update_machine_info(config=config, machine_info=found)
    return found


def refuse_twins(cases: Mapping[str, Case | None]) -> None:
    """Refuse a plan in which two tests measure the same case, since their times could not be told apart.

    Raises:
        ValueError: two tests measure the same case; the message names both.
    """
    tests: dict[str, str] = {}
    for test, case in cases.items():
        if case is not None and (twin := tests.setdefault(case.id, test)) != test:
            wrong = f"{twin} and {test} measure the same case"
            raise ValueError(message(wrong, do="leave one out with --deselect or -k"))


def agreement(plan: journal.Plan) -> dict[str, Any]:
    """Return the fields that must agree to resume a run: kind of machine, versions, code, settings, data, every case.

    The code of gradient checks and that of trainings count only if the plan has such tests.
    """
    phases = {((test.case or {}).get("case") or {}).get("phase") for test in plan.tests}
    kinds = {own.kind for name, own in PHASES.items() if name in phases}
    needless = {
        name for name, kind in (("code_gradients", "checked"), ("code_learning", "trained")) if kind not in kinds
    }
    return {
        "fingerprint": {name: value for name, value in plan.fingerprint.items() if name not in needless},
        "settings": plan.settings,
        "data": plan.ours.get("data", {}),
        "parts": {  # by name, the source of parts that are somebody else's
            part["name"]: part["source"] for test in plan.tests for part in (test.case or {}).get("parts", {}).values()
        },
        "tests": {test.test: (test.case or {}).get("case_id", "no case") for test in plan.tests},
    }


def fingerprint(machine_info: dict[str, Any]) -> dict[str, Any]:
    """Return the kind of machine, versions, and checksums of the measuring code, but not where a process runs."""
    ours = {name: value for name, value in machine_info["attnlib"].items() if name not in PLACE}
    return {
        "cpu": processor(machine_info),
        **ours,
        "device": {name: value for name, value in ours["device"].items() if name != "uuid"},
        "environment": {k: v for k, v in ours["environment"].items() if k != "CUDA_VISIBLE_DEVICES"},
        **{name: digest_of(places) for name, places in CODE.items()},
    }


def digest_of(places: Iterable[str]) -> str:
    """Return the first 12 digits of the SHA-256 of the code in these folders and files of the package."""
    digest = hashlib.sha256()
    for place in places:
        path = PACKAGE / place
        for file in sorted(path.rglob("*.py")) if path.is_dir() else [path]:
            digest.update(file.read_bytes())
    return digest.hexdigest()[:12]


def about_process(config: pytest.Config, machine_info: dict[str, Any]) -> dict[str, Any]:
    """Return facts about this process: start time, command, node, device, usable CPUs, memory and load."""
    ours = machine_info["attnlib"]
    return {
        "started": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "command": command(config),
        "node": machine_info.get("node"),
        "uuid": ours["device"]["uuid"],
        "affinity": ours["affinity"],
        "memory_bytes": ours["memory_bytes"],
        "load_average": psutil.getloadavg()[0],
    }


def command(config: pytest.Config) -> list[str]:
    """Return the command line as saved: tests, -k, and options of this suite and of saving, without folders."""
    option = vars(config.option)
    ours = [name for name in option if name.startswith(("attnlib_", "beside_"))]
    names = [*ours, "benchmark_save", "benchmark_json"]
    given = {f"--{name.removeprefix('attnlib_').replace('_', '-')}": option[name] for name in names}
    given["--data"] = given.get("--data") and ",".join(Path(name).name for name in given["--data"].split(","))
    given |= {"--benchmark-autosave": bool(option["benchmark_autosave"]), "-k": option["keyword"]}
    flags = [
        flag if value is True else f"{flag}={value.name or value if isinstance(value, Path) else value}"
        for flag, values in given.items()
        for value in (values if isinstance(values, list) else [values])  # such as several --import-path
        if value
    ]
    return ["pytest", *(re.sub(r"^/.*/", "", argument) for argument in config.args), *flags]
