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
#: or within so many times what it takes on a line that carries nothing else, which may be long, but
#: no more than so long beyond that: it may have been others' queue.
STRETCH = 1.5
#: Bytes that may be under way on a slow line, and at first, to see how long it is.
LEAST, FIRST = LEAST_WINDOW * CHUNK_BYTES, 1
#: More is asked for where that part of the window was under way and all went well.
FULL = 0.75
#: How long a line is, is found out anew this often at most; and it is not believed to have become
#: longer than so many times what it was, or than this: others' requests may be under way.
MEASURE_SECONDS, LONGER, LONGER_SECONDS = 10.0, 2, 0.4
#: Nor while this side sends: requests wait behind that.
QUIET_SECONDS = 5.0


@dataclass(frozen=True, slots=True)
class _Mark:
    """A request.

    Args:
        until: bytes asked for by then.
        nbytes: of it.
        full: whether the window was full.
        alone: whether nothing else was under way.
        asked_at: when.
    """

    until: int
    nbytes: int
    full: bool
    alone: bool
    asked_at: float


class Flow:
    """What may be under way over one connection.

    Attributes:
        window: bytes; where nothing is under way, one chunk may be asked for whatever it is.
    """

    __slots__ = (
        "_asked", "_changed_at", "_crossed_at", "_fastest", "_got", "_longest", "_marks",
        "_measured_at", "window",
    )  # fmt: skip

    def __init__(self) -> None:
        self.window = FIRST
        self._fastest = self._longest = math.inf
        self._changed_at = self._measured_at = self._crossed_at = -math.inf
        self._asked = self._got = 0  # bytes so far
        self._marks: deque[_Mark] = deque()

    def ask(self, nbytes: int, under_way: int, now: float) -> None:
        """So many bytes are asked for, beside so many that are under way."""
        if not under_way:  # what was given up, and did not come, is not waited for
            self._got = self._asked
            self._marks.clear()
        self._asked += nbytes
        full = under_way + nbytes >= FULL * self.window
        self._marks.append(_Mark(self._asked, nbytes, full, not under_way, now))

    def get(self, nbytes: int, now: float) -> None:
        """So many of them are here: they come in the order in which they were asked for."""
        self._got += nbytes
        while self._marks and self._marks[0].until <= self._got:
            self._learn(self._marks.popleft(), now)

    def cross(self, now: float) -> None:
        """Something large goes the other way."""
        self._crossed_at = now

    def restart(self, under_way: int) -> None:
        """So many bytes are asked for once more, maybe over another line: learn nothing of them."""
        self._marks.clear()
        self._asked, self._got = under_way, 0
        self._fastest = self._longest = math.inf
        self.window = FIRST

    def _learn(self, mark: _Mark, now: float) -> None:
        """Set the window by how long a request took."""
        took = now - mark.asked_at
        window = self.window
        if self._fastest == math.inf:
            if not mark.alone:
                return
            self._fastest, self._measured_at = min(took, self._longest), now
            if self._longest == math.inf:
                self._longest = max(LONGER * took, LONGER_SECONDS)
            # So many bytes take no longer, one behind the other.
            window = int(QUEUE_SECONDS / max(took, 1e-6) * mark.nbytes)
        else:
            self._fastest = min(self._fastest, took)
            stretched = min((STRETCH - 1) * self._fastest, QUEUE_SECONDS)
            target = max(QUEUE_SECONDS, self._fastest + stretched)
            queued, room = took - self._fastest, target - self._fastest
            if mark.asked_at <= self._changed_at:  # not all that may be under way was before it
                return
            if took > target:
                due = max(self._measured_at + MEASURE_SECONDS, self._crossed_at + QUIET_SECONDS)
                if window == LEAST and now > due:
                    # It is not what is under way from here that makes it slow: another line.
                    self._fastest, self.window = math.inf, FIRST
                    return
                window = int(window * max(target / took, 0.25))
            elif not mark.full:
                return
            elif queued < room / 4:
                window *= 2
            elif queued < room * 0.8:
                window += max(CHUNK_BYTES, window // 16)
        window = max(min(window, WINDOW * CHUNK_BYTES), LEAST)
        if window != self.window:
            self.window, self._changed_at = window, now
