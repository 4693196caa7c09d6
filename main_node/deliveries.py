"""How what comes of jobs reaches those who wait for it, in two threads.

One settles futures and tells who waits in `concurrent.futures.wait`; it runs no user's code, but
what a signal has left of a wait may hold it up for ever, and then another takes its place. The
other runs users' code, one thing at a time, and may take as long as that likes.
"""

from __future__ import annotations

import logging
import queue
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import partial
from typing import TypeVar

from protocol.wire.entry import Entry

from .futures import JobFuture, Outcome, ToTell

log = logging.getLogger("mnist.main")

T = TypeVar("T")
#: Who takes so long to be told that he may go on hangs.
STUCK_SECONDS = 1.0
#: The end waits so long for users' code that takes its time, and then for nobody.
DELIVERY_SECONDS = 5.0


class _Teller(threading.Thread):
    """Settles futures and tells who waits, until one of these hangs.

    Args:
        owner: takes the callbacks.
        results: what is to be settled; None: the end.
    """

    def __init__(
        self, name: str, owner: Deliveries,
        results: queue.SimpleQueue[tuple[JobFuture, Outcome] | None],
    ) -> None:  # fmt: skip
        super().__init__(name=f"{name} results", daemon=True)
        self._owner, self._results = owner, results
        self._telling_since = 0.0
        self._replaced = False
        #: Those that are to be told after the one that hangs.
        self._left: list[Callable[[], None]] = []

    def run(self) -> None:
        """Work until the end, or until another does."""
        while (result := self._results.get()) is not None:
            future, outcome = result
            told = future.settle(outcome)
            self._owner.call_back(future, told)
            self._tell([partial(future.tell, waiter) for waiter in told.waiters])
            if self._replaced:
                return
        if self._replaced:  # the end is the other one's
            self._results.put(None)

    def _tell(self, tells: list[Callable[[], None]]) -> None:
        if self._replaced:  # it hung a moment too long, and had taken one more
            _tell_apart(tells)
            return
        self._left = tells
        while self._left and not self._replaced:
            tell = self._left.pop()
            self._telling_since = time.monotonic()
            tell()
            self._telling_since = 0.0

    def replaced(self, now: float) -> list[Callable[[], None]] | None:
        """Where it hangs, have it end, and return what it has left undone."""
        since = self._telling_since  # once: it may be over at any moment
        if since and now - since > STUCK_SECONDS:
            self._replaced = True
            return self._left
        return None


class Deliveries:
    """Takes what comes of jobs to futures, waiters and users' code.

    Args:
        name: of the node.
    """

    def __init__(self, name: str) -> None:
        self._name = name
        self._results: queue.SimpleQueue[tuple[JobFuture, Outcome] | None] = queue.SimpleQueue()
        self._calls: queue.SimpleQueue[Callable[[], object] | None] = queue.SimpleQueue()
        self._over = False
        self._replacing = threading.Lock()
        self._teller = _Teller(name, self, self._results)
        self._caller = threading.Thread(target=self._call_all, name=f"{name} users", daemon=True)

    def start(self) -> None:
        """Begin."""
        self._teller.start()
        self._caller.start()

    def settle(self, future: JobFuture, outcome: Outcome) -> None:
        """Settle a future, and tell everybody; never waits for anybody."""
        told = future.settle_at_once(outcome)
        if told is not None:
            self.call_back(future, told)
            return
        self._results.put((future, outcome))
        if self._over:
            self._settle_rest()

    def settle_soon(self, future: JobFuture, outcome: Outcome) -> None:
        """Settle a future in another thread; safe wherever a signal may come."""
        self._results.put((future, outcome))
        if self._over:
            self._settle_rest()

    def call_back(self, future: JobFuture, told: ToTell) -> None:
        """Have the callbacks of a future called."""
        for callback in told.callbacks:
            self.call(partial(callback, future))

    def call(self, call: Callable[[], object]) -> None:
        """Run users' code in its thread; where that has ended, here."""
        self._calls.put(call)
        if self._over:
            self._call_rest()

    def look(self, now: float) -> None:
        """Replace the thread that tells if it hangs; to be called now and then."""
        with self._replacing:
            left = self._teller.replaced(now)
            if left is None:
                return
            log.info(Entry("waiter.hangs", "left by a signal; going on without it"))
            self._teller = _Teller(self._name, self, self._results)
            self._teller.start()
            _tell_apart(left)

    def close(self) -> None:
        """Tell and call all that is left, and wait a little for that."""
        until = time.monotonic() + DELIVERY_SECONDS
        self._results.put(None)
        while self._teller.is_alive() and time.monotonic() < until:
            self._teller.join(0.1)
            self.look(time.monotonic())
        self._calls.put(None)
        if self._caller.is_alive() and threading.current_thread() is not self._caller:
            self._caller.join(DELIVERY_SECONDS)

    def _call_all(self) -> None:
        while (call := self._calls.get()) is not None:
            _run(call)
        self._over = True
        self._settle_rest()
        self._call_rest()

    def _settle_rest(self) -> None:
        """Settle what has come after the end; who waits may hang, but then not here."""
        for future, outcome in _rest(self._results):
            told = future.settle(outcome)
            self.call_back(future, told)
            _tell_apart([partial(future.tell, waiter) for waiter in told.waiters])

    def _call_rest(self) -> None:
        for call in _rest(self._calls):
            _run(call)


def _rest(left: queue.SimpleQueue[T | None]) -> Iterator[T]:
    """Yield what is left in a queue."""
    with suppress(queue.Empty):
        while True:
            each = left.get_nowait()
            if each is not None:
                yield each


def _tell_apart(tells: list[Callable[[], None]]) -> None:
    """Tell some who wait, each in a thread of its own, which may hang."""
    for tell in tells:
        threading.Thread(target=tell, name="results", daemon=True).start()


def _run(call: Callable[[], object]) -> None:
    try:
        call()
    except BaseException:  # sys.exit() too: the others are still to be told
        log.exception(Entry("listener.raised"))
