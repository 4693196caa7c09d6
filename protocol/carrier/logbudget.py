"""How much is logged of others: so many lines, and so many bytes, in a minute."""

from __future__ import annotations

import math

from ..wire.limits import LOG_SECONDS


class LogBudget:
    """Lines and bytes that may be logged, filled up each minute.

    Args:
        lines, nbytes: in a minute.

    Attributes:
        left_out: lines that there was no room for in this minute.
    """

    __slots__ = ("_left", "_most", "_until", "left_out")

    def __init__(self, lines: int, nbytes: int) -> None:
        self._most = (lines, nbytes)
        self._left = self._most
        self._until = -math.inf
        self.left_out = 0

    def take(self, nbytes: int, now: float) -> bool:
        """Take room for a line of so many bytes; return False where there is none left."""
        if now >= self._until:
            self._left, self._until, self.left_out = self._most, now + LOG_SECONDS, 0
        lines, left = self._left
        if lines < 1 or left < nbytes:
            self.left_out += 1
            return False
        self._left = lines - 1, left - nbytes
        return True
