"""A check of gradients as a benchmark of one round: what it found is saved as its row's ``probe``."""

from pytest_benchmark.fixture import BenchmarkFixture

from attnlib.measure.device import reading
from bench.cases import Case
from bench.checks.claims import Finding
from bench.checks.gradients import CHECKS
from bench.measuring import cost_of, identity


def check_case(benchmark: BenchmarkFixture, case: Case) -> Finding:
    """Run the check of the case's phase, its one round timed, and save what it found in ``benchmark.extra_info``."""
    finding: Finding = benchmark.pedantic(CHECKS[case.phase], args=(case,))
    benchmark.extra_info |= identity(case) | {
        "time": {"interval": None, "interval_reason": "one round: the check itself"},
        "memory": {"allocated_peak": reading(None, "allocator", "a check is not weighed")},
        "cost": cost_of(case),
        "probe": finding.as_json(),
    }
    return finding
