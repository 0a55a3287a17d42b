"""Checkouts by name: a folder as it is, or a git ref in a worktree of its own for as long as it is needed."""

import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from attnlib.errors import message


@contextmanager
def checked_out(name: Path) -> Iterator[Path]:
    """Yield the folder of this name, or a temporary worktree of the git ref of this name, which is removed behind it.

    Raises:
        ValueError: there is neither; the message says what git said.
    """
    if name.is_dir():
        yield name.resolve()
        return
    ref = str(name)
    found = git("rev-parse", "--verify", "--end-of-options", f"{ref}^{{commit}}")
    if found.returncode:
        raise ValueError(message(f"{ref} is neither a folder nor a commit of a git repository here"))
    with tempfile.TemporaryDirectory(prefix="attnlib-") as folder:
        place = Path(folder).resolve() / "checkout"
        made = git("worktree", "add", "--detach", str(place), found.stdout.strip())
        if made.returncode:
            wrong = f"git cannot make a worktree of {ref}: {made.stderr.strip().splitlines()[-1]}"
            raise ValueError(message(wrong))
        try:
            # the tests and their configuration lie as deep in it as the current folder in its repository
            inside = git("rev-parse", "--show-prefix").stdout.strip()
            yield place / inside
        finally:
            git("worktree", "remove", "--force", str(place))


def git(*words: str) -> subprocess.CompletedProcess[str]:
    """Run git in the current folder.

    Raises:
        ValueError: there is no git.
    """
    try:
        return subprocess.run(["git", *words], capture_output=True, text=True, check=False)
    except OSError as error:
        raise ValueError(message(f"cannot start git: {error.strerror}", do="install it, or name folders")) from None
