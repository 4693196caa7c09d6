"""Waiting for another thread, so that a signal that ends the wait leaves nothing locked.

Python's own condition variables and events are written in Python: where a signal's handler raises,
as it does for Ctrl-C, in the moment after one has taken its lock, nobody gets that lock any more,
and the thread that is to tell stands still. Here whoever tells takes no lock at all.
"""

from __future__ import annotations

import threading
from contextlib import suppress


class Latch:
    """Something that happens once, for other threads to wait for."""

    __slots__ = ("_happened", "_waiting")

    def __init__(self) -> None:
        self._happened = False
        self._waiting: list[threading.Lock] = []

    def set(self) -> None:
        """Say that it has happened; twice is once."""
        self._happened = True
        while self._waiting:
            with suppress(IndexError, RuntimeError):  # somebody has just stopped waiting
                self._waiting.pop().release()

    def is_set(self) -> bool:
        """Whether it has happened."""
        return self._happened

    def wait(self, timeout: float | None = None) -> bool:
        """Wait for it; return False if `timeout` seconds pass first."""
        if self._happened:
            return True
        lock = threading.Lock()
        lock.acquire()
        self._waiting.append(lock)
        try:
            if not self._happened:  # else it may have been said before we were in the list
                lock.acquire(timeout=-1 if timeout is None else max(0.0, timeout))
        finally:
            with suppress(ValueError):  # it is out of the list
                self._waiting.remove(lock)
        return self._happened
