"""The client of a worker process, see ``attnlib.live.worker``; it imports no torch."""

import contextlib
import json
import os
import subprocess
import sys
import threading
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

import psutil

from attnlib.errors import message, shown

PATIENCE = 300.0  # seconds after which a worker that does not answer counts as dead
HERE = Path(__file__).parents[2]  # the folder of this package: a checkout, or site-packages
# module of the worker, and its file in a checkout: today's, and that of old checkouts
MODULES = {"attnlib.live.worker": "attnlib/live/worker.py", "bench.worker": "bench/worker.py"}


def checkout_here() -> Path:
    """Return the current folder if it holds attnlib, else the folder of this package."""
    here = Path()
    return here if any((here / file).is_file() for file in MODULES.values()) else HERE


def worker_module(folder: Path) -> str:
    """Return the name of the worker's module in a checkout.

    Raises:
        ValueError: the folder holds no attnlib.
    """
    for module, file in MODULES.items():
        if (folder / file).is_file():
            return module
    raise ValueError(message(f"{folder} is not a checkout of attnlib: it has no attnlib/live/worker.py"))


class WorkerError(RuntimeError):
    """A worker answered with an error and can still be used."""


class WorkerDied(RuntimeError):
    """A worker process has ended or was killed."""


class Worker:
    """A worker process; as a context manager it ends the process.

    Args:
        checkout: the folder that holds the attnlib to run.
        options: of ``python -m attnlib.live.worker``.
        python: the interpreter.
        environment: variables that are set in addition to those of this process.
        module: of the worker; None is the one in the checkout.

    Raises:
        ValueError: the folder holds no attnlib, **or** the interpreter cannot be started.
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
        if os.sep in python:  # relative to the current folder, not to the checkout; links to interpreters are kept
            python = os.path.abspath(python)  # noqa: PTH100
        try:
            self.process = subprocess.Popen(
                [python, "-m", module, *options],
                cwd=checkout,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
                # Python finds the code in the current folder, whatever is installed elsewhere
                env={"KINETO_LOG_LEVEL": "5", **os.environ, "PYTHONSAFEPATH": "", **environment},
            )
        except OSError as error:
            raise ValueError(message(f"cannot start {python}: {error.strerror}")) from None

    def ask(self, **request: Any) -> dict[str, Any]:
        """Send one request and wait for its answer.

        Raises:
            WorkerError: the worker answered with an error.
            WorkerDied: the worker has ended, **or** was killed after ``PATIENCE`` seconds or an answer that is no JSON.
        """
        source, sink = self.process.stdout, self.process.stdin
        if source is None or sink is None:
            raise WorkerDied(message("the worker has no pipes"))
        watchdog = threading.Timer(PATIENCE, self.process.kill)
        watchdog.start()
        try:
            sink.write(json.dumps(request) + "\n")
            sink.flush()
            answer = source.readline()
        except BrokenPipeError:
            answer = ""
        except BaseException:  # a late answer would be taken for that to the next request
            self.process.kill()
            raise
        finally:
            watchdog.cancel()
        if not answer.endswith("\n"):
            raise WorkerDied(message(f"the worker died with exit code {self.process.wait()}"))
        try:
            reply: dict[str, Any] = json.loads(answer)
        except ValueError:
            self.process.kill()
            raise WorkerDied(message(f"the worker answered {shown(answer.strip())} and was killed")) from None
        if "error" in reply:
            raise WorkerError(message(f"the worker failed: {reply['error']}"))
        return reply

    def pin(self, cpus: set[int]) -> None:
        """Let the worker's threads run on these CPUs only; a worker that has ended is left alone."""
        with contextlib.suppress(psutil.NoSuchProcess, ProcessLookupError):
            for thread in psutil.Process(self.process.pid).threads():
                os.sched_setaffinity(thread.id, cpus)

    def close(self) -> None:
        """Close the worker's stdin so that it ends, and kill it if it does not within 10 s."""
        try:
            self.process.communicate(timeout=10)
        except (subprocess.TimeoutExpired, BrokenPipeError):
            self.process.kill()
            self.process.wait()
            for pipe in (self.process.stdin, self.process.stdout):
                with contextlib.suppress(BrokenPipeError):  # what was not sent is flushed on closing
                    if pipe:
                        pipe.close()

    def __enter__(self) -> "Worker":
        return self

    def __exit__(self, *error: object) -> None:
        self.close()
