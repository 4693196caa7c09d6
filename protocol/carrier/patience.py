"""How much noise of one peer is borne: what it says that serves nobody."""

from __future__ import annotations

from collections import OrderedDict

from ..wire.limits import (
    MAX_HOSTS,
    NOISE_BURST,
    NOISE_PER_SECOND,
    OWN_NOISE_BURST,
    OWN_NOISE_PER_SECOND,
)


class Pool:
    """What those who come from one host, or with one key, may say beyond their own share.

    So a hundred connections of one cost little more than one of them does.

    Args:
        now: the time.
    """

    __slots__ = ("_at", "_left")

    def __init__(self, now: float) -> None:
        self._left = NOISE_BURST
        self._at = now

    def bear(self, noise: float, now: float) -> bool:
        """Count noise; return whether it can be borne."""
        rested = self._left + NOISE_PER_SECOND * (now - self._at)
        self._left, self._at = min(rested, NOISE_BURST) - noise, now
        if self._left >= 0:
            return True
        self._left = 0.0
        return False


class Pools:
    """The pool of each host or key; those that were asked for last are kept."""

    def __init__(self) -> None:
        self._pools: OrderedDict[str | bytes, Pool] = OrderedDict()

    def of(self, whose: str | bytes, now: float) -> Pool:
        """Return a host's, or a key's."""
        pool = self._pools.get(whose)
        if pool is None:
            pool = self._pools[whose] = Pool(now)
            if len(self._pools) > MAX_HOSTS:
                self._pools.popitem(last=False)
        self._pools.move_to_end(whose)
        return pool


class Patience:
    """So much at once and a second for each peer; more for who is of use, and from a pool.

    Args:
        now: the time.
        pool: of those that it belongs to.
    """

    __slots__ = ("_at", "_left", "_pool")

    def __init__(self, now: float, pool: Pool) -> None:
        self._left = OWN_NOISE_BURST
        self._at = now
        self._pool = pool

    def bear(self, noise: float, now: float) -> bool:
        """Count noise, or, below zero, what was of use; return whether it can be borne."""
        left = self._left
        if left < OWN_NOISE_BURST:
            left = min(left + OWN_NOISE_PER_SECOND * (now - self._at), OWN_NOISE_BURST)
        left -= noise
        self._at = now
        if left >= 0:
            self._left = left if left < NOISE_BURST else NOISE_BURST
            return True
        self._left = 0.0
        return self._pool.bear(-left, now)
