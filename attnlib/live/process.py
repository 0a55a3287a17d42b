"""The client of a worker process, ``python -m attnlib.live.worker``: one JSON line each way. Imports no torch."""

import json
import os
import subprocess
import sys
import threading
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType, TracebackType
from typing import Any

PATIENCE = 300.0  # seconds that a worker may take to answer before it counts as dead
HERE = Path(__file__).parents[2]  # the folder that this package lies in, a checkout's or one of installed packages
MODULES = ("attnlib.live.worker", "bench.worker")  # now, and in checkouts of before the engine lay in the package


def checkout_here() -> Path:
    """Return the current folder if it holds attnlib, else the one that this package lies in."""
    here = Path()
    return here if any(path_in(here, module).is_file() for module in MODULES) else HERE


def path_in(folder: Path, module: str) -> Path:
    """Return where a module lies in a folder that holds its package."""
    return folder / f"{module.replace('.', '/')}.py"


def worker_module(folder: Path) -> str:
    """Return the name of the module that is a worker in a folder that holds attnlib.

    Raises:
        ValueError: the folder holds none.
    """
    for module in MODULES:
        if path_in(folder, module).is_file():
            return module
    raise ValueError(f"{folder} is no checkout of attnlib: it has no attnlib/live/worker.py")


class WorkerError(RuntimeError):
    """A worker lives and answered with an error."""


class WorkerDied(RuntimeError):
    """A worker is gone."""


class Worker:
    """A worker process in a checkout; a context manager that ends it.

    Args:
        checkout: the folder that holds the attnlib which it runs.
        options: of ``python -m attnlib.live.worker``.
        python: its interpreter.
        environment: variables beside those of this process.
        module: that is the worker; by default the one in the checkout.

    Raises:
        ValueError: the folder holds no attnlib, **or** there is no such interpreter.
    """

    def __init__(
        self,
        checkout: Path,
        *options: str,
        python: str = sys.executable,
        environment: Mapping[str, str] = MappingProxyType({}),
        module: str | None = None,
    ) -> None:
        module = module or worker_module(checkout)
        if os.sep in python:  # relative to where we are, not to the checkout; links of virtual environments stay
            python = os.path.abspath(python)  # noqa: PTH100
        try:
            self.process = subprocess.Popen(
                [python, "-m", module, *options],
                cwd=checkout,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
                env={"KINETO_LOG_LEVEL": "5", **os.environ, **environment},
            )
        except OSError as error:
            raise ValueError(f"cannot start {python}: {error.strerror}") from None

    def ask(self, **request: Any) -> dict[str, Any]:
        """Send one request and wait for its answer.

        Raises:
            WorkerError: the worker answered with an error.
            WorkerDied: it is gone, **or** was killed since it did not answer for ``PATIENCE`` seconds or with no JSON.
        """
        source, sink = self.process.stdout, self.process.stdin
        if source is None or sink is None:
            raise WorkerDied("the worker has no pipes")
        watchdog = threading.Timer(PATIENCE, self.process.kill)
        watchdog.start()
        try:
            sink.write(json.dumps(request) + "\n")
            sink.flush()
            answer = source.readline()
        except BrokenPipeError:
            answer = ""
        except BaseException:  # its answer would be taken for the next one's
            self.process.kill()
            raise
        finally:
            watchdog.cancel()
        if not answer.endswith("\n"):
            raise WorkerDied(f"the worker died with exit code {self.process.wait()}")
        try:
            reply: dict[str, Any] = json.loads(answer)
        except ValueError:
            self.process.kill()
            raise WorkerDied(f"the worker answered {answer.strip()[:80]!r} and was killed") from None
        if "error" in reply:
            raise WorkerError(f"the worker failed: {reply['error']}")
        return reply

    def close(self) -> None:
        """Let the process end by itself, or kill it after a while."""
        try:
            self.process.communicate(timeout=10)
        except (subprocess.TimeoutExpired, BrokenPipeError):
            self.process.kill()
            self.process.wait()

    def __enter__(self) -> "Worker":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
