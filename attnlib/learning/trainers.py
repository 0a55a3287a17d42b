"""Trainings side by side, in processes of one thread each, so that a result depends on no number of threads."""

import multiprocessing
import os
import signal
import threading
from collections.abc import Iterable
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from itertools import islice
from typing import Any

from attnlib.cases.case import Case
from attnlib.model.data import Labelled, data_set

AHEAD = 4  # cases that are trained at once at most, the one that is asked for among them
Found = dict[str, Any]  # what a training found, see ``attnlib.learning.training.train``


class Trainers:
    """Trains cases, and meanwhile those that will be asked for next."""

    def __init__(self) -> None:
        self.pool: ProcessPoolExecutor | None = None
        self.futures: dict[Case, Future[Found]] = {}

    def train(self, wanted: Case, upcoming: Iterable[Case]) -> Found:
        """Return what the training of a case found.

        Whatever interrupts the wait, such as the end of a case's time, ends every training.

        Args:
            wanted: the case.
            upcoming: those that are likely to be asked for next, the nearest first.

        Raises:
            RuntimeError: the training failed, **or** its process died twice.
        """
        for ahead in (upcoming, ()):  # once more, alone, if a process died: it may have been another case's
            error = self._train(wanted, ahead)
            if not isinstance(error, BrokenProcessPool):
                break
            self.close()
        else:
            raise RuntimeError("the process that trained it died, twice")
        if error is not None:
            raise RuntimeError(f"{type(error).__name__}: {error}")
        return self.futures.pop(wanted).result()

    def _train(self, wanted: Case, upcoming: Iterable[Case]) -> BaseException | None:
        """Wait for a training; return what it raised, and forget it then."""
        for case in islice(dict.fromkeys((wanted, *upcoming)), AHEAD):
            if case not in self.futures:
                self.futures[case] = self._submit(case)
        try:
            error = self.futures[wanted].exception()
        except BaseException:
            self.close()
            raise
        if error is not None:
            self.futures.pop(wanted)
        return error

    def _submit(self, case: Case) -> "Future[Found]":
        if self.pool is None:
            context = multiprocessing.get_context("spawn")
            self.pool = ProcessPoolExecutor(min(cpus(), AHEAD), context, initializer=prepare)
        try:
            return self.pool.submit(trained, case, data_set(case.data or ""))
        except BrokenProcessPool as error:  # a process died while nobody waited
            broken: Future[Found] = Future()
            broken.set_exception(error)
            return broken

    def close(self) -> None:
        """End every process; what was trained ahead is forgotten."""
        pool, self.pool, self.futures = self.pool, None, {}
        if pool is not None:
            for process in multiprocessing.active_children():
                process.kill()
            pool.shutdown(cancel_futures=True)


def cpus() -> int:
    """Return the number of CPUs that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def prepare() -> None:
    """Take one thread, leave interrupts to the parent, and end where the parent does."""
    import torch

    torch.set_num_threads(1)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=follow, args=(multiprocessing.parent_process(),), daemon=True).start()


def follow(parent: Any) -> None:
    """End this process once its parent has ended."""
    parent.join()
    os._exit(1)


def trained(case: Case, data: Labelled) -> Found:
    """Train a case, in a process of its own."""
    import torch

    from attnlib.learning.training import train

    torch.set_flush_denormal(case.denormals == "flush")
    return train(case, data)
