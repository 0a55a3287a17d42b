"""Threads, flush-to-zero and heap as rounds need them, in a process that others use as well."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch

from attnlib.measure import heap
from attnlib.measure.environment import flushes_subnormals


@contextmanager
def set_for_rounds(threads: int | None) -> Iterator[list[str]]:
    """Set threads, flush-to-zero and a kept heap for the block, and set them back behind it.

    Args:
        threads: of one operator on a CPU; None leaves torch's number.

    Yields:
        what could not be set, and what is not as before behind the block, a line each.
    """
    before, flushed, notes = torch.get_num_threads(), flushes_subnormals(), []
    if threads is not None and threads != before:
        torch.set_num_threads(threads)
    if not torch.set_flush_denormal(True):
        notes.append("subnormal numbers are kept: this CPU cannot flush them to zero")
    elif not flushed and torch.get_num_threads() > 1:
        notes.append("torch's other threads keep subnormal numbers if they were there before")
    before_us = heap.is_set()
    if not before_us:
        reason = heap.keep()
        if reason is not None:
            notes.append(f"freed memory may be given back: {reason}")
        elif heap.is_set():
            notes.append("behind it glibc's heap gives memory back, but its thresholds no longer adapt")
    try:
        yield notes
    finally:
        torch.set_flush_denormal(flushed)
        if torch.get_num_threads() != before:
            torch.set_num_threads(before)
        if heap.is_set() and not before_us:
            heap.give_back()
