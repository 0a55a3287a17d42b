"""Trainings side by side, in processes of one thread each, so that a result depends on no number of threads."""

import contextlib
import multiprocessing
import os
import signal
from collections.abc import Iterable
from multiprocessing.connection import Connection, wait
from typing import Any, NamedTuple

import psutil

from attnlib.cases.case import Case
from attnlib.model.data import Labelled, data_set

AHEAD = 4  # cases that are given out at once at most, the one that is asked for among them


class Trainer(NamedTuple):
    """A process that trains what it is sent; where this process is killed, it ends after the training that it is at."""

    process: Any
    pipe: Connection


class Trainers:
    """Trains cases, and meanwhile those that will be asked for next."""

    def __init__(self) -> None:
        self.idle: list[Trainer] = []
        self.busy: dict[Connection, tuple[Case, Trainer]] = {}
        self.done: dict[Case, dict[str, Any]] = {}
        cpus = (
            psutil.Process().cpu_affinity() if hasattr(psutil.Process, "cpu_affinity") else range(os.cpu_count() or 1)
        )
        self.most = min(len(cpus), AHEAD)

    def train(self, wanted: Case, upcoming: Iterable[Case]) -> dict[str, Any]:
        """What the training of a case found, see ``attnlib.learning.training.train``.

        Whatever interrupts it, as the end of a case's time, ends what is being trained too.

        Args:
            wanted: the case.
            upcoming: those that are likely to be asked for next, the nearest first.

        Raises:
            RuntimeError: the training failed, **or** its process died; the message says how.
        """
        try:
            found = self._trained(wanted, upcoming)
        except BaseException:
            self.close()
            raise
        if "error" in found:
            raise RuntimeError(found["error"])
        return found

    def _trained(self, wanted: Case, upcoming: Iterable[Case]) -> dict[str, Any]:
        running = {case for case, _ in self.busy.values()}
        queue = [case for case in dict.fromkeys((wanted, *upcoming)) if case not in self.done and case not in running]
        while wanted not in self.done:
            while queue and (trainer := self._trainer()) is not None:
                case = queue.pop(0)
                self.busy[trainer.pipe] = case, trainer
                try:
                    trainer.pipe.send((case, data_set(case.data or "")))
                except ConnectionError:  # it died as soon as it was born
                    self._hear(trainer.pipe)
            for pipe in wait(list(self.busy)) if wanted not in self.done else ():
                self._hear(pipe)  # type: ignore[arg-type]
        return self.done.pop(wanted)

    def _trainer(self) -> Trainer | None:
        """One that is idle and alive, a new one where there is a CPU for it, or None."""
        while self.idle:
            trainer = self.idle.pop()
            if trainer.process.is_alive():
                return trainer
            self._bury(trainer)
        if len(self.busy) >= self.most:
            return None
        context = multiprocessing.get_context("spawn")
        ours, theirs = context.Pipe()
        process = context.Process(target=serve, args=(theirs,), daemon=True)
        process.start()
        theirs.close()  # so that the end of the process is the end of the pipe
        return Trainer(process, ours)

    def _hear(self, pipe: Connection) -> None:
        """Take what a trainer has to say; one that has died gives way to another."""
        case, trainer = self.busy.pop(pipe)
        try:
            self.done[case] = pipe.recv()
            self.idle.append(trainer)
        except (EOFError, ConnectionError):
            self._bury(trainer)
            self.done[case] = {"error": f"the process that trained it died, exit code {trainer.process.exitcode}"}

    def _bury(self, trainer: Trainer) -> None:
        trainer.process.kill()
        trainer.process.join()
        trainer.pipe.close()

    def close(self) -> None:
        """End every process; what was trained ahead is forgotten."""
        for trainer in [*self.idle, *(trainer for _, trainer in self.busy.values())]:
            self._bury(trainer)
        self.idle, self.busy, self.done = [], {}, {}


def serve(pipe: Connection) -> None:
    """Train what comes through the pipe until it ends; an interrupt is the parent's business."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    import torch

    from attnlib.learning.training import train

    torch.set_num_threads(1)
    while True:
        try:
            case, data = pipe.recv()
        except EOFError:
            return
        torch.set_flush_denormal(case.denormals == "flush")
        with contextlib.suppress(ConnectionError):  # nobody is there to hear it
            pipe.send(attempt(train, case, data))


def attempt(train: Any, case: Case, data: Labelled) -> dict[str, Any]:
    """What ``train`` returns, or what it raised in words: the parent says so in the case's row."""
    try:
        result: dict[str, Any] = train(case, data)
        return result
    except Exception as error:  # noqa: BLE001
        return {"error": f"{type(error).__name__}: {error}"}
