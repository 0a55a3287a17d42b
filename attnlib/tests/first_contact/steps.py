"""The ten steps, the most telling first."""

from collections.abc import Callable, Mapping
from typing import NamedTuple

from attnlib.tests.first_contact import compiled, kernels, launches, machine, memory, rates, sessions


class Step(NamedTuple):
    """One step.

    Args:
        limit: seconds that it may take.
        claims: what we assume, a sentence each, by name.
        run: gets the card and the step's ``Findings``.
    """

    limit: float
    claims: Mapping[str, str]
    run: Callable[..., None]


STEPS = {
    "machine": Step(20, machine.CLAIMS, machine.look),
    "kernels": Step(40, kernels.CLAIMS, kernels.compare),
    "launches": Step(40, launches.CLAIMS, launches.hold),
    "memory": Step(40, memory.CLAIMS, memory.weigh),
    "ceilings": Step(25, rates.CLAIMS, rates.compare),
    "tests": Step(60, sessions.TESTS_CLAIMS, sessions.run_tests),
    "session": Step(60, sessions.CLAIMS, sessions.measure),
    "graphs": Step(25, launches.GRAPH_CLAIMS, launches.capture),
    "long": Step(40, memory.LONG_CLAIMS, memory.weigh_long),
    "flex": Step(60, compiled.CLAIMS, compiled.run_flex),
}
