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
from dataclasses import dataclass

from .limits import CHUNK_BYTES, LEAST_WINDOW, WINDOW

#: A request is answered, all of it, within so long,
QUEUE_SECONDS = 0.25
#: or within so many times what the first, small one took: a line may be long.
STRETCH = 1.5
#: What may be asked for at first: it shows how long the line is.
FIRST_WINDOW = 1
#: More is asked for where that part of the window was under way and all went well.
FULL = 0.75


@dataclass(frozen=True, slots=True)
class _Mark:
    """A request: bytes asked for by then, and of it; whether the window was full; when."""

    until: int
    nbytes: int
    full: bool
    asked_at: float


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
        self._asked = self._got = 0  # bytes so far
        self._marks: deque[_Mark] = deque()

    def ask(self, nbytes: int, now: float) -> None:
        """So many bytes are asked for."""
        self._asked += nbytes
        full = self._asked - self._got >= FULL * self.window * CHUNK_BYTES
        self._marks.append(_Mark(self._asked, nbytes, full, now))

    def get(self, nbytes: int, now: float) -> None:
        """So many of them are here: they come in the order in which they were asked for."""
        self._got += nbytes
        while self._marks and self._marks[0].until <= self._got:
            mark = self._marks.popleft()
            if mark.nbytes >= CHUNK_BYTES:
                self._learn(mark, now)

    def restart(self) -> None:
        """What was asked for and is not here does not come: begin anew, carefully."""
        self._marks.clear()
        self._asked = self._got = 0
        self.window = min(self.window, LEAST_WINDOW)

    def _learn(self, mark: _Mark, now: float) -> None:
        """Set the window by how long a request took."""
        took = now - mark.asked_at
        first = self._fastest == math.inf
        self._fastest = min(self._fastest, took)
        target = max(QUEUE_SECONDS, STRETCH * self._fastest)
        queued, room = took - self._fastest, target - self._fastest
        window = self.window
        if first:  # so many chunks take no longer, one behind the other
            window = int(QUEUE_SECONDS / max(took, 1e-6) * mark.nbytes / CHUNK_BYTES)
        elif mark.asked_at <= self._changed_at:  # not all that may be under way was before it
            return
        elif took > target:
            window = int(window * max(target / took, 0.25))
        elif not mark.full:
            return
        elif queued < room / 4:
            window *= 2
        elif queued < room * 0.8:
            window += max(1, window // 16)
        window = max(min(window, WINDOW), LEAST_WINDOW)
        if window != self.window:
            self.window, self._changed_at = window, now
