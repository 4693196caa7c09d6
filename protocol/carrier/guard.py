"""Sees to it that no connection to a ROUTER costs more than it may.

ZeroMQ reads whatever comes, as fast as it comes, and its own limit counts whole messages: one that
never ends, or one of a million frames, has none. But the system knows how many bytes have come
over each connection, and the router how many it has read; what lies between is what a connection
costs. Who has sent more than it may (`limits.py`) is cut off, by its descriptor.

Who was cut off would be back at once. So new connections from its host wait their turn, which is
drawn by lot, before they get a word in: who has a good reason comes through, and a flood does not.

Looking is done by a thread of its own, because the router may be busy just then.
"""

from __future__ import annotations

import logging
import random
import resource
import threading
import time
from collections.abc import Callable

from ..wire.entry import Entry
from ..wire.limits import (
    DISGRACE_SECONDS,
    LOG_SECONDS,
    MAX_HOSTS,
    MAX_STRANGERS,
    MIB,
    STRANGER_BYTES,
    STRANGER_SECONDS,
    STRANGERS_LINES,
    TURN_SECONDS,
)
from . import traffic
from .doorstep import Doorstep
from .monitor import Event, Happened, address_of

log = logging.getLogger("mnist.protocol")

#: The size of this process is looked at this often,
LOOK_SECONDS = 0.02
#: and every connection when it has grown by so much, or after so long.
GROWTH_BYTES = 4 * MIB
ALL_SECONDS = 0.25
#: Looking at the connections takes at most this part of a core.
PART = 0.1
#: Where the router stood still for so long (the process was frozen, say), what was said meanwhile
#: has been said over and over: for a while more is borne.
STILL_SECONDS, GRACE_SECONDS, STILL_BYTES = 1.5, 3.0, 32 * MIB
#: A connection that ended has left no words behind after so long.
ECHO_SECONDS = 10.0


class Connection:
    """One connection to the ROUTER.

    Attributes:
        descriptor: ZeroMQ's.
        cookie: the system's number of it, which no other has.
        address: of the other side, `host:port`.
        since: when it was opened, or let go on.
        peer: its routing id, once it has said a word.
        read: bytes of its messages that the router has read; only the router's thread counts them.
        over: whether it is cut off, or about to be.
    """

    __slots__ = ("address", "cookie", "descriptor", "over", "peer", "read", "since")

    def __init__(self, descriptor: int, address: str, now: float) -> None:
        self.descriptor = descriptor
        self.cookie = traffic.cookie(descriptor)
        self.address = address
        self.since = now
        self.peer: bytes | None = None
        self.read = 0
        self.over = False

    @property
    def host(self) -> str:
        """The other side's."""
        return self.address.rpartition(":")[0]

    @property
    def waiting(self) -> int:
        """Bytes that have come, and that nobody has read."""
        return traffic.received(self.descriptor) - self.read - traffic.HANDSHAKE_BYTES

    def end(self) -> None:
        """Cut it off."""
        self.over = True
        traffic.end(self.descriptor, self.cookie)


class Guard:
    """Watches over the connections of a ROUTER; its methods are for the router's thread.

    Args:
        name: of the thread that looks.
        allowance: returns what a peer may have sent that nobody has read.
        cut: told of each connection that is cut off for what it sent, and why.
        flooded: told of a host that connects and goes, and of which fewer are let in.

    All three are called from the thread that looks.
    """

    def __init__(
        self,
        name: str,
        allowance: Callable[[bytes], int],
        cut: Callable[[Connection, str], None],
        flooded: Callable[[str], None],
    ) -> None:
        self._allowance, self._cut, self._flooded = allowance, cut, flooded
        self._connections: dict[int, Connection] = {}  # by descriptor
        self._doorstep = Doorstep()
        self._strangers: dict[Connection, None] = {}  # the oldest first
        self._held: dict[Connection, None] = {}  # those that wait their turn
        self._ended: dict[int, float] = {}  # descriptors of those that said no word, and when
        self._late: list[tuple[float, Connection]] = []  # to be ended then
        self._disgraced: dict[str, float] = {}  # hosts, until when
        self._most = min(MAX_STRANGERS, resource.getrlimit(resource.RLIMIT_NOFILE)[0] // 2)
        self._lot = random.Random()
        self._size, self._last_size = traffic.Size(), 0
        self._all_at = self._not_before = self._turn_at = self._grace_until = 0.0
        #: When the router has turned last: while it stands still nobody can get a word in.
        self.turned = time.monotonic()
        self._told: set[tuple[str, str]] = set()
        self._told_until = 0.0
        self._ending = threading.Event()
        self._thread = threading.Thread(target=self._run, name=f"{name} guard", daemon=True)

    def start(self) -> None:
        """Begin to look."""
        self._thread.start()

    def close(self) -> None:
        """Look no more; let those go that were held."""
        self._ending.set()
        if self._thread.is_alive():
            self._thread.join()
        for connection in list(self._held):
            traffic.release(connection.descriptor, connection.cookie)
        self._size.close()

    def take(self, events: list[Event], now: float) -> tuple[list[Connection], list[Event]]:
        """Hear what has happened to connections.

        Returns:
            Those that had said a word and are no more; and failures before one was said, those
            that are worth telling: there may be many.
        """
        gone: list[Connection] = []
        failed: list[Event] = []
        for event in events:
            if event.what is Happened.LISTENING:
                self._doorstep.listener = event.descriptor
                continue
            if event.what is Happened.OPENED:
                gone += self._open(event, now)
                continue
            connection = self._connections.get(event.descriptor)
            # Its descriptor may be another's by now, whose first word was faster than this event.
            if connection is not None and connection.address == event.peer:
                del self._connections[event.descriptor]
                self._strike(connection)
                if connection.peer is not None:
                    gone.append(connection)
                else:
                    self._ended[event.descriptor] = now
                    self._doorstep.went(connection.host)
            if event.what is Happened.FAILED and self._is_news(event, now):
                failed.append(event)
        return gone, failed

    def _open(self, event: Event, now: float) -> list[Connection]:
        connection = Connection(event.descriptor, event.peer, now)
        before = self._connections.get(event.descriptor)
        if before is not None and before.cookie == connection.cookie != 0:
            return []  # its first word was faster
        self._connections[event.descriptor] = connection
        if before is not None:
            self._strike(before)
            if before.peer is None:
                self._ended[event.descriptor] = now
        self._strangers[connection] = None
        if len(self._strangers) > self._most:
            oldest = next(iter(self._strangers))
            self._strike(oldest)
            oldest.end()
        if self.in_disgrace(connection.host, now) and traffic.hold(
            connection.descriptor, connection.cookie
        ):
            self._held[connection] = None
        return [before] if before is not None and before.peer is not None else []

    def _strike(self, connection: Connection) -> None:
        """A connection is over, or another has its descriptor by now, which must not be held."""
        self._strangers.pop(connection, None)
        if connection in self._held:
            self._held.pop(connection, None)
            traffic.release(connection.descriptor, connection.cookie)

    def _is_news(self, event: Event, now: float) -> bool:
        if now > self._told_until:
            self._told.clear()
            self._told_until = now + LOG_SECONDS
        what = (event.peer.rpartition(":")[0], event.cause)
        if what in self._told or len(self._told) >= STRANGERS_LINES:
            return False
        self._told.add(what)
        return True

    def introduce(
        self, peer: bytes, descriptor: int, now: float, is_here: Callable[[], bool]
    ) -> tuple[Connection | None, list[Connection]]:
        """A peer has said its first word over a connection.

        Args:
            peer: its routing id.
            descriptor: of the connection, or of one that has ended, and is another's by now.
            now: in seconds.
            is_here: returns whether the peer has a connection still; asked only in doubt.

        Returns:
            The connection, None if it is over already; and one that it turns out to be in place of.
        """
        connection = self._connections.get(descriptor)
        found = traffic.cookie(descriptor)
        known = connection is not None and connection.cookie == found
        mute = connection is not None and connection.peer is None
        doubt = now < self._ended.get(descriptor, -ECHO_SECONDS) + ECHO_SECONDS or (
            mute and not known
        )
        if (not found and traffic.KNOWN) or (doubt and not is_here()):
            return None, []
        if connection is not None and mute and known:
            connection.peer = peer
            self._strangers.pop(connection, None)  # if it was held a moment ago, its turn will come
            return connection, []
        before, address = connection, address_of(descriptor)
        connection = self._connections[descriptor] = Connection(descriptor, address, now)
        connection.peer = peer
        if before is not None:
            self._strike(before)
        return connection, [before] if before is not None and before.peer is not None else []

    def in_disgrace(self, host: str, now: float) -> bool:
        """Whether somebody at this host was cut off a moment ago."""
        return now < self._disgraced.get(host, 0.0)

    def disgrace(self, host: str, now: float) -> None:
        """Let new connections from a host wait their turn for a while."""
        if not host:
            return
        if len(self._disgraced) >= MAX_HOSTS:
            self._disgraced.clear()
        self._disgraced[host] = now + DISGRACE_SECONDS

    def let_wait(self, connection: Connection, now: float) -> None:
        """Hear no more of a connection, and end it after a while: who waits is not back at once."""
        if connection.over:
            return
        if traffic.hold(connection.descriptor, connection.cookie):
            connection.over = True
            self._late.append((now + DISGRACE_SECONDS, connection))
        else:
            connection.end()

    # In the thread that looks.

    def _run(self) -> None:
        stumbled = False
        while not self._ending.wait(LOOK_SECONDS):
            try:
                self._turn(time.monotonic())
            except Exception:  # a bug here; without a guard anybody could fill the memory
                if not stumbled:
                    log.exception(Entry("guard.stumbled", "it goes on"))
                stumbled = True

    def _turn(self, now: float) -> None:
        self._let_on(now)
        for host in self._doorstep.look(now):
            self._flooded(host)
        if self._due(now):
            self._look(now)
            self._not_before = now + (time.monotonic() - now) / PART

    def _let_on(self, now: float) -> None:
        """Let one of those that wait go on, and end those that have waited."""
        while self._late and now > self._late[0][0]:
            _, connection = self._late.pop(0)
            traffic.release(connection.descriptor, connection.cookie)
            connection.end()
        waiting = list(self._held) if now > self._turn_at else []
        if waiting:
            self._turn_at = now + TURN_SECONDS
            connection = self._lot.choice(waiting)
            self._held.pop(connection, None)
            connection.since = now
            traffic.release(connection.descriptor, connection.cookie)

    def _due(self, now: float) -> bool:
        """Whether it is time to look at every connection."""
        if now < self._not_before:
            return False
        size = self._size.read()
        if now < self._all_at and size - self._last_size < GROWTH_BYTES:
            self._last_size = min(self._last_size, size)
            return False
        self._last_size, self._all_at = size, now + ALL_SECONDS
        return True

    def _look(self, now: float) -> None:
        if now - self.turned > STILL_SECONDS:
            self._grace_until = now + GRACE_SECONDS
        least = STILL_BYTES if now < self._grace_until else 0
        for connection in list(self._connections.values()):
            if connection.over:
                continue
            if connection.peer is None:
                if connection.waiting > STRANGER_BYTES:
                    self._stop(connection, f"more than {STRANGER_BYTES:,} bytes and no word", now)
                elif (
                    connection not in self._held
                    and self.turned - connection.since > STRANGER_SECONDS
                ):
                    self._stop(connection, f"no word in {STRANGER_SECONDS:g} s", now, idle=True)
                continue
            # What is read is allowed no more a moment later; what is asked for is, a moment before.
            before = max(least, self._allowance(connection.peer))
            waiting = connection.waiting
            if waiting > max(before, self._allowance(connection.peer)):
                self._stop(connection, f"it sent {waiting:,} bytes that nobody asked for", now)

    def _stop(self, connection: Connection, why: str, now: float, idle: bool = False) -> None:
        connection.end()
        if not idle and connection.peer is None:  # else the router knows better whom to blame
            self.disgrace(connection.host, now)
        self._cut(connection, why)
