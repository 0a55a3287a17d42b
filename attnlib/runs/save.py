"""Atomic saving of runs: a file is written whole or not at all, and replaces no other run unless asked to."""

import errno
import json
import math
import os
import re
from collections.abc import Callable, Iterable
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import msgspec

from attnlib.errors import message, shown

NO_LINKS = (errno.EPERM, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS)  # what file systems without hard links answer
LONGEST = 200  # bytes of a run's name: a number, a token and an ending must fit into a file's name with it

Content = bytes | Iterable[bytes]


def check_name(name: str) -> str:
    """Return the name of a run if it can be part of the name of a file or folder, and cannot be taken for an option.

    Raises:
        ValueError: the name cannot, **or** it is a number, by which runs are found too.
    """
    if not re.fullmatch(r"\w[\w.+-]*", name) or name.isdigit() or len(name.encode()) > LONGEST:
        rule = f"give letters, digits and _ . + - (at most {LONGEST} bytes), beginning with a letter, a digit or _, "
        raise ValueError(message(f"{shown(name)} cannot name a run", do=f"{rule}and not a number alone"))
    return name


def plain(value: Any, path: str = "", nulled: list[str] | None = None) -> Any:
    """Convert a value to plain JSON: numbers that are not finite become null, unknown objects their ``repr``.

    Args:
        value: anything.
        path: place of ``value``, for the lines of ``nulled``.
        nulled: gets a line for each number that was not finite, as ``time.interval[0] was nan``.
    """
    if isinstance(value, str):
        return value.encode("utf-8", "replace").decode()  # half a character of a file name, say
    if value is None or isinstance(value, (bool, int)):
        return value
    if isinstance(value, float):
        if math.isfinite(value):
            return float(value)
        if nulled is not None:
            nulled.append(f"{path} was {value}")
        return None
    if isinstance(value, dict):
        prefix = f"{path}." if path else ""
        return {str(key): plain(inner, f"{prefix}{key}", nulled) for key, inner in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(inner, f"{path}[{index}]", nulled) for index, inner in enumerate(value)]
    if hasattr(value, "item"):  # a numpy or torch scalar
        return plain(value.item(), path, nulled)
    return repr(value)


def save_new(folder: Path, name: str, content: Content, token: str, before: Callable[[Path], Any] = str) -> Path:
    """Save ``content`` as ``NNNN_name.json`` with the next free number; another process may take numbers meanwhile.

    Args:
        folder: folder of the file.
        name: name of the run.
        content: bytes of the file, or its pieces; if making a piece raises, nothing is left behind.
        token: the run's token, part of the temporary file's name.
        before: called with each path that is about to be tried.

    Raises:
        OSError: it cannot be written; nothing is left behind.
    """
    temporary = _written(folder / f".{token}.tmp", content)
    try:
        number = 1 + max(
            (int(found[1]) for p in folder.iterdir() if (found := re.match(r"(\d{4,})_", p.name))), default=0
        )
        while True:
            path = folder / f"{number:04}_{name}.json"
            before(path)
            try:
                _link(temporary, path)
                break
            except FileExistsError:
                number += 1
    finally:
        temporary.unlink(missing_ok=True)
    sync(folder)
    return path


def save_once(path: Path, content: Content, token: str) -> None:
    """Save ``content`` to a path at which there is nothing yet.

    Raises:
        FileExistsError: there is something.
        OSError: it cannot be written; nothing is left behind.
    """
    temporary = _written(path.parent / f".{token}.tmp", content)
    try:
        _link(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)
    sync(path.parent)


def save_over(path: Path, content: Content, token: str) -> None:
    """Replace the file at ``path``, or the target of a link there, by ``content`` in one step.

    Raises:
        OSError: it cannot be written; nothing is left behind.
    """
    path = path.resolve()
    if path.exists() and not path.is_file():  # a pipe or a device would be replaced by a file
        raise OSError(errno.EINVAL, message("not a file"))
    temporary = _written(path.parent / f".{token}.tmp", content)
    try:
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
    sync(path.parent)


def saved_now() -> dict[str, str]:
    """Return the entry of a saved run that says when it was saved, written as pytest-benchmark writes it."""
    return {"datetime": datetime.now(timezone.utc).isoformat()}


def as_json(data: Any) -> bytes:
    """Encode the result of ``plain`` as it stands in a saved run."""
    return json.dumps(data, indent=4, allow_nan=False).encode()


def pieces(content: Content) -> Iterable[bytes]:
    """Return the pieces of a file's content."""
    return [content] if isinstance(content, bytes) else content


def _written(path: Path, content: Content) -> Path:
    try:
        with path.open("wb") as file:
            file.writelines(pieces(content))
            file.flush()
            os.fsync(file.fileno())
    except BaseException:
        path.unlink(missing_ok=True)
        raise
    return path


def _link(temporary: Path, path: Path) -> None:
    try:
        os.link(temporary, path)
    except OSError as error:
        if error.errno not in NO_LINKS:
            raise
        claim = path.with_suffix(".taken")  # a killed process leaves no empty file under the final name
        claim.touch(exist_ok=False)
        try:
            if path.exists():
                raise FileExistsError(path) from None
            temporary.replace(path)
        finally:
            claim.unlink()


def sync(folder: Path) -> None:
    """Write a folder's entries to the disk, where folders can be opened, so that a new name survives a crash."""
    if hasattr(os, "O_DIRECTORY"):
        handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


class _Ours(msgspec.Struct):
    run: str


class _Run(msgspec.Struct):
    attnlib: _Ours


def token_in(path: Path) -> str | None:
    """Return the token of the run in a file; None if there is no such file or no run in it."""
    try:
        return msgspec.json.decode(path.read_bytes(), type=_Run).attnlib.run
    except (OSError, msgspec.MsgspecError, ValueError, RecursionError):
        return None
