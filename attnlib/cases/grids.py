"""Grids: over which cases a test is spread, as axes that vary and fields that are fixed."""

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
    """Spread a test over cases, a decorator: ``@over(lengths, phase="forward", depth=2)``.

    The test gets the parameters that vary, and ids such as ``seq_len=64-pe=none``; its fixtures ``case`` and
    ``measure_case`` are those of its point.

    Args:
        points: from a run's settings to the fields that vary, a dict a case, all with the same keys: ``lengths``,
            ``slices``, ``product``, or a function of one's own.
        fixed: fields that all its cases share, of ``attnlib.cases.case.Case``.
    """

    def mark_points(test: Test) -> Test:
        """Attach the grid to a test, where ``grid_of`` finds it."""
        test.__dict__["grid"] = Grid(points, fixed)
        return test

    return mark_points


def grid_of(test: Any) -> Grid | None:
    """Return the grid that a test is spread over; None of a test that is not."""
    found: Grid | None = getattr(test, "grid", None)
    return found


def product(settings: Settings) -> Points:
    """Every sequence length x depth x encoding."""
    return spread(settings, [(T, L) for T in settings.seq_lens for L in settings.depths])


def spread(settings: Settings, cells: Iterable[tuple[int, int]], weight: int = 1) -> Points:
    """Return each encoding at these lengths and depths; of a preset's own axes no cell beyond its largest T L.

    Args:
        settings: the run's choices.
        cells: T and L.
        weight: by which T L counts: phases that are two for one train step have half as large a limit.
    """
    return [
        {"seq_len": T, "depth": L, "pe": pe}
        for T, L in dict.fromkeys(cells)
        for pe in settings.pe
        if settings.most is None or weight * T * L <= settings.most
    ]


def slices(settings: Settings) -> Points:
    """Every length at the fixed depth and every depth at the fixed length, for each encoding."""
    cells = [(T, settings.fixed_depth) for T in settings.seq_lens]
    return spread(settings, [*cells, *((settings.fixed_seq_len, L) for L in settings.depths)], weight=2)


def lengths(settings: Settings) -> Points:
    """Every length for each encoding."""
    return [{"seq_len": T, "pe": pe} for T in settings.seq_lens for pe in settings.pe]
