"""Trainings side by side: a process a CPU, of one thread each, so that a result depends on no number of threads."""

import multiprocessing
import os
import signal
from collections.abc import Iterable
from multiprocessing.connection import Connection, wait
from typing import Any, NamedTuple

import psutil

from attnlib.model.data import Labelled, data_set
from bench.cases import Case

AHEAD = 4  # cases beyond the one that is asked for


class Trainer(NamedTuple):
    """A process that trains what it is sent; it ends when this process does."""

    process: Any
    pipe: Connection


class Trainers:
    """Trains cases, and meanwhile those that will be asked for next."""

    def __init__(self) -> None:
        self.idle: list[Trainer] = []
        self.busy: dict[Connection, tuple[Case, Trainer]] = {}
        self.done: dict[Case, dict[str, Any]] = {}
        self.free = (
            len(psutil.Process().cpu_affinity()) if hasattr(psutil.Process, "cpu_affinity") else os.cpu_count() or 1
        )

    def train(self, wanted: Case, upcoming: Iterable[Case]) -> dict[str, Any]:
        """What the training of a case found, see ``bench.learning.train``.

        Args:
            wanted: the case.
            upcoming: those that are likely to be asked for next, the nearest first.

        Raises:
            RuntimeError: the training failed, **or** its process died; the message says how.
        """
        running = {case for case, _ in self.busy.values()}
        queue = [case for case in dict.fromkeys((wanted, *upcoming)) if case not in self.done and case not in running]
        while wanted not in self.done:
            while queue and (trainer := self._trainer()) is not None:
                try:
                    trainer.pipe.send((queue[0], data_set(queue[0].data or "")))
                except ConnectionError:  # it died while it was idle
                    self.free += 1
                else:
                    self.busy[trainer.pipe] = queue.pop(0), trainer
            for pipe in wait(list(self.busy)):
                self._hear(pipe)  # type: ignore[arg-type]
        found = self.done.pop(wanted)
        if "error" in found:
            raise RuntimeError(found["error"])
        return found

    def _trainer(self) -> Trainer | None:
        """One that is idle, a new one where there is a CPU for it, or None."""
        if self.idle:
            return self.idle.pop()
        if not self.free:
            return None
        self.free -= 1
        context = multiprocessing.get_context("spawn")
        ours, theirs = context.Pipe()
        process = context.Process(target=serve, args=(theirs,), daemon=True)
        process.start()
        theirs.close()  # so that the end of the process is the end of the pipe
        return Trainer(process, ours)

    def _hear(self, pipe: Connection) -> None:
        """Take what a trainer has to say; one that has died leaves its CPU to another."""
        case, trainer = self.busy.pop(pipe)
        try:
            self.done[case] = pipe.recv()
            self.idle.append(trainer)
        except (EOFError, ConnectionError):
            trainer.process.join()
            self.done[case] = {"error": f"the process that trained it died, exit code {trainer.process.exitcode}"}
            self.free += 1

    def close(self) -> None:
        """End every process; what was trained ahead is forgotten."""
        for trainer in [*self.idle, *(trainer for _, trainer in self.busy.values())]:
            trainer.process.terminate()
            trainer.process.join()
            trainer.pipe.close()
        self.idle, self.busy = [], {}


def serve(pipe: Connection) -> None:
    """Train what comes through the pipe until it ends; an interrupt is the parent's business."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    import torch

    from bench.learning import train

    torch.set_num_threads(1)
    while True:
        try:
            case, data = pipe.recv()
        except EOFError:
            return
        torch.set_flush_denormal(case.denormals == "flush")
        pipe.send(attempt(train, case, data))


def attempt(train: Any, case: Case, data: Labelled) -> dict[str, Any]:
    """What ``train`` returns, or what it raised in words: the parent says so in the case's row."""
    try:
        result: dict[str, Any] = train(case, data)
        return result
    except Exception as error:  # noqa: BLE001
        return {"error": f"{type(error).__name__}: {error}"}
