"""Lets in fewer of the connections of a host that connects and goes, over and over.

Each costs ZeroMQ, and the router, some hundred microseconds, and whoever makes them next to
nothing. So where a host makes too many, its connections are drawn by lot, by the system, before
ZeroMQ hears of them; the others begin again after a second. Who goes by a relay or has another
address is not touched.
"""

from __future__ import annotations

from collections import Counter

from ..wire.limits import MUTE_PER_SECOND
from . import traffic

#: It is looked for those who come and go this often,
LOOK_SECONDS = 0.05
#: and after so long without too many of them twice as many are let in.
EASE_SECONDS = 0.25
#: At least this part is let in.
LEAST_PART = 1 / 256
_MOST = MUTE_PER_SECOND * LOOK_SECONDS


class Doorstep:
    """Counts connections that end without a word; `look` is for a thread of its own.

    Attributes:
        listener: descriptor of the socket that they come to, once it is known.
    """

    def __init__(self) -> None:
        self.listener = -1
        self._went: Counter[str] = Counter()
        self._noisy: set[str] = set()
        self._part = 1.0
        self._look_at = self._ease_at = 0.0

    def went(self, host: str) -> None:
        """A connection of a host (or of one that is not known, "") has ended without a word."""
        self._went[host] += 1

    def look(self, now: float) -> list[str]:
        """Let in fewer, or more again; return hosts that have begun to make too many."""
        if now < self._look_at:
            return []
        self._look_at = now + LOOK_SECONDS
        # A copy: the other thread may be counting in the old one at this very moment.
        old, self._went = self._went, Counter()
        went = Counter(dict(old))
        # Who is gone before it is looked at has no address any more. It is one of the noisiest.
        unknown = went.pop("", 0)
        for host, _ in went.most_common(1):
            went[host] += unknown
        new = [host for host, count in went.items() if count > _MOST and host not in self._noisy][
            : traffic.MOST_HOSTS - len(self._noisy)
        ]
        self._noisy.update(new)
        most = max((went[host] for host in self._noisy), default=0)
        if most > _MOST:
            self._let_in(max(LEAST_PART, self._part * _MOST / most))
            self._ease_at = now + EASE_SECONDS
        elif self._noisy and now > self._ease_at:
            self._let_in(self._part * 2)
            self._ease_at = now + EASE_SECONDS
        return new

    def _let_in(self, part: float) -> None:
        self._part = min(1.0, part)
        if self._part < 1:
            traffic.thin(self.listener, self._noisy, self._part)
        else:
            self._noisy.clear()
            traffic.let_all_in(self.listener)
