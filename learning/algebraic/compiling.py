"""Compiling the kernels before they are used: once on this machine, by one process."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from importlib.metadata import version
from pathlib import Path

import numpy as np
from filelock import FileLock, Timeout

from . import kernels
from .course import Course, embedded
from .embedding import ImageEmbedding

#: Loading kernels that have been compiled before takes a fraction of this.
_LOADING_SECONDS = 2.0
#: Whoever has compiled for so long was stopped, and is not waited for.
_COMPILING_SECONDS = 120.0


def prepare(say: Callable[[str], object]) -> None:
    """Compile the kernels, or load them if that has been done, by learning something tiny.

    Args:
        say: told that it takes a while, where it does.
    """
    note = threading.Timer(
        _LOADING_SECONDS, say,
        ["compiling the algebraic learner's inner loops; once on this machine, some 15 s"],
    )  # fmt: skip
    note.daemon = True
    note.start()
    try:
        with _one_at_a_time():
            embedding = ImageEmbedding(1, 2)
            terms = embedded(embedding, 2, np.array([[[0, 0]], [[0, 255]], [[255, 0]]], np.uint8))
            labels = np.array([0, 1, 1])
            course = Course(embedding, 2, seed=0)
            list(course.learn(terms, labels, 2, (terms, labels)))
            course.model(terms, labels)
    finally:
        note.cancel()


@contextmanager
def _one_at_a_time() -> Iterator[None]:
    """Have one process compile what is not compiled yet: the others wait, and load what it made.

    Numba itself has each compile everything. Where nothing can be kept, or locked, so do we.
    """
    kept = kernels.cross.stats.cache_path
    source = Path(kernels.__file__).stat()
    now = f"{source.st_mtime_ns} {source.st_size} {version('numba')}\n".encode()
    done = Path(kept or "") / "kernels.compiled"
    lock = FileLock(done.with_name("kernels.lock"), timeout=_COMPILING_SECONDS)
    with suppress(OSError, Timeout):
        if kept is not None and not (done.exists() and done.read_bytes() == now):
            done.parent.mkdir(parents=True, exist_ok=True)
            lock.acquire()
    try:
        yield
        if lock.is_locked:
            with suppress(OSError):
                done.write_bytes(now)
    finally:
        lock.release()
