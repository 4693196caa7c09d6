"""A connection to a main node that is made anew for as long as it is wanted."""

from __future__ import annotations

import logging
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from ..wire.addresses import split_address
from ..wire.codec import Frame
from ..wire.entry import Entry
from ..wire.limits import NODE_LINES, NODE_LOG_BYTES, OUTBOX_BYTES
from .hosts import ways
from .keys import NodeKeys
from .logbudget import LogBudget
from .monitor import Event, Happened
from .outbox import Outbox
from .patience import Patience, Pool
from .sockets import READABLE, close, connect, receive, send, wire_bytes
from .traffic import HANDSHAKE_BYTES, received

#: Without a main node for this long, it is said once.
WARN_SECONDS = 5.0
#: Where there was no room to send, it is tried again after this long.
STUCK_SECONDS = 0.005
#: After a failed handshake a new connection is made after so long, then twice as long each time,
#: up to the limit.
RETRY_SECONDS = 0.25
MAX_RETRY_SECONDS = 4.0
#: Handshakes that fail without a reason given are told from the second on: a main node that ends
#: in the middle of one is no mistake.
TELL_FROM = 2
#: A main node that announces several addresses, or whose host has one of either protocol by its
#: name, is tried at each for so long.
TRY_SECONDS = 2.0
#: Where nothing happens for so long, a new connection is made: ZeroMQ may have stopped trying.
STALE_SECONDS = 15.0
#: What a main node has sent is looked at this often.
LOOK_SECONDS = 0.1
#: A main node that misbehaves is let alone for so long, then twice as long each time.
LEAVE_SECONDS, MAX_LEAVE_SECONDS = 1.0, 60.0
#: After so long without that it is forgotten.
FORGIVE_SECONDS = 600.0
#: How much noise a message is that is none of ours.
MALFORMED_NOISE = 50.0


class Link:
    """A connection to one main node, made anew whenever it fails.

    Args:
        context, poller: of the thread that owns it.
        addresses: where the main node may be; of several, the first that answers is used.
        keys: this node's.
        log: where to say what happens.
        main: id of the main node, where it is known before it answers.

    Raises:
        AddressError: an address is malformed.
    """

    def __init__(
        self,
        context: Any,
        poller: Any,
        addresses: Sequence[str],
        keys: NodeKeys | None,
        log: logging.Logger,
        main: str = "",
    ) -> None:
        self.main = main
        self.keys = keys
        self.connected = False
        self.outgoing = Outbox()
        self._addresses = deque(addresses)
        self._log = log
        self._looking_since = self._tried_since = time.monotonic()
        self._warned = False
        #: Of the protocols by which the host is reached: how many, and which is to be tried.
        self._ways, self._turn = 1, 0
        #: Whether there was a connection since it was made last.
        self._worked = False
        self._failures = 0
        self._told = ""
        self._ever = False
        self._again_at: float | None = None
        self._descriptor, self._read, self._look_at = -1, 0, 0.0
        self._patience = Patience(self._tried_since, Pool(self._tried_since))
        self._misbehaved, self._left_alone_at = 0, 0.0
        self._lines = LogBudget(NODE_LINES, NODE_LOG_BYTES)
        self._context = context
        self._poller = poller
        self._open()

    @property
    def address(self) -> str:
        """Where it is connected, or tries to be."""
        return self._addresses[0]

    @property
    def has_others(self) -> bool:
        """Whether it may be elsewhere."""
        return len(self._addresses) > 1

    @property
    def dubious(self) -> bool:
        """Whether somebody else may answer: one address of several can be another's here."""
        return bool(self.main) and self.has_others

    @property
    def paused(self) -> bool:
        """Whether there is no connection, and none is tried."""
        return self._again_at is not None

    def lost_for(self, now: float) -> float:
        """Return for how many seconds there has been no connection."""
        return 0.0 if self.connected else now - self._looking_since

    def look_at(self, addresses: Sequence[str]) -> bool:
        """Look for the main node at other addresses from now on, if it is not there.

        Returns:
            Whether that is news for a connection: it may lead nowhere any more.
        """
        if set(addresses) == set(self._addresses):
            return False
        here = [self.address] if self.connected else []
        self._addresses = deque(dict.fromkeys([*here, *addresses]))
        if not self.connected and not self.paused:
            self.close(0)
            self._open()
        return self.connected

    def _open(self) -> None:
        """Make a connection; where this machine has nothing left for one, later."""
        by_ipv6 = ways(split_address(self.address, lowest_port=1)[0])
        self._ways, self._worked = len(by_ipv6), False
        self._tried_since = time.monotonic()
        self._again_at = None
        try:
            self.socket, self.monitor = connect(
                self._context, self.address, self.keys, by_ipv6[self._turn % self._ways]
            )
        except OSError as error:
            self._again_at = self._tried_since + MAX_RETRY_SECONDS
            self.say(logging.WARNING, self._unconnected(str(error)))
            return
        self._poller.register(self.socket, READABLE)
        self._poller.register(self.monitor.socket, READABLE)

    def reopen(self) -> None:
        """Make a new connection in place of one that is worth nothing."""
        self.close(0)
        self._open_next()

    def _open_next(self) -> None:
        """Make a connection where it is to be tried next."""
        self._addresses.rotate(-1)
        if not self._worked:
            self._turn += 1
        self._open()

    def start_again(self, now: float) -> None:
        """Look for the main node as if it had never been looked for."""
        self.pause(now)
        self._looking_since = now
        self._warned = False

    def pause(self, until: float) -> None:
        """Give the connection up, and make another at a moment."""
        self.close(0)
        self._again_at = until

    def close(self, linger: int | None = None) -> None:
        """Close the connection, if there is one."""
        if self.connected:
            self.connected = False
            self._looking_since = time.monotonic()
        if linger == 0:
            self.outgoing.clear()
        if self.paused:
            return
        self._poller.unregister(self.socket)
        self._poller.unregister(self.monitor.socket)
        close(self.socket, self.monitor, linger)

    def tick(self, now: float) -> None:
        """Connect again, if it is time; say once if nobody is there: the address may be wrong."""
        if self._again_at is not None and now >= self._again_at:
            self._open_next()
        if self.connected:
            return
        tried = now - self._tried_since
        if not self.has_others:  # ZeroMQ itself goes on after an end
            tried = min(tried, now - self._looking_since)
        elsewhere = self.has_others or self._ways > 1
        if not self.paused and tried > (TRY_SECONDS if elsewhere else STALE_SECONDS):
            self.reopen()
        if not self._warned and now - self._looking_since >= WARN_SECONDS:
            self._warned = True
            says = (
                "no main node answers there; is the name and port right, and is it started? still"
                " looking"
            )
            self._log.warning(Entry("main.not_found", says, address=self.address))

    def read(
        self, ready: Mapping[Any, int], drain: Callable[[], object], now: float
    ) -> Iterator[Event]:
        """Have read what has come, and yield what has happened to the connection since.

        Args:
            ready: what the poll has found.
            drain: reads the messages; called first, for what came before an end, a Stop say.
            now: the time.
        """
        if self.paused:
            return
        events = self.monitor.read() if self.monitor.socket in ready else []
        if self.socket in ready or events:
            drain()
        for event in events:
            if self._again_at is not None:  # paused meanwhile: the rest is of what is no more
                return
            if event.what is Happened.OPENED:
                self._descriptor, self._read = event.descriptor, 0
                continue
            self._take(event, now)
            yield event

    def _take(self, event: Event, now: float) -> None:
        if event.what is Happened.CONNECTED:
            self.connected, self._worked, self._warned = True, True, False
            self._failures, self._told, self._ever = 0, "", True
        elif event.what is Happened.DISCONNECTED:
            if self.connected:
                self._log.info(Entry("main.disconnected", address=self.address))
            self.connected = False
            self._looking_since = now
        else:
            # ZeroMQ itself would either not try again, or every 20 ms.
            wait = min(RETRY_SECONDS * 2 ** min(self._failures, 8), MAX_RETRY_SECONDS)
            self._failures += 1
            if event.final:  # whoever reads this says it
                self._told = event.cause
            if self._told != event.cause and (self._failures >= TELL_FROM or self.keys):
                self._told, self._warned = event.cause, True
                # Where it has been before, the main node has mostly just ended.
                level = logging.INFO if self._ever else logging.WARNING
                self._log.log(level, self._unconnected(event.cause))
            self.pause(now + wait)

    def _unconnected(self, cause: str) -> Entry:
        return Entry("connection.failed", "still trying", address=self.address, cause=cause)

    def receive(self) -> list[Frame] | None:
        """Return the frames of the next message, or None if there is none yet."""
        found = None if self.paused else receive(self.socket, small=2)
        if found is None:
            return None
        self._read += wire_bytes(found[0], self.keys is not None)
        return found[0]

    def watch(self, allowance: int, now: float) -> bool:
        """Look at what the main node has sent, now and then; return False if it is let alone.

        Args:
            allowance: bytes that it may have sent and that are not read yet.
            now: the time.
        """
        if not self.connected or now < self._look_at:
            return True
        self._look_at = now + LOOK_SECONDS
        waiting = received(self._descriptor) - self._read - HANDSHAKE_BYTES
        if waiting > allowance:
            self.leave_alone(f"it sent {waiting:,} bytes that nobody asked for", now)
            return False
        if self.outgoing.nbytes > OUTBOX_BYTES:
            self.leave_alone("it asks for more than it reads", now)
            return False
        return True

    def bear(self, reason: str, now: float) -> bool:
        """Bear a message that is none of ours; return False if that was one too many."""
        entry = Entry("main.misbehaves", address=self.address, reason=reason)
        self.say(logging.WARNING, entry)
        return self.bear_noise(MALFORMED_NOISE, now)

    def bear_noise(self, noise: float, now: float) -> bool:
        """Bear what serves nobody, or count what was of use; return False if that was too much."""
        if self._patience.bear(noise, now):
            return True
        self.leave_alone("it says too much that serves nobody", now)
        return False

    def leave_alone(self, reason: str, now: float) -> None:
        """Give the connection up to a main node that misbehaves, for a while."""
        if now > self._left_alone_at + FORGIVE_SECONDS:
            self._misbehaved = 0
        wait = min(LEAVE_SECONDS * 2 ** min(self._misbehaved, 8), MAX_LEAVE_SECONDS)
        self._misbehaved, self._left_alone_at = self._misbehaved + 1, now
        says = f"trying again in {wait:g} s"
        entry = Entry("main.left", says, address=self.address, reason=reason, seconds=wait)
        self.say(logging.WARNING, entry)
        self._patience = Patience(now, Pool(now))
        self.pause(now + wait)

    def say(self, level: int, entry: Entry) -> None:
        """Log something about the main node, if there is room for it."""
        if self._lines.take(len(str(entry)), time.monotonic()):
            self._log.log(level, entry)

    def flush(self) -> bool:
        """Send what can be sent; return whether something had to wait."""
        if not self.connected:  # whatever matters is sent again
            self.outgoing.clear()
        return self.outgoing.send(lambda frames: send(self.socket, frames), time.monotonic())
