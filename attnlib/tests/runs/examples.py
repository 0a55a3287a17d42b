"""A small run with known times, which tests of readers, comparisons and tables start from."""

from dataclasses import asdict

from bench.cases import Case


def reading(value):
    return {"value": value, "method": "fake", "reason": None if value is not None else "not read"}


def row_of(case):
    test = f"test_train_step[{case.id}]"
    return {"case": asdict(case), "case_id": case.id, "test": test, "status": "ok", "reason": None}


def saved(times=(1.0,), peak=1000, node="here", status="ok", canary=None, disturbed=()):
    """A run of 2 lengths x 2 depths x 2 encodings; the last case of status ``status``."""
    cases = [Case(seq_len=T, depth=L, pe=pe) for T in (64, 128) for L in (2, 8) for pe in ("none", "sinusoidal")]
    rows = [row_of(case) for case in cases]
    if status != "ok":
        rows[-1] |= {"status": status, "reason": "too large"}
    benchmarks = [
        {
            "fullname": row["test"],
            "extra_info": {
                "case": row["case"],
                "case_id": row["case_id"],
                "time": {
                    "interval": [0.9, 1.1],
                    "disturbed": list(disturbed),
                    "canary_s": [canary, canary] if canary else [],
                },
                "memory": {"allocated_peak": reading(peak)},
                "cost": {},
            },
            "stats": {"data": [t * row["case"]["seq_len"] * row["case"]["depth"] for t in times]},
        }
        for row in rows
        if row["status"] == "ok"
    ]
    machine = {"node": node, "attnlib": {"device": {}, "versions": {}, "threads": 2}}
    axes = {"pe": ["none", "sinusoidal", "learned"], "block": ["plain"]}
    return {
        "machine_info": machine,
        "commit_info": {},
        "benchmarks": benchmarks,
        "datetime": "2026-01-01",
        "version": "5",
        "attnlib": {
            "schema": 1,
            "cases": rows,
            "axes": axes,
            "canary": [{"at_s": 0.0, "seconds": canary}] if canary else [],
        },
    }
