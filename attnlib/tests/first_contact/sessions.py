"""The tests that need a card, and one small session from its first case to its saved run."""

import json
import xml.etree.ElementTree as ElementTree

GPU_TESTS = ("attnlib/tests/measure/test_gpu.py", "attnlib/tests/predict/test_choice.py")
# a new release of a library may warn of what the unit tests make an error
PLAIN = ("-q", "-p", "no:cacheprovider", "-W", "default")
WARM = ("-p", "attnlib.tests.first_contact.warm")
TESTS_CLAIMS = {
    "cold": "the tests marked gpu pass, 0 fail",
    "warm": "they pass too after a second of products, 0 fail",
}
SMALL = ("--seq-lens", "512", "--depths", "2", "--pe", "none,rotary,t5", "--budget", "0.3", "--visits", "2")
CASES = 6
NEEDED = {  # what a row of a card should have, by its place in extra_info
    "time between events": ("time", "device_event_s"),
    "time without launches": ("time", "device_busy_s"),
    "joules": ("energy", "joules"),
    "allocated peak": ("memory", "allocated_peak"),
    "bytes of this process": ("memory", "nvml_process"),
}
CLAIMS = {
    "ends": f"a session of {CASES} cases ends with exit code 0 and {CASES} rows ok",
    "readings": f"each row has {', '.join(NEEDED)}",
    "disturbed": "0 rows are disturbed",
}


def run_tests(card, found):
    """Run the tests marked gpu on the card as it is, then once more on a warm one."""
    for name, more in (("cold", ()), ("warm", WARM)):
        report = found.path.with_name(f"{found.path.stem}-{name}.xml")
        report.unlink(missing_ok=True)
        code = card.pytest("-m", "gpu", *GPU_TESTS, *PLAIN, *more, f"--junitxml={report}")
        if not report.exists():
            found.judge(name, False, f"pytest ended with exit code {code}, see the log")
            continue
        passed, failed, skipped = outcomes(report)
        if not passed and not failed:
            found.leave(name, f"{skipped} tests skipped")
        else:
            found.judge(name, not failed, f"{passed} passed" + "".join(f"; {text}" for text in failed))


def outcomes(report):
    """Return how many tests passed, the name and first line of each failure, and how many were skipped."""
    passed, failed, skipped = 0, [], 0
    for test in ElementTree.parse(report).iter("testcase"):
        wrong = [child for child in test if child.tag in ("failure", "error")]
        if wrong:
            failed.append(f"{test.get('name')}: {(wrong[0].get('message') or '').partition(chr(10))[0][:120]}")
        elif test.find("skipped") is not None:
            skipped += 1
        else:
            passed += 1
    return passed, failed, skipped


def measure(card, found):
    """Measure six small cases and look into the rows of the saved run."""
    saved = found.path.with_name(f"{found.path.stem}.run.json")
    saved.unlink(missing_ok=True)
    tests = ("bench/test_forward.py", "bench/test_train_step.py")
    code = card.pytest(*tests, "--preset", "gpu", "--device", card.name, *SMALL, *PLAIN, f"--benchmark-json={saved}")
    if not saved.exists():
        found.judge("ends", False, f"exit code {code} and no saved run, see the log")
        return
    run = json.loads(saved.read_text())
    wrong = [f"{row['test']}: {row['status']}, {row['reason']}" for row in run["attnlib"]["cases"] if row["reason"]]
    rows = [row["extra_info"] for row in run["benchmarks"]]
    found.judge(
        "ends",
        code == 0 and not wrong and len(rows) == CASES,
        "; ".join(wrong) or f"exit code {code}, {len(rows)} rows",
    )
    missing = {}
    for row in rows:
        for name, (part, key) in NEEDED.items():
            if row[part][key]["value"] is None:
                missing[name] = row[part][key]["reason"]
    found.judge("readings", not missing, "; ".join(f"no {name}: {why}" for name, why in missing.items()) or "all have")
    disturbed = [reason for row in rows for reason in row["time"]["disturbed"]]
    found.judge("disturbed", not disturbed, "; ".join(dict.fromkeys(disturbed)) or "none")
    found.note(flags=[flag for row in rows for flag in row["flags"]])
