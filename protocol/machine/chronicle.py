"""What happens at a main node, event by event, for those who follow: both ends, as state machines.

The main node keeps the last of its events in a ring, each with its number. A watcher says after
which it wants to go on (`Follow`), and is answered once (`Happened`): at once, or when something
comes. So whatever is lost or cut off, it asks again and goes on where it was.

Nothing is kept of a watcher but its last wish, and no events are on their way to it but one answer:
an answer has a receipt, and events come only to who says the last one. Who says another is told the
receipt, without events.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

from ..wire.codec import unpack_event
from ..wire.limits import (
    ANSWER_BYTES,
    ANSWER_EVENTS,
    ANSWERS_BYTES,
    ANSWERS_SECONDS,
    EVENT_COST_BYTES,
    EVENTS_KEPT,
    EVENTS_KEPT_BYTES,
    TOLD_NOISE,
)
from ..wire.messages import Fields, Follow, Happened, Message
from .effects import Effect, Send

#: To one watcher news comes not oftener than this, so that what happens meanwhile travels together;
NEWS_SECONDS = 0.1
#: but what has happened already comes as fast as this.
MORE_SECONDS = 0.02
#: A wish that is not answered is said again after so long: it, or the answer, may be lost.
REPEAT_SECONDS = 3.0


@dataclass(slots=True)
class _Wish:
    receipt: int
    after: int = 0
    most: int = 0
    #: Whether it waits for an answer.
    waits: bool = False
    #: When it may be answered.
    not_before: float = -math.inf


class Chronicle:
    """A main node's end: the last of its events, and who waits for those that come.

    Args:
        log: what this chronicle is called, in all the world.
        receipts: draws numbers above 0 that nobody guesses.
        kept: how many events are kept.
        kept_bytes: how many bytes of them.
    """

    def __init__(
        self,
        log: str,
        receipts: Callable[[], int],
        kept: int = EVENTS_KEPT,
        kept_bytes: int = EVENTS_KEPT_BYTES,
    ) -> None:
        self.log = log
        #: Number of the newest event; they count from 1.
        self.last = 0
        #: When somebody may be answered.
        self.due = math.inf
        self._receipts = receipts
        self._kept, self._kept_bytes = kept, kept_bytes
        self._events: dict[int, bytes] = {}  # by number, without gaps
        self._nbytes = 0
        self._wishes: dict[bytes, _Wish] = {}  # by routing id; who was answered last is last
        self._paused_until = -math.inf

    @property
    def first(self) -> int:
        """Number of the oldest event that is kept, or of the next one if none is."""
        return self.last - len(self._events) + 1

    @property
    def followed(self) -> bool:
        """Whether anybody follows."""
        return bool(self._wishes)

    @property
    def read_by_all(self) -> bool:
        """Whether all who follow have shown that they have read what there is."""
        return all(wish.waits and wish.after >= self.last for wish in self._wishes.values())

    @property
    def heard(self) -> int:
        """How many events those who follow have shown that they have read, all together."""
        return sum(wish.after for wish in self._wishes.values())

    def put(self, packed: bytes) -> None:
        """Keep an event, and forget the oldest where that are too many."""
        self.last += 1
        self._events[self.last] = packed
        self._nbytes += len(packed) + EVENT_COST_BYTES
        while len(self._events) > self._kept or self._nbytes > self._kept_bytes:
            self._nbytes -= len(self._events.pop(self.first)) + EVENT_COST_BYTES
        if self._wishes:
            self.due = self._paused_until

    def lose(self, count: int) -> None:
        """Count events that are lost before they could be kept; those before them are forgotten."""
        self._events.clear()
        self._nbytes = 0
        self.last += count

    def receive(self, peer: bytes, message: Follow, now: float) -> tuple[list[Effect], float]:
        """Hear what a watcher wants; return also how much noise that was."""
        wish = self._wishes.get(peer)
        if wish is None:
            wish = self._wishes[peer] = _Wish(self._receipts())
        after = min(message.after, self.last) if message.log == self.log else 0
        if message.receipt != wish.receipt:
            return [Send(peer, self._answer(after, wish.receipt, 0))], 1.0
        noise = 1.0 if wish.waits else TOLD_NOISE
        wish.after, wish.most, wish.waits = after, min(message.most, ANSWER_BYTES), True
        if after < self.last:
            self.due = min(self.due, max(wish.not_before, self._paused_until))
        return [], noise

    def leave(self, peer: bytes) -> None:
        """Somebody follows no more."""
        self._wishes.pop(peer, None)

    def publish(self, now: float) -> list[Effect]:
        """Answer those who wait for what has happened, each in turn, as much as may be sent now."""
        self.due = math.inf
        effects: list[Effect] = []
        left = ANSWERS_BYTES
        for peer, wish in list(self._wishes.items()):
            if not wish.waits or wish.after >= self.last:
                continue
            if wish.not_before > now or left <= 0:
                self.due = min(self.due, wish.not_before)
                continue
            wish.receipt, wish.waits = self._receipts(), False
            answer = self._answer(wish.after, wish.receipt, wish.most)
            more = answer.first + len(answer.events) <= self.last
            wish.not_before = now + (MORE_SECONDS if more else NEWS_SECONDS)
            left -= sum(map(len, answer.events))
            self._wishes[peer] = self._wishes.pop(peer)
            effects.append(Send(peer, answer))
        if left <= 0:
            self._paused_until = now + ANSWERS_SECONDS
        self.due = max(self.due, self._paused_until)
        return effects

    def _answer(self, after: int, receipt: int, most: int) -> Happened:
        """Return what comes after an event, `most` bytes of it, or one event; 0: nothing."""
        first = number = max(after + 1, self.first)
        events: list[bytes] = []
        while most > 0 and number <= self.last and len(events) < ANSWER_EVENTS:
            most -= len(self._events[number])
            if most < 0 and events:
                break
            events.append(self._events[number])
            number += 1
        lost = first - after - 1
        return Happened(self.log, first, tuple(events), lost, self.last, receipt)


class Happening(NamedTuple):
    """An event at a main node.

    Args:
        number: counts from 1 in each log.
        event: plain values by name, as the main node's program has told them; no terminal may be
            shown their words as they are (`protocol.wire.words.safe_line`).
        missed: how many events just before this one were not kept for so long.
        log: a main node's, from its start to its end.
    """

    number: int
    event: Fields
    missed: int
    log: str

    @property
    def main(self) -> str:
        """Id of the main node."""
        return self.log.rpartition(":")[0]


class Follower:
    """A watcher's end: what happens at one main node, each event once and in order.

    It outlives connections. A main node that has started again has a new log, which begins anew.
    """

    def __init__(self) -> None:
        self._log, self._last = "", 0  # what it has
        self._receipt = 0
        self._sure = False  # whether the log is that of this connection
        self._said: Follow | None = None
        self._said_at = 0.0
        self._waits = False

    def greet(self) -> None:
        """There is a new connection; `say` what to say over it."""
        self._receipt, self._sure, self._said, self._waits = 0, False, None, False

    def say(self, now: float) -> list[Message]:
        """Return what to say: after each message, now and then, and when more events are wanted."""
        wish = Follow(self._log, self._last, ANSWER_BYTES, self._receipt)
        if self._waits and wish == self._said and now - self._said_at < REPEAT_SECONDS:
            return []
        self._said, self._said_at, self._waits = wish, now, True
        return [wish]

    def receive(self, message: Message) -> list[Happening]:
        """Take a message; return what is new.

        Raises:
            DecodeError: an event is none.
        """
        if not isinstance(message, Happened) or not self._waits:
            return []
        if self._sure and message.log != self._log:
            return []
        known = self._last if message.log == self._log else 0
        if message.first - message.lost - 1 > known:
            return []  # what comes after something that nobody has asked for
        events = [(n, unpack_event(event)) for n, event in enumerate(message.events, message.first)]
        self._log, self._last, self._sure = message.log, known, True
        self._receipt = message.receipt
        news = []
        for number, event in events:
            if number > self._last:
                news.append(Happening(number, event, number - self._last - 1, self._log))
                self._last = number
                self._waits = False
        return news
