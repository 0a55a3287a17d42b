"""Grids of the cases that a test is parametrized with: fields that vary, and fields that are fixed."""

from collections.abc import Callable, Iterable, Mapping
from typing import Any, NamedTuple, TypeVar

from attnlib.cases.settings import Settings

Points = list[dict[str, Any]]  # fields that vary, a case a point, all with the same keys
Test = TypeVar("Test", bound=Callable[..., None])


class Grid(NamedTuple):
    """The points of a test that ``over`` marked, and the fields that all its cases share."""

    points: Callable[[Settings], Points]
    fixed: Mapping[str, Any]


def over(points: Callable[[Settings], Points], **fixed: Any) -> Callable[[Test], Test]:
    """Decorator that parametrizes a test with cases: ``@over(lengths, phase="forward", depth=2)``.

    The test gets the parameters that vary, and ids such as ``seq_len=64-pe=none``; its fixtures ``case`` and
    ``measure_case`` are those of its point.

    Args:
        points: function from a run's settings to the fields that vary, one dict per case, all with the same keys:
            ``lengths``, ``slices``, ``product``, or a function of one's own.
        fixed: fields of ``attnlib.cases.case.Case`` that all cases of the test share.
    """

    def mark_points(test: Test) -> Test:
        """Attach the grid to a test, where ``grid_of`` finds it."""
        test.__dict__["grid"] = Grid(points, fixed)
        return test

    return mark_points


def grid_of(test: Any) -> Grid | None:
    """Return the grid that ``over`` attached to a test; None for a test without one."""
    found: Grid | None = getattr(test, "grid", None)
    return found


def product(settings: Settings) -> Points:
    """Return every combination of length, depth and encoding within the preset's limit, see ``spread``."""
    return spread(settings, [(T, L) for T in settings.seq_lens for L in settings.depths])


def spread(settings: Settings, cells: Iterable[tuple[int, int]], weight: int = 1) -> Points:
    """Return each encoding at these lengths and depths, without cells whose T L exceeds the preset's limit.

    There is no limit if any length or depth was given as an option.

    Args:
        settings: the run's choices.
        cells: pairs of T and L.
        weight: factor on T L; 2 halves the limit, for forward and backward passes, which are two for a train step.
    """
    return [
        {"seq_len": T, "depth": L, "pe": pe}
        for T, L in dict.fromkeys(cells)
        for pe in settings.pe
        if settings.most is None or weight * T * L <= settings.most
    ]


def slices(settings: Settings) -> Points:
    """Return every length at the fixed depth and every depth at the fixed length, each encoding; see ``spread``."""
    cells = [(T, settings.fixed_depth) for T in settings.seq_lens]
    return spread(settings, [*cells, *((settings.fixed_seq_len, L) for L in settings.depths)], weight=2)


def lengths(settings: Settings) -> Points:
    """Return every length with each encoding."""
    return [{"seq_len": T, "pe": pe} for T in settings.seq_lens for pe in settings.pe]
