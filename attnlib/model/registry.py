"""Names of a model's parts: built in, installed by another package, or by place as ``package.module:Attribute``."""

import contextlib
import hashlib
import importlib.metadata
import inspect
import io
import math
import pkgutil
import re
import sys
from collections.abc import Callable, Iterator, Mapping
from functools import cache, partial
from importlib.metadata import EntryPoint
from pathlib import Path
from typing import Any, Generic, TypeVar

import torch

from attnlib.errors import message, shown

Entry = TypeVar("Entry")
THEORY = ("rate", "collapse_exponent")  # decades a layer; a in r_{l+1} ~ r_l^a
PLACE = re.compile(r"[^\W\d]\w*(\.[^\W\d]\w*)*:[^\W\d]\w*(\.[^\W\d]\w*)*")


class Registry(Mapping[str, Entry], Generic[Entry]):
    """Parts of one kind by name; iterating yields the names that are built in.

    Any other name is looked up among the entry points of installed packages, or imported as a place. What it stands for
    is adapted once and kept.

    Args:
        kind: the field that takes these names, for messages.
        built_in: parts of this package.
        adapt: makes an entry of somebody else's object, given its name; raises ``ValueError`` if it does not fit.
        group: of entry points, as ``attnlib.encodings``; None for a kind that packages cannot offer.
    """

    def __init__(
        self, kind: str, built_in: Mapping[str, Entry], adapt: Callable[[Any, str], Entry], group: str | None = None
    ) -> None:
        self.kind, self.built_in, self.adapt, self.group = kind, built_in, adapt, group
        self.adapted: dict[str, Entry] = {}

    def __iter__(self) -> Iterator[str]:
        return iter(self.built_in)

    def __len__(self) -> int:
        return len(self.built_in)

    def __contains__(self, name: object) -> bool:
        return isinstance(name, str) and (name in self.built_in or ":" in name or name in self.installed)

    def __getitem__(self, name: str) -> Entry:
        """Return the part of this name.

        Raises:
            KeyError: nobody has it.
            ValueError: several packages offer it, **or** it cannot be imported, **or** it does not fit.
        """
        offers = self.installed.get(name, [])
        if len(offers) + (name in self.built_in) > 1:
            others = ["attnlib"] * (name in self.built_in) + [distribution(point) for point in offers]
            wrong = f"{self.kind} {name!r} is offered by {' and '.join(others)}"
            raise ValueError(message(wrong, do="name its place instead, as package.module:Attribute"))
        if name in self.built_in:
            return self.built_in[name]
        if name not in self.adapted:
            self.adapted[name] = self.adapt(self.imported(name), name)
        return self.adapted[name]

    @property
    def installed(self) -> Mapping[str, list[EntryPoint]]:
        """Entry points of installed packages by name; nothing is imported for it."""
        return offered(self.group) if self.group else {}

    def owns(self, name: str) -> bool:
        """Return True if the part is one of this package."""
        return name in self.built_in

    def imported(self, name: str) -> Any:
        """Import somebody else's object by its name or place; raises as ``__getitem__``."""
        if points := self.installed.get(name):
            return load(points[0].value, f"{self.kind} {name!r} of {distribution(points[0])}")
        if ":" not in name:
            raise KeyError(name)
        return load(name, f"{self.kind} {name!r}")

    def origin(self, name: str) -> dict[str, Any]:
        """Return where somebody else's part comes from.

        Returns:
            ``name``; ``distribution`` and ``version`` of the package that has it, null where it is no package's;
            ``source``: first 12 digits of the SHA-256 of the file that defines it, null where it has none.
        """
        points = self.installed.get(name)
        module = defining_module(self.imported(name), (points[0].value if points else name).partition(":")[0])
        named = points[0].dist if points else None
        if named is None:
            owners = owners_of_modules().get(module.partition(".")[0], [])
            named = importlib.metadata.distribution(owners[0]) if owners else None
        return {
            "name": name,
            "distribution": None if named is None else named.name,
            "version": None if named is None else named.version,
            "source": source_digest(module),
        }


@cache
def offered(group: str) -> Mapping[str, list[EntryPoint]]:
    """Return the entry points of a group, by name."""
    found: dict[str, dict[tuple[str, str], EntryPoint]] = {}
    for point in importlib.metadata.entry_points(group=group):  # a distribution may be found twice on the path
        found.setdefault(point.name, {})[point.value, distribution(point)] = point
    return {name: list(points.values()) for name, points in found.items()}


@cache
def owners_of_modules() -> Mapping[str, list[str]]:
    """Return the distributions that installed each top-level module."""
    return importlib.metadata.packages_distributions()


def distribution(point: EntryPoint) -> str:
    """Return the name of the distribution that an entry point belongs to."""
    return point.dist.name if point.dist else "an unnamed distribution"


def defining_module(made: Any, named: str) -> str:
    """Return the module that defines an object: the named one, or another of the same package that it comes from."""
    while isinstance(made, partial):  # which functools defines
        made = made.func
    own = str(getattr(made, "__module__", named))
    return own if own.partition(".")[0] == named.partition(".")[0] else named


@cache
def source_digest(module: str) -> str | None:
    """Return the beginning of the SHA-256 of a module's source file; None where it has no file."""
    file = getattr(sys.modules.get(module), "__file__", None)
    return None if file is None else hashlib.sha256(Path(file).read_bytes()).hexdigest()[:12]


@cache
def load(place: str, title: str) -> Any:
    """Import ``package.module:Attribute``; text that this prints goes to standard error.

    Args:
        place: where the object is.
        title: of it, for messages.

    Raises:
        ValueError: the place is malformed, **or** nothing can be imported from there; the message says why.
    """
    if not PLACE.fullmatch(place):
        raise ValueError(message(f"{title} must have the form package.module:Attribute"))
    printed = io.StringIO()
    try:
        with contextlib.redirect_stdout(printed):
            made = pkgutil.resolve_name(place)
    except ModuleNotFoundError as error:
        advice = "--import-path FOLDER adds a folder to the path"
        raise ValueError(message(f"{title} cannot be imported: {error}", do=advice)) from None
    except (Exception, SystemExit) as error:  # noqa: BLE001 - a module may do anything when it is imported
        raise ValueError(message(f"{title} cannot be imported: {in_one_line(error)}")) from None
    if text := printed.getvalue().strip():
        print(f"attnlib: importing {title} printed: {text.splitlines()[0]}", file=sys.stderr)
    return made


def in_one_line(error: BaseException) -> str:
    """Return an exception as its type and the first line of its message."""
    first = str(error).strip().partition("\n")[0]
    return f"{type(error).__name__}: {first}" if first else type(error).__name__


def called(title: str, made: Callable[..., Any], *arguments: Any, **keywords: Any) -> Any:
    """Call somebody else's object; an error of it says whose it is.

    Raises:
        ValueError: it raises one.
        RuntimeError: it raises another error; but for those that say that memory is out, which stay as they are.
    """
    try:
        return made(*arguments, **keywords)
    except ValueError as error:
        raise ValueError(message(f"{title}: {str(error).strip().partition(chr(10))[0]}")) from error
    except (MemoryError, torch.OutOfMemoryError):
        raise
    except Exception as error:  # whatever a class or function does
        raise RuntimeError(message(f"{title}: {in_one_line(error)}")) from error


def check_theory(made: Any, title: str) -> None:
    """Refuse an attribute ``theory`` that does not state numbers by known names.

    Raises:
        ValueError: it does not; the message names the key or the value.
    """
    stated = getattr(made, "theory", {})
    if not isinstance(stated, Mapping):
        raise ValueError(message(f"{title}: theory must be a dict of {' and '.join(THEORY)}", stated))
    for key, value in stated.items():
        if key not in THEORY:
            raise ValueError(message(f"{title}: theory has the unknown key {shown(key)}", choices=THEORY))
        if not isinstance(value, (int, float)) or isinstance(value, bool) or not math.isfinite(value):
            raise ValueError(message(f"{title}: theory's {key} must be a number", value))


def fits(made: Callable[..., Any], *arguments: Any, **keywords: Any) -> str | None:
    """Return why a callable cannot be called with these arguments, or None if it can."""
    try:
        inspect.signature(made).bind(*arguments, **keywords)
    except TypeError as error:
        return str(error)
    except ValueError:  # a built-in without a signature
        return None
    return None
