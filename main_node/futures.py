"""Futures of jobs: the standard library's, of which a node may hold thousands.

A signal's handler that raises can end a thread's work at any moment, in the middle of
`concurrent.futures.wait` too: then a lock is never given back, and an event never set. So the lock
of the futures is taken from a thread that holds it and is nowhere inside of a future any more; and
whoever waits is told by a thread that can be replaced (`deliveries.py`).
"""

from __future__ import annotations

import re
import sys
import threading
from collections.abc import Callable
from concurrent.futures import Future
from concurrent.futures import TimeoutError as FutureTimeout  # its own class before 3.11
from types import FrameType
from typing import Any, NamedTuple, cast

from protocol import JobSolutionDataType
from protocol.effects import Accept, Fail

from .errors import JobFailed

#: Whoever holds the lock by right is inside of one of these files.
_LOCKING = frozenset([__file__, Future.cancel.__code__.co_filename])
#: Who waits for the lock looks this often whether somebody holds it for nothing.
_LOOK_SECONDS = 0.05
_OWNER = re.compile(r"owner=(\d+)")


def _inside(frame: FrameType | None) -> bool:
    """Whether a frame, or one of its callers', is inside of a future."""
    while frame is not None:
        if frame.f_code.co_filename in _LOCKING:
            return True
        frame = frame.f_back
    return False


def _owner(real: Any) -> int:
    """Return which thread holds a lock; 0: none."""
    found = _OWNER.search(repr(real))
    return 0 if found is None else int(found[1])


class FutureLock:
    """A re-entrant lock that is taken from who holds it for nothing, as a signal has left it."""

    def __init__(self) -> None:
        self._real = threading.RLock()
        self._replacing = threading.Lock()
        self._turn = 0  # how often it was taken

    def acquire(self, blocking: bool = True) -> bool:
        """Take the lock; return False where somebody has it and `blocking` is false."""
        while True:
            real = self._real
            if real.acquire(blocking=False) or (blocking and real.acquire(timeout=_LOOK_SECONDS)):
                if real is self._real:
                    self._turn += 1
                    return True
                real.release()  # another one stands in its place by now
            elif not self._replace(real) and not blocking:
                return False

    __enter__ = acquire

    def __exit__(self, *exc: object) -> None:
        self.release()

    def release(self) -> None:
        """Give the lock back."""
        self._real.release()

    def _replace(self, real: Any) -> bool:
        """Put another lock in the place of one that is held for nothing; return whether it is."""
        turn, owner = self._turn, _owner(real)
        if owner == 0:  # free by now
            return True
        # Between two looks the holder may give it back, and take it again: then its turn is
        # another one, or it is seen inside by the second.
        if any(_inside(sys._current_frames().get(owner)) or _owner(real) != owner for _ in "12"):
            return False
        if turn == self._turn:
            with self._replacing:
                if self._real is real:
                    self._real = threading.RLock()
        return True

    def give_back(self, frame: FrameType | None) -> None:
        """Give back what a signal has left this thread with, where `frame` is inside no future."""
        if not _inside(frame):
            while self._is_owned():
                self.release()

    # What a condition variable needs.

    def _is_owned(self) -> bool:
        return bool(self._real._is_owned())  # type: ignore[attr-defined]

    def _release_save(self) -> int:
        count: int = self._real._release_save()[0]  # type: ignore[attr-defined]
        return count

    def _acquire_restore(self, count: int) -> None:
        for _ in range(count):
            self.acquire()


#: One for all futures of this process: `wait` takes those that it is given in any order.
_LOCK = FutureLock()


class _LazyCondition:
    """A condition variable that is made when somebody waits for it.

    A `threading.Condition` is eleven objects, a future nearly all of that: with thousands of jobs
    in hand Python's garbage collector would take a fifth of the main node's time.
    """

    __slots__ = ("_real",)

    def __init__(self) -> None:
        self._real: threading.Condition | None = None

    def __enter__(self) -> bool:
        return _LOCK.acquire()

    def __exit__(self, *exc: object) -> None:
        _LOCK.release()

    def acquire(self) -> bool:
        """Take the lock, as `wait` and `as_completed` do, once for each of their futures.

        Before the first one it can't be held, unless by what a signal has left of an earlier wait:
        with that, this one would wait for ever.
        """
        if _LOCK._is_owned():
            taking = sys._getframe(1)  # the loop over the futures; its caller waits
            if taking.f_back is not None and self._is_first(taking.f_locals.get("self")):
                _LOCK.give_back(taking.f_back.f_back)
        return _LOCK.acquire()

    def _is_first(self, taking: Any) -> bool:
        """Return whether no future of ours stands before this one in those that are taken."""
        for future in getattr(taking, "futures", ()):
            if type(future._condition) is _LazyCondition:
                return future._condition is self
        return False

    def release(self) -> None:
        """Give the lock back."""
        _LOCK.release()

    def wait(self, timeout: float | None = None) -> bool:
        """Wait to be notified; return False after `timeout` seconds."""
        if self._real is None:
            self._real = threading.Condition(cast(Any, _LOCK))
        return self._real.wait(timeout)

    def notify_all(self) -> None:
        """Wake everybody who waits."""
        if self._real is not None:
            self._real.notify_all()


class Cancelled(NamedTuple):
    """What has come of a job: its user does not want it any more."""


Outcome = Accept | Fail | Cancelled | Exception


class ToTell(NamedTuple):
    """Who is to be told of a future that is done.

    Args:
        waiters: of `wait` and `as_completed`; may hang, as a signal has left them.
        callbacks: users' code.
    """

    waiters: list[Any]
    callbacks: list[Callable[[Any], object]]


_NOBODY = ToTell([], [])


class JobFuture(Future[JobSolutionDataType]):
    """A job's solution, now or later.

    `result(timeout)` raises `JobFailed` with the story where the job failed for good. What was
    added with `add_done_callback` is called from the thread that calls listeners.

    Args:
        job_id: of the job.
        cancel: told once that it is cancelled; must not wait for anything.
        explain: returns why it may not be solved yet.
    """

    def __init__(
        self,
        job_id: int,
        cancel: Callable[[JobFuture], object],
        explain: Callable[[], str] = str,
    ) -> None:
        # What Future.__init__ does, but for the condition.
        self._condition = cast(threading.Condition, _LazyCondition())
        self._state = "PENDING"
        self._result = self._exception = None
        self._waiters: list[Any] = []
        self._done_callbacks: list[Any] = []
        self.job_id = job_id
        #: The computing node's id, once solved.
        self.server_id = ""
        self.name = ""
        self._cancel_job, self._explain = cancel, explain
        self._told = False

    def result(self, timeout: float | None = None) -> JobSolutionDataType:
        """Wait for the solution, and return it.

        Raises:
            JobFailed: it has failed for good.
            TimeoutError: it is not solved after `timeout` seconds; it says why, as far as is known.
        """
        try:
            return super().result(timeout)
        except FutureTimeout:
            if self.done():
                raise
            why = self._explain()
            raise FutureTimeout(
                f"job {self.job_id} is not solved after {timeout:g} s{why}"
            ) from None

    def cancel(self) -> bool:
        """Give the job up, wherever it is; return False if it was solved already."""
        with self._condition:
            if self._state == "PENDING":
                # First: whatever a signal leaves undone here, is done there.
                self._cancel_job(self)
                self._state = "CANCELLED_AND_NOTIFIED"
                self._condition.notify_all()
            return self.cancelled()

    def settle(self, outcome: Outcome) -> ToTell:
        """Take what has come of the job; who waits for its result goes on.

        Returns:
            Who is to be told, once.
        """
        with self._condition:
            if self._state == "PENDING":
                self._become(outcome)
                self._condition.notify_all()
            if self._told:
                return _NOBODY
            self._told = True
            return ToTell(list(self._waiters), self._done_callbacks)

    def settle_at_once(self, outcome: Outcome) -> ToTell | None:
        """Do that, if nobody is in the way and nobody has to be told who may hang."""
        if not _LOCK.acquire(blocking=False):
            return None
        try:
            return None if self._waiters else self.settle(outcome)
        finally:
            _LOCK.release()

    def _become(self, outcome: Outcome) -> None:
        if isinstance(outcome, Cancelled):
            self._state = "CANCELLED_AND_NOTIFIED"
            return
        if isinstance(outcome, Accept):
            self.server_id, self._result = outcome.node, outcome.solution
        elif isinstance(outcome, Fail):
            self._exception = JobFailed(outcome.job, outcome.story, self.name)
        else:
            self._exception = outcome
        self._state = "FINISHED"

    def tell(self, waiter: Any) -> None:
        """Tell one who waits in `wait` or `as_completed`; it may hang."""
        if self.cancelled():
            waiter.add_cancelled(self)
        elif self._exception is None:
            waiter.add_result(self)
        else:
            waiter.add_exception(self)
