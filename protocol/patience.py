"""How much noise of one peer is borne: what it says that serves nobody."""

from __future__ import annotations

from .limits import NOISE_BURST, NOISE_PER_SECOND


class Patience:
    """So much at once, so much a second, and more for who is of use.

    Args:
        now: the time.
        burst: so much at once.
    """

    __slots__ = ("_at", "_burst", "_left")

    def __init__(self, now: float, burst: float = NOISE_BURST) -> None:
        self._left = self._burst = burst
        self._at = now

    def bear(self, noise: float, now: float) -> bool:
        """Count noise, or, below zero, what was of use; return whether it can be borne."""
        rested = self._left + NOISE_PER_SECOND * (now - self._at)
        self._left, self._at = min(rested, self._burst) - noise, now
        return self._left >= 0
