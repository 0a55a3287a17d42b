"""A pytest that measures nothing: ``python -m attnlib.tests.sweep.fake`` plans and measures shards as the suite does.

Its own options: ``--cells=N`` planned, ``--pace=SECONDS`` a case, ``--dies-in=ID,...`` of cases that
kill it, ``--dies-early`` before a case begins, ``--dies-late`` when all is saved, ``--struck=FILE`` while it plans if
that is there, ``--bad`` which it refuses.
"""

import os
import secrets
import signal
import sys
import time
from pathlib import Path

import msgspec

from attnlib.runs import journal
from attnlib.runs.save import as_json, save_over
from attnlib.sweep.folder import Outline, Shard, read

PES = ("none", "sinusoidal", "rotary")
PHASES = ("forward", "backward", "train_step")
KIND = {"cpu": "fake", "versions": {"torch": "2.13.0"}, "code": "c0de"}
SETTINGS = {"budget": 0.1, "order_seed": 1, "seq_lens": [8]}
WHERE = {"block": "plain", "attention": "sdpa", "init": "torch_mha", "denormals": "flush", "causal": False}
SIZES = {"batch_size": 2, "d_model": 32, "head_dim": None}
CANARY = 1e-3


def planned(cells):
    """Tests of so many cases, encodings innermost."""
    tests = []
    for number in range(cells):
        cell, pe = divmod(number, len(PES))
        point, phase = divmod(cell, len(PHASES))
        T, L = 8 * (1 + point % 100), 1 + point // 100
        case = {"phase": PHASES[phase], "pe": PES[pe], "seq_len": T, "depth": L, **WHERE, **SIZES}
        test = f"bench/test_{PHASES[phase]}.py::test_{PHASES[phase]}[seq_len={T}-depth={L}-pe={PES[pe]}]"
        row = {"schema": 2, "case": case, "case_id": f"{number:012x}"}
        tests.append(journal.Planned(test=test, case=row))
    return tests


def shard_of(sweep, task):
    """The planned tests of a task."""
    return read(sweep.tests(sweep.plan, task.shard), Shard).tests


def seconds_of(case):
    """Return the seconds of a step."""
    return 1e-6 * case["seq_len"] * case["depth"] * (1 + PES.index(case["pe"]))


def outline(cells):
    """Return what is planned."""
    tests = planned(cells)
    cases = [test.case["case"] for test in tests]
    blocks = [f"{case['phase']} T={case['seq_len']} L={case['depth']}" for case in cases]
    return Outline(kind=KIND, platform="Fake", tests=tests, blocks=blocks, seconds=[seconds_of(c) for c in cases])


def plan(tests, token):
    """The head of a journal."""
    machine = {"node": os.environ.get("SLURMD_NODENAME", "here"), "attnlib": {"device": {"kind": "cpu"}}}
    return journal.Plan(
        run=token,
        name="fake",
        fingerprint=KIND,
        settings=SETTINGS,
        head={"machine_info": machine, "commit_info": {}, "datetime": "2026-01-01", "version": "5"},
        ours={
            "schema": 2,
            "command": ["pytest", "bench/", "--shard=0001.json"],
            "axes": {"pe": list(PES), "block": ["plain"], "attention": [], "init": []},
            "theory": {},
            "data": {},
            "kind": KIND,
            "settings": SETTINGS,
        },
        tests=tests,
    )


def benchmark_of(test):
    """Return what a test would have measured: time, and the bytes and FLOPs that do not depend on when and where."""
    case, seconds = test.case["case"], seconds_of(test.case["case"])
    over = {"value": 1.0 + PES.index(case["pe"]), "low": 0.9, "high": 9.0, "blocks": 3, "reference": {"pe": "none"}}
    jitter = 1 + 1e-3 * (secrets.randbelow(1000) / 1000)
    size = {"value": 64 * case["seq_len"] * case["depth"], "method": "fake", "reason": None}
    return {
        "fullname": test.test,
        "extra_info": {
            "case": case,
            "case_id": test.case["case_id"],
            "time": {
                "interval": [0.9 * seconds, 1.1 * seconds],
                "canary_s": [CANARY, CANARY],
                "over_reference": over,
                "reference_s": [jitter * seconds] * 6,
            },
            "memory": {"allocated_peak": size},
            "cost": {"flops": 2 * case["seq_len"] ** 2},
        },
        "stats": {"data": [jitter * seconds] * 12},
    }


def finish(test, process, at_s=0.0):
    """The end of a test."""
    row = {"status": "ok", "reason": None, "process": process}
    heard = [{"at_s": at_s, "seconds": CANARY, "device": "cpu", "process": process}]
    return journal.Finish(test=test.test, at_s=at_s, row=row, benchmark=benchmark_of(test), canary=heard)


def measure(shard, final, options):
    """Measure what is left of a shard, from its journal if there is one."""
    if "--resume-from" in options:
        book = journal.Journal(Path(options["--resume-from"]))
    else:
        token = secrets.token_hex(6)
        book = journal.Journal.create(final.parent / f"{final.stem}.{token}{journal.SUFFIX}", plan(shard.tests, token))
    ending = []
    signal.signal(signal.SIGTERM, lambda *_: ending.append(1))
    begun, known = time.perf_counter(), book.events()
    number = len(journal.processes(known))
    for test, event in journal.last_events(known).items():
        if isinstance(event, journal.Start):
            book.write(journal.Finish(test=test, at_s=0.0, row=journal.CRASHED | {"process": number - 1}))
    node = os.environ.get("SLURMD_NODENAME", "here")
    book.write(journal.Process(about={"node": node, "started": f"2026-01-01T00:00:{number:02}"}))
    retry = ("interrupted", "crashed") if "--retry-crashed" in options else ("interrupted",)
    done = journal.finished(book.events(), retry)
    for test in shard.tests:
        if test.test in done or ending:
            continue
        book.write(journal.Start(test=test.test, at_s=time.perf_counter() - begun))
        time.sleep(float(options.get("--pace", 0)))
        if test.case["case_id"] in options.get("--dies-in", "").split(","):
            os.kill(os.getpid(), signal.SIGKILL)
        book.write(finish(test, number, time.perf_counter() - begun))
    events = book.events()
    save_over(final, as_json(journal.assemble(events)), "fake")
    if len(journal.finished(events, retry)) == len(shard.tests):
        book.path.unlink()
    if "--dies-late" in options:
        os.kill(os.getpid(), signal.SIGKILL)
    return 128 + signal.SIGTERM if ending else 0


def main(words):
    """A session."""
    options = dict((word.split("=", 1) if "=" in word else (word, "")) for word in words)
    if "--bad" in options:
        print("ERROR: --bad is no option; choose from: good")
        return 4
    if "--plan-out" in options:
        if Path(options.get("--struck", "/nowhere")).exists():
            Path(options["--struck"]).unlink()
            os.kill(os.getpid(), signal.SIGTERM)
        save_over(Path(options["--plan-out"]), msgspec.json.encode(outline(int(options["--cells"]))), "fake")
        return 0
    if "--dies-early" in options:
        os.kill(os.getpid(), signal.SIGKILL)
    return measure(read(Path(options["--shard"]), Shard), Path(options["--benchmark-json"]), options)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
