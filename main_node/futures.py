"""Futures of jobs: the standard library's, of which a node may hold thousands.

Two rules keep them from standing in anybody's way. No user's code runs while their lock is held.
And the thread that keeps the connections never waits for that lock: a signal can end a thread's
work at any moment, in the middle of `concurrent.futures.wait` too, and then it is never given back.
"""

from __future__ import annotations

import logging
import sys
import threading
from collections.abc import Callable
from concurrent.futures import Future
from concurrent.futures import TimeoutError as FutureTimeout  # its own class before 3.11
from functools import partial
from types import FrameType
from typing import Any, cast

from protocol import JobSolutionDataType
from protocol.effects import Accept, Fail

from .errors import JobFailed

log = logging.getLogger("mnist.main")

#: Where the lock is taken.
_LOCKING = frozenset([__file__, Future.cancel.__code__.co_filename])


class FutureLock:
    """The lock of all futures of a node."""

    def __init__(self) -> None:
        self.real = threading.RLock()

    def recover(self) -> None:
        """Give back what a signal has left this thread with.

        Whoever calls a node's method is inside none of a future's, and so holds no lock by right;
        unless he does so in a signal's handler, or a finalizer.
        """
        if self.real._is_owned():  # type: ignore[attr-defined]
            frame: FrameType | None = sys._getframe(1)
            while frame is not None and frame.f_code.co_filename == __file__:  # our own callers
                frame = frame.f_back
            self._give_back(frame)

    def acquire_for_waiting(self, first: Callable[[Any], bool]) -> bool:
        """Take the lock for `wait` or `as_completed`, which take it once for each future.

        Args:
            first: whether this is the first one of those futures. Then a lock that is held is what
                a signal has left of an earlier wait: with it, this one would wait for ever.
        """
        if self.real._is_owned():  # type: ignore[attr-defined]
            taking = sys._getframe(2)  # the loop over the futures; its caller waits
            if taking.f_back is not None and first(taking.f_locals.get("self")):
                self._give_back(taking.f_back.f_back)
        return self.real.acquire()

    def _give_back(self, frame: FrameType | None) -> None:
        """Give the lock back, unless it is held by right, by `frame` or by who called it."""
        while frame is not None:
            if frame.f_code.co_filename in _LOCKING:
                return
            frame = frame.f_back
        while self.real._is_owned():  # type: ignore[attr-defined]
            self.real.release()


class _LazyCondition:
    """A condition variable that is made when somebody waits for it.

    A `threading.Condition` is eleven objects, a future nearly all of that: with thousands of jobs
    in hand Python's garbage collector would take a fifth of the main node's time.

    Args:
        shared: the lock of all futures of a node.
    """

    __slots__ = ("_lock", "_real", "_shared")

    def __init__(self, shared: FutureLock) -> None:
        self._shared, self._lock = shared, shared.real
        self._real: threading.Condition | None = None

    def __enter__(self) -> bool:
        return bool(self._lock.acquire())

    def __exit__(self, *exc: object) -> None:
        self._lock.release()

    def acquire(self) -> bool:
        """Take the lock; `concurrent.futures.wait` does."""
        return self._shared.acquire_for_waiting(self._is_first)

    def _is_first(self, taking: Any) -> bool:
        """Return whether no future of this node stands before this one in those that are taken."""
        for future in getattr(taking, "futures", ()):
            condition = future._condition
            if type(condition) is _LazyCondition and condition._shared is self._shared:
                return condition is self
        return False

    def release(self) -> None:
        """Give the lock back."""
        self._lock.release()

    def wait(self, timeout: float | None = None) -> bool:
        """Wait to be notified; return False after `timeout` seconds."""
        if self._real is None:
            self._real = threading.Condition(self._lock)
        return self._real.wait(timeout)

    def notify_all(self) -> None:
        """Wake everybody who waits."""
        if self._real is not None:
            self._real.notify_all()


class JobFuture(Future[JobSolutionDataType]):
    """A job's solution, now or later.

    `result(timeout)` raises `JobFailed` with the story where the job failed for good. What was
    added with `add_done_callback` is called from the thread that calls listeners.

    Args:
        job_id: of the job.
        cancel: told the job's id when it is cancelled, and what is to be called then.
        lock: of all futures of a node.
        explain: returns why it may not be solved yet.
    """

    def __init__(
        self,
        job_id: int,
        cancel: Callable[[int, Callable[[], None]], None],
        lock: FutureLock | None = None,
        explain: Callable[[], str] = str,
    ) -> None:
        self._shared = lock or FutureLock()
        # What Future.__init__ does, but for the condition.
        self._condition = cast(threading.Condition, _LazyCondition(self._shared))
        self._state = "PENDING"
        self._result = self._exception = None
        self._waiters: list[Any] = []
        self._done_callbacks: list[Any] = []
        self.job_id = job_id
        #: The computing node's id, once solved.
        self.server_id = ""
        self.name = ""
        self._cancel_job, self._explain = cancel, explain
        #: Whether somebody's code runs when it is done; if not, any thread may finish it.
        self.called_back = False

    def result(self, timeout: float | None = None) -> JobSolutionDataType:
        """Wait for the solution, and return it.

        Raises:
            JobFailed: it has failed for good.
            TimeoutError: it is not solved after `timeout` seconds; it says why, as far as is known.
        """
        self._shared.recover()
        try:
            return super().result(timeout)
        except FutureTimeout:
            if self.done():
                raise
            why = self._explain()
            raise FutureTimeout(
                f"job {self.job_id} is not solved after {timeout:g} s{why}"
            ) from None

    def add_done_callback(self, fn: Callable[[Future[JobSolutionDataType]], object]) -> None:
        """Call `fn(future)` when done; at once if it is."""
        self._shared.recover()
        self.called_back = True
        super().add_done_callback(fn)

    def cancel(self) -> bool:
        """Give the job up, wherever it is; return False if it was solved already."""
        self._shared.recover()
        with self._condition:
            if self._state not in ("PENDING", "CANCELLED", "CANCELLED_AND_NOTIFIED"):
                return False
            first = self._state == "PENDING"
            if first:
                self._state = "CANCELLED"
                self._condition.notify_all()
                self.set_running_or_notify_cancel()  # else `wait` would wait for it for ever
        if first:
            self._cancel_job(self.job_id, self._invoke_callbacks)
        return True

    def _invoke_callbacks(self) -> None:
        """Call whoever wants to be called; what they raise is theirs."""
        for callback in self._done_callbacks:
            try:
                callback(self)
            except BaseException:  # SystemExit too: it would end the thread that calls everybody
                log.exception("callback.raised job=%d", self.job_id)

    def settle(self, outcome: Accept | Fail | Exception) -> Callable[[], None]:
        """Take what has come of the job; who waits for its result goes on.

        Returns:
            What tells all the others: those in `concurrent.futures.wait`, and callbacks. It may
            hang, where a signal has left a lock of theirs taken.
        """
        with self._condition:
            if self._state != "PENDING":  # cancelled, maybe at this very moment
                return _nothing
            if isinstance(outcome, Accept):
                self.server_id, self._result = outcome.node, outcome.solution
            elif isinstance(outcome, Fail):
                self._exception = JobFailed(outcome.job, outcome.story, self.name)
            else:
                self._exception = outcome
            self._state = "FINISHED"
            self._condition.notify_all()
            waiters = list(self._waiters)
        return partial(self._tell, waiters)

    def _tell(self, waiters: list[Any]) -> None:
        for waiter in waiters:
            if self._exception is None:
                waiter.add_result(self)
            else:
                waiter.add_exception(self)
        self._invoke_callbacks()

    def settle_at_once(self, outcome: Accept | Fail | Exception) -> bool:
        """Do all of that if it is done without waiting for anybody; return whether so."""
        lock = self._shared.real
        if not lock.acquire(blocking=False):
            return False
        try:
            if self.called_back or self._waiters:
                return False
            self.settle(outcome)
            return True
        finally:
            lock.release()


def _nothing() -> None:
    return
