"""The thread around a state machine: it polls, takes calls from other threads, and keeps time."""

from __future__ import annotations

import logging
import math
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import TimeoutError as FutureTimeout  # its own class before 3.11
from contextlib import contextmanager
from typing import Any, TypeVar

from ..errors import LocalProtocolError
from ..wire.entry import Entry
from .latch import Latch
from .sockets import READABLE, Poller, Waker

T = TypeVar("T")
log = logging.getLogger("mnist.protocol")


class Shell:
    """One thread that owns sockets and a state machine; other threads `call` into it.

    Subclasses override `turn` (work to do after each poll) and `finish` (the last thing done).

    Args:
        name: of the thread.
    """

    def __init__(self, name: str) -> None:
        self.poller = Poller()
        self._waker = Waker()
        self._wakes = self._waker.fileno()
        self.poller.register(self._wakes, READABLE)
        self._calls: deque[Callable[[], object]] = deque()
        self._sleeping = False
        self._ending = False
        self._over = False
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)

    def turn(self, ready: dict[Any, int], now: float) -> float:
        """Do what there is to do; return the moment (monotonic) by which to be called again."""
        raise LocalProtocolError("a shell without a turn")

    def finish(self) -> None:
        """Close what this shell opened; runs in its thread."""

    def broke(self, error: Exception) -> None:
        """Tell whoever waits that this shell has come to a bad end; runs in its thread."""

    def start(self) -> None:
        """Begin to poll."""
        self._thread.start()

    def call_soon(self, call: Callable[[], object], urgent: bool = True) -> None:
        """Run `call` in the shell's thread; it must neither block nor raise.

        Args:
            call: what to run.
            urgent: whether to end the poll for it.
        """
        self._calls.append(call)
        if self._over:
            self._perform_calls()  # nobody else will
        elif urgent and self._sleeping:
            self._sleeping = False
            self._waker.wake()

    def call(self, function: Callable[[], T], timeout: float | None = None) -> T:
        """Run `function` in the shell's thread and return what it returns.

        Args:
            function: what to run; it must not block.
            timeout: seconds to wait for it; None: as long as the thread takes to come to it.

        Raises:
            concurrent.futures.TimeoutError: it did not run within `timeout` seconds.
        """
        done = Latch()
        found: list[T] = []
        raised: list[BaseException] = []

        def run() -> None:
            try:
                found.append(function())
            except BaseException as error:
                raised.append(error)
            done.set()

        if threading.current_thread() is self._thread or self._thread.ident is None:
            return function()
        self.call_soon(run)
        if not done.wait(timeout):
            raise FutureTimeout
        if raised:
            raise raised[0]
        return found[0]

    def end_soon(self) -> None:
        """Finish, and don't wait for it."""
        self._ending = True
        self._waker.wake()

    def end(self, timeout: float | None = 5.0) -> None:
        """Finish and wait for the thread, unless this is it.

        Args:
            timeout: seconds to wait; None: as long as it takes.
        """
        if self._thread.ident is None and not self._ending:  # never started
            self.finish()
            self.discard()
        self._ending = True
        self._waker.wake()
        if self._thread.is_alive() and threading.current_thread() is not self._thread:
            self._thread.join(timeout)

    @contextmanager
    def whole(self, context: Any) -> Iterator[None]:
        """Have a block make what this shell owns; where it raises, nothing is left open.

        Args:
            context: of its sockets.
        """
        try:
            yield
        except BaseException:
            context.destroy(0)
            self.discard()
            raise

    def discard(self) -> None:
        """Give back what a shell that never started holds."""
        self._ending = True
        self._waker.close()

    @property
    def alive(self) -> bool:
        """Whether the thread still polls."""
        return not self._ending

    @property
    def over(self) -> bool:
        """Whether the thread has ended, and what is called runs in the caller's."""
        return self._over

    def _run(self) -> None:
        try:
            due = 0.0
            while not self._ending:
                due = self._turn(due)
            self._perform_calls()
        except Exception as error:
            log.exception(Entry("shell.broken", thread=self._thread.name))
            self._ending = True
            self.broke(error)
        finally:
            try:
                self.finish()
            except Exception:
                log.exception(Entry("shell.unfinished", thread=self._thread.name))
            self._waker.close()
            self._over = True
            self._perform_calls()

    def _turn(self, due: float) -> float:
        self._sleeping = True  # from here on a call wakes the poll
        wait = 0 if self._calls else max(0, math.ceil((due - time.monotonic()) * 1000))
        ready = dict(self.poller.poll(wait))
        self._sleeping = False
        if self._wakes in ready:
            self._waker.drain()
        if self._calls:
            self._perform_calls()
        return self.turn(ready, time.monotonic())

    def _perform_calls(self) -> None:
        for _ in range(len(self._calls)):
            try:
                call = self._calls.popleft()
            except IndexError:  # another thread took it, at the very end
                return
            call()
