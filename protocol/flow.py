"""How much of what one side asks for may be on its way: what the line carries in a moment.

Whatever is under way stands in a queue somewhere, in a router at the slow end of a line say, and
everything else that is said waits behind it: heartbeats, and small jobs. So no more is asked for
than arrives within `QUEUE_SECONDS`, measured by how long each request takes to be answered, on
any line: half a second's wait is too long, and half a megabyte too much on one and too little on
another. (As LEDBAT does, RFC 6817, but for the side that receives.)
"""

from __future__ import annotations

import math
from collections import deque

from .limits import LEAST_WINDOW, WINDOW

#: A request is answered, all of it, within so long,
QUEUE_SECONDS = 0.25
#: or within so many times what the first, small one took: a line may be long.
STRETCH = 1.5
#: What may be asked for at first: it shows how long the line is.
FIRST_WINDOW = 1


class Flow:
    """What may be under way over one connection.

    Attributes:
        window: chunks.
    """

    __slots__ = ("_asked", "_changed_at", "_fastest", "_got", "_marks", "window")

    def __init__(self) -> None:
        self.window = FIRST_WINDOW
        self._fastest = math.inf
        self._changed_at = -math.inf
        self._asked = self._got = 0  # chunks so far
        self._marks: deque[tuple[int, float]] = deque()  # chunks asked for by then, and when

    def ask(self, chunks: int, now: float) -> None:
        """So many chunks are asked for."""
        self._asked += chunks
        self._marks.append((self._asked, now))

    def get(self, chunks: int, now: float) -> None:
        """So many of them are here: they come in the order in which they were asked for."""
        self._got += chunks
        while self._marks and self._marks[0][0] <= self._got:
            _, asked_at = self._marks.popleft()
            self._learn(now - asked_at, asked_at, now)

    def restart(self) -> None:
        """What was asked for and is not here does not come: begin anew, carefully."""
        self._marks.clear()
        self._asked = self._got = 0
        self.window = min(self.window, LEAST_WINDOW)

    def _learn(self, took: float, asked_at: float, now: float) -> None:
        first = self._fastest == math.inf
        self._fastest = min(self._fastest, took)
        target = max(QUEUE_SECONDS, STRETCH * self._fastest)
        queued, room = took - self._fastest, target - self._fastest
        window = self.window
        if first:  # so many take no longer, one behind the other
            window = int(QUEUE_SECONDS / max(took, 1e-6))
        elif asked_at <= self._changed_at:  # it had not all that may be under way before it
            return
        elif queued < room / 4:
            window *= 4
        elif queued < room * 0.8:
            window += max(1, window // 16)
        elif took > target:
            window = int(window * max(target / took, 0.25))
        window = max(min(window, WINDOW), LEAST_WINDOW)
        if window != self.window:
            self.window, self._changed_at = window, now
