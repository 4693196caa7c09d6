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
import time
from collections.abc import Callable
from concurrent.futures import Future, as_completed, wait
from concurrent.futures import TimeoutError as FutureTimeout  # its own class before 3.11
from concurrent.futures._base import _AcquireFutures
from types import FrameType
from typing import Any, NamedTuple, cast

from protocol import JobSolutionDataType
from protocol.machine.effects import Accept, Fail

from .errors import JobFailed

#: Where the standard library takes the locks of futures, of whichever.
_FILE = Future.cancel.__code__.co_filename
_WAITS = (wait.__code__, as_completed.__code__)
_SLEEPS = threading.Event.wait.__code__
#: Who waits for the lock looks this often whether somebody holds it for nothing.
_LOOK_SECONDS = 0.05
_YIELD_SECONDS = 0.001
_OWNER = re.compile(r"owner=(\d+)")


def _inside(frame: FrameType | None) -> bool:
    """Whether who is at this frame may hold the lock by right."""
    inner: FrameType | None = None
    while frame is not None:
        code = frame.f_code
        if code.co_filename == __file__:
            return True
        if code in _WAITS:
            if inner is None or inner.f_code is not _SLEEPS:
                return True
        elif code.co_filename == _FILE and isinstance(
            frame.f_locals.get("self"), JobFuture | _AcquireFutures
        ):
            return True
        inner, frame = frame, frame.f_back
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
        self._wanted = False  # whether somebody has waited for it

    def acquire(self, blocking: bool = True) -> bool:
        """Take the lock; return False where somebody has it and `blocking` is false."""
        if self._try(blocking=False):
            return True
        if not blocking:
            return self._replace() and self._try(blocking=False)
        while True:
            self._wanted = True
            if self._try(blocking=True):
                return True
            self._replace()

    def _try(self, blocking: bool) -> bool:
        real = self._real
        if not real.acquire(blocking, _LOOK_SECONDS if blocking else -1):
            return False
        if real is not self._real:  # another one stands in its place by now
            real.release()
            return False
        self._turn += 1
        return True

    def release(self) -> None:
        """Give the lock back, and let others have it who wait."""
        self._real.release()
        if self._wanted and not self._is_owned():
            self._wanted = False
            time.sleep(_YIELD_SECONDS)  # whoever takes it again at once would keep it for ever

    def _replace(self) -> bool:
        """Put another lock in the place of one that is held for nothing; return whether it is."""
        real = self._real
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
        if _LOCK._is_owned():
            _LOCK.give_back(sys._getframe(1).f_back)
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

    #: Called with it, a source that its job needs and that nobody who is here can reach, and why.
    on_unreachable: Callable[[JobFuture, str, str], object] | None = None

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
