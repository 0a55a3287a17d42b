"""The registry of checks, by phase."""

from collections.abc import Callable

from attnlib.cases.case import Case
from attnlib.gradients import checks
from attnlib.gradients.claims import Finding
from attnlib.gradients.controls import control
from attnlib.gradients.switches import family, switch

CHECKS: dict[str, Callable[[Case], Finding]] = {
    "rate": checks.rate,
    "profile": checks.profile,
    "collapse": checks.collapse,
    "control": control,
    "flush": checks.flush,
    "switch": switch,
    "family": family,
}
