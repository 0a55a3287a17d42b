"""A small run with known times, which tests of readers, comparisons and tables start from."""

from dataclasses import asdict

from attnlib.cases.case import Case


def reading(value):
    return {"value": value, "method": "fake", "reason": None if value is not None else "not read"}


def row_of(case):
    test = f"test_train_step[{case.id}]"
    return {"case": asdict(case), "case_id": case.id, "test": test, "status": "ok", "reason": None}


def beside(ratio, seconds):
    """Return what is saved of a case whose rounds lay beside those of a stack without encoding."""
    over = {"value": ratio, "low": 0.9 * ratio, "high": 1.1 * ratio, "blocks": 3, "reference": {"pe": "none"}}
    return {"over_reference": over, "reference_s": [seconds] * 6}


def saved(times=(1.0,), peak=1000, node="here", status="ok", canary=None, disturbed=(), ratio=None, visit=None):
    """A run of 2 lengths x 2 depths x 2 encodings; the last case of status ``status``.

    With ``ratio`` every case was measured beside ``none``: sinusoidal at that ratio, none at 1, in visits in which the
    reference took ``visit(pe)`` (1 by default) x T L seconds. ``canary`` are its seconds, or those by kind of work.
    """
    kinds = canary if isinstance(canary, dict) else {}
    canary = sum(kinds.values()) or canary
    cases = [Case(seq_len=T, depth=L, pe=pe) for T in (64, 128) for L in (2, 8) for pe in ("none", "sinusoidal")]
    rows = [row_of(case) for case in cases]
    if status != "ok":
        rows[-1] |= {"status": status, "reason": "too large"}

    def pair(case):
        if ratio is None:
            return {}
        size = case["seq_len"] * case["depth"] * (visit(case["pe"]) if visit else 1.0)
        return beside(ratio if case["pe"] == "sinusoidal" else 1.0, size)

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
                    **pair(row["case"]),
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
            "canary": [{"at_s": 0.0, "seconds": canary, "kinds": kinds}] if canary else [],
        },
    }
