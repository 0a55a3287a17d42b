"""Parallel trainings in processes of one thread each, so that results do not depend on the number of threads."""

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
from attnlib.errors import message
from attnlib.measure import heap
from attnlib.measure.cores import usable_cpus
from attnlib.model.data import ByLength, Labelled, by_length, data_set

AHEAD = 4  # most cases that are trained at once, including the requested one
Found = dict[str, Any]  # the result of a training, see ``train`` in ``attnlib.learning.training`` and ``.lengths``


class Trainers:
    """Trains a requested case, and at the same time the cases that will be requested next."""

    def __init__(self) -> None:
        self.pool: ProcessPoolExecutor | None = None
        self.futures: dict[Case, Future[Found]] = {}

    def train(self, wanted: Case, upcoming: Iterable[Case]) -> Found:
        """Return the result of a case's training.

        An exception that interrupts the wait, such as a time limit, ends every training.

        Args:
            wanted: the requested case.
            upcoming: cases that will be requested next, in this order.

        Raises:
            RuntimeError: the training failed, **or** its process died twice.
        """
        for ahead in (upcoming, ()):  # retried once without the others if a process died: another case may be the cause
            error = self._train(wanted, ahead)
            if not isinstance(error, BrokenProcessPool):
                break
            self.close()
        else:
            wrong = "the process of this training died twice, the second time while no other training ran"
            raise RuntimeError(message(wrong))
        if error is not None:
            raise RuntimeError(message(f"{type(error).__name__}: {error}"))
        return self.futures.pop(wanted).result()

    def _train(self, wanted: Case, upcoming: Iterable[Case]) -> BaseException | None:
        """Wait for a training and return its exception or None; a failed training is forgotten."""
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
            self.pool = ProcessPoolExecutor(min(usable_cpus(), AHEAD), context, initializer=prepare)
        try:
            return self.pool.submit(trained, case, data_of(case))
        except BrokenProcessPool as error:  # a process died between two requests
            broken: Future[Found] = Future()
            broken.set_exception(error)
            return broken

    def close(self) -> None:
        """End every process and forget the trainings of upcoming cases."""
        pool, self.pool, self.futures = self.pool, None, {}
        if pool is not None:
            for process in multiprocessing.active_children():
                process.kill()
            pool.shutdown(cancel_futures=True)


def prepare() -> None:
    """Set up a process: one thread, memory that is kept, no reaction to Ctrl-C, and an end with the parent."""
    import torch

    torch.set_num_threads(1)
    heap.keep()  # a step needs its memory again at once: a tenth of the time goes into page faults otherwise
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=follow, args=(multiprocessing.parent_process(),), daemon=True).start()


def follow(parent: Any) -> None:
    """End this process once its parent has ended."""
    parent.join()
    os._exit(1)


def data_of(case: Case) -> Labelled | ByLength:
    """Return what a case learns; raises as ``data_set`` and ``by_length``."""
    name = case.data or ""
    return data_set(name) if case.train_length is None else by_length(name, case.train_length, case.test_length)


def trained(case: Case, data: Any) -> Found:
    """Return the result of a case's training; runs in a process of the pool."""
    import torch

    from attnlib.learning import lengths, training

    torch.set_flush_denormal(case.denormals == "flush")
    return lengths.train(case, data) if case.phase == "lengths" else training.train(case, data)
