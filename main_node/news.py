"""Events on their way from whoever tells them to the router's thread, which keeps them."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

from protocol.machine.chronicle import Chronicle
from protocol.wire.limits import EVENTS_TOLD

#: Where so many wait, the thread is woken, though nobody follows.
MANY = EVENTS_TOLD // 16


class News:
    """Takes events from any thread, without a lock: a signal's handler may tell some, too.

    Where the router's thread is behind, the oldest are dropped, and counted.

    Args:
        chronicle: of the router's thread.
        wake: has that thread `take`, soon.
        most: how many may wait.
    """

    def __init__(
        self, chronicle: Chronicle, wake: Callable[[], object], most: int = EVENTS_TOLD
    ) -> None:
        self._chronicle = chronicle
        self._wake = wake
        self._most = most
        self._waiting: deque[bytes] = deque()
        self._dropped: deque[None] = deque()  # one for each
        self._woken = False

    def put(self, packed: bytes) -> None:
        """Tell an event; from any thread."""
        self._waiting.append(packed)
        if len(self._waiting) > self._most:
            self._drop()
        wanted = self._chronicle.followed or len(self._waiting) >= MANY
        if wanted and not self._woken:
            self._woken = True
            self._wake()

    def _drop(self) -> None:
        try:
            self._waiting.popleft()
        except IndexError:  # taken meanwhile
            return
        self._dropped.append(None)

    def take(self) -> None:
        """Keep what was told; in the router's thread, at each turn."""
        if not self._waiting:
            return
        self._woken = False  # first: what is told from here on wakes again
        for _ in range(len(self._waiting)):
            try:
                packed = self._waiting.popleft()
            except IndexError:  # dropped meanwhile
                return
            if self._dropped:
                self._chronicle.lose(self._count_dropped())
            self._chronicle.put(packed)

    def _count_dropped(self) -> int:
        count = len(self._dropped)
        for _ in range(count):
            self._dropped.popleft()
        return count
