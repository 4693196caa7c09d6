"""Having a main node do something: one order, said until it is answered."""

from __future__ import annotations

import logging
import math
import secrets
import time
from collections.abc import Iterator
from contextlib import closing
from functools import partial

from ..errors import ControlRefused, DecodeError, NoAnswer, VersionMismatch
from ..wire.codec import decode
from ..wire.limits import UNASKED_BYTES
from ..wire.messages import REFUSE_UNKNOWN, Bye, Control, Controlled, Message, Refuse
from ..wire.words import safe_line, safe_name
from .keys import NodeKeys
from .link import LOOK_SECONDS, Link
from .monitor import Event, Happened
from .sockets import Poller, make_context

log = logging.getLogger("mnist.control")

#: An order without an answer is repeated after so long: over a new connection, say.
REPEAT_SECONDS = 1.0
#: So many handshakes may fail: a main node that ends in the middle of one is no mistake.
TRIES = 2


def control(
    address: str,
    verb: str,
    reason: str = "",
    *,
    keys: NodeKeys | None = None,
    domain: int = 0,
    main: str = "",
    timeout: float = 10.0,
) -> str:
    """Have a main node do something, and return what it says of that.

    However often it is said on the way, it is done once.

    Args:
        address: of the main node, or of a relay that leads there.
        verb: what to do, `stop` say.
        reason: why, for people.
        keys: with the role `control`; None: it has no keys.
        domain: of the main node.
        main: id of the main node that is meant; any where it is not given.
        timeout: seconds to wait for an answer.

    Raises:
        NoAnswer: there is none in time, or no connection; the message says why.
        ControlRefused: the main node does not do it, and says why.
        AddressError: the address is malformed.
        KeysError: the keys are none.
    """
    order = Control(secrets.token_hex(16), domain, main, safe_name(verb), safe_line(reason))
    context, poller = make_context(), Poller()
    try:
        with closing(Link(context, poller, [address], keys, log)) as link:
            return _Asking(link, poller, order).ask(time.monotonic() + timeout)
    finally:
        context.term()


class _Asking:
    """One order over one connection, which is made anew where it breaks."""

    def __init__(self, link: Link, poller: Poller, order: Control) -> None:
        self._link, self._poller, self._order = link, poller, order
        self._said = -math.inf
        self._ever = False  # whether it was said at all
        self._failures = 0
        self._trouble = "nothing listens there; is the main node started, and the address right?"
        self._answer: str | None = None

    def ask(self, until: float) -> str:
        """Return the answer that comes until a moment."""
        link = self._link
        while self._answer is None:
            now = time.monotonic()
            if now >= until:
                asked = "; it was asked, and may do it" if self._ever else ""
                raise NoAnswer(f"no answer from {link.address}: {self._trouble}{asked}")
            link.tick(now)
            if link.connected and now - self._said >= REPEAT_SECONDS:
                self._said, self._ever = now, True
                link.outgoing.put(self._order)
            link.flush()
            ready = dict(self._poller.poll(math.ceil(min(LOOK_SECONDS, until - now) * 1000)))
            for event in link.read(ready, partial(self._drain, now), now):
                self._take(event)
            link.watch(UNASKED_BYTES, now)
        link.outgoing.put(Bye("it is answered"))
        link.flush()
        return self._answer

    def _take(self, event: Event) -> None:
        if event.what is Happened.CONNECTED:
            self._said, self._failures = -math.inf, 0
            self._trouble = "it is there, and does not answer"
            return
        self._trouble = event.cause or "the connection was lost"
        if event.final:
            raise ControlRefused(f"{self._link.address}: {event.cause}")
        if event.what is Happened.FAILED:
            self._failures += 1
            if self._failures >= TRIES:
                raise NoAnswer(f"no answer from {self._link.address}: {event.cause}")

    def _drain(self, now: float) -> None:
        for message in self._messages(now):
            if isinstance(message, Controlled) and message.request == self._order.request:
                if not message.ok:
                    raise ControlRefused(message.words)
                self._answer = message.words
            elif isinstance(message, Refuse):
                unknown = message.code == REFUSE_UNKNOWN
                raise ControlRefused(
                    "the main node is of a release that can't be told to do anything"
                    if unknown
                    else message.reason
                )

    def _messages(self, now: float) -> Iterator[Message]:
        """Yield what has come, until the answer is among it."""
        while self._answer is None and (frames := self._link.receive()) is not None:
            try:
                yield from decode(frames)
            except VersionMismatch as error:
                raise ControlRefused(str(error)) from error
            except DecodeError as error:
                if not self._link.bear(str(error), now):
                    return
