"""What a main node can be told to do from outside: each thing once, in users' code's thread."""

from __future__ import annotations

import logging
import time
from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial

from protocol.carrier.latch import Latch
from protocol.machine.effects import Effect, Send
from protocol.wire.entry import Entry
from protocol.wire.limits import LINE_LETTERS, MAX_ANSWERS, MAX_ORDERS
from protocol.wire.messages import Control, Controlled
from protocol.wire.words import in_words, is_name, safe_line, sendable

from .errors import ConfigError

log = logging.getLogger("mnist.main")

#: The verb whose end is the main node's own.
STOP = "stop"


@dataclass(frozen=True, slots=True)
class Order:
    """Something that a main node is told to do from outside.

    Args:
        verb: what to do.
        by: the name of the key of whoever wants it; without keys, where it comes from.
        reason: why; may be empty.
    """

    verb: str
    by: str
    reason: str = ""


#: Does what an order says, and returns what there is to say of it; an exception is told as well.
Handler = Callable[[Order], object]


@dataclass(slots=True, eq=False)
class _Taken:
    """An order that was taken; `peers` wait for the answer."""

    request: str
    verb: str
    peers: list[bytes]
    answer: Controlled | None = None
    over: Latch = field(default_factory=Latch)


class Controls:
    """Takes orders; all its methods are for the router's thread.

    Args:
        main: the main node's id.
        domain: of the main node.
        handlers: by verb.
        call: runs a call in the thread of users' code.
        done: is told the effects of an order that was performed, from that thread.

    Raises:
        ConfigError: a verb that can't be said, or a handler that can't be called.
    """

    def __init__(
        self,
        main: str,
        domain: int,
        handlers: Mapping[str, Handler],
        call: Callable[[Callable[[], object]], None],
        done: Callable[[Callable[[], list[Effect]]], None],
    ) -> None:
        for verb, handler in handlers.items():
            if not (isinstance(verb, str) and verb and is_name(verb)) or not callable(handler):
                raise ConfigError(
                    f"controls: {verb!r:.80} with {handler!r:.80}: a verb that can be shown is"
                    " wanted, and what to call with an Order"
                )
        self._main, self._domain, self._handlers = main, domain, dict(handlers)
        self._call, self._done = call, done
        self._pending: dict[tuple[bytes, str], _Taken] = {}
        self._answered: OrderedDict[tuple[bytes, str], Controlled] = OrderedDict()

    def take(self, peer: bytes, who: bytes, by: str, message: Control) -> list[Effect]:
        """Take an order, or hear it again; return what to say now, if that is known.

        Args:
            peer: routing id of whoever says it.
            who: whose order it is, over whatever connection.
            by: the same, for people.
            message: the order.
        """
        number = (who, message.request)
        if number in self._answered:
            return [Send(peer, self._answered[number])]
        taken = self._pending.get(number)
        if taken is not None:
            taken.peers = list(dict.fromkeys([*taken.peers, peer]))[-2:]  # over a new connection
            return []
        refused = self._why_not(message)
        if refused:
            return [Send(peer, Controlled(message.request, False, refused))]
        order = Order(message.verb, by, message.reason)
        log.info(Entry("order.taken", verb=order.verb, by=order.by, reason=order.reason))
        taken = self._pending[number] = _Taken(message.request, message.verb, [peer])
        self._call(partial(self._perform, number, taken, order))
        return []

    def _why_not(self, message: Control) -> str:
        """Return why an order is not taken; empty if it is."""
        if message.domain != self._domain:
            return (
                f"this main node serves domain {self._domain}, not {message.domain}"
                f" (--domain {self._domain})"
            )
        if message.main not in ("", self._main):
            return f"this is main node {self._main}, and {message.main} is meant"
        if message.verb not in self._handlers:
            verbs = ", ".join(sorted(self._handlers)) or "nothing"
            return f"this main node can't be told to {message.verb!r}; it can be told: {verbs}"
        if len(self._pending) >= MAX_ORDERS:
            return f"{MAX_ORDERS} orders are not done yet; try again later"
        return ""

    def _perform(self, number: tuple[bytes, str], taken: _Taken, order: Order) -> None:
        """Do what an order says; in the thread of users' code."""
        try:
            told = self._handlers[order.verb](order)
            ok, words = True, "done" if told is None else str(told)
        except BaseException as error:  # sys.exit() too: who asked is still to be answered
            log.exception(Entry("order.failed", verb=order.verb))
            ok, words = False, f"it raised {in_words(error)}"
        words = safe_line(sendable(words, LINE_LETTERS))
        answer = Controlled(taken.request, ok, words)
        self._done(partial(self._answer, number, taken, answer))
        taken.over.set()

    def _answer(self, number: tuple[bytes, str], taken: _Taken, answer: Controlled) -> list[Effect]:
        if self._pending.pop(number, None) is None:  # answered at the end, without it
            return []
        self._answered[number] = answer
        while len(self._answered) > MAX_ANSWERS:
            self._answered.popitem(last=False)
        return [Send(peer, answer) for peer in taken.peers]

    def await_done(self, seconds: float) -> None:
        """Wait so long for orders that are being performed, at the end of this main node."""
        until = time.monotonic() + seconds
        for taken in list(self._pending.values()):
            taken.over.wait(until - time.monotonic())

    def close(self) -> list[Effect]:
        """Answer what is not done, because this main node ends; for one order that is the end."""
        effects: list[Effect] = []
        for number, taken in list(self._pending.items()):
            ended = taken.verb == STOP
            words = "the main node has ended" + ("" if ended else " before that was done")
            effects += self._answer(number, taken, Controlled(taken.request, ended, words))
        return effects
