"""Sees to it that no connection to a ROUTER costs more memory than it may.

ZeroMQ reads whatever comes, as fast as it comes, and its own limit counts whole messages: one that
never ends, or one of a million frames, has none. But the system knows how many bytes have come
over each connection, and the router how many it has read; what lies between is what a connection
costs. Who has sent more than it may (`limits.py`) is cut off, by its descriptor.

This is a thread of its own, because the router may be busy just then. It also reads the monitor,
so that ZeroMQ never waits for that.
"""

from __future__ import annotations

import os
import resource
import socket as system_socket
import threading
import time
from collections.abc import Callable

from .limits import (
    LOG_SECONDS,
    MAX_STRANGERS,
    MIB,
    STRANGER_BYTES,
    STRANGER_SECONDS,
    STRANGERS_LINES,
)
from .monitor import Event, Happened, Monitor, address_of, opened
from .sockets import READABLE, Poller
from .traffic import HANDSHAKE_BYTES, received

#: The monitor, and the size of this process, are looked at this often at least,
LOOK_SECONDS = 0.02
#: and every connection when this process has grown by so much, or after so long.
GROWTH_BYTES = 4 * MIB
ALL_SECONDS = 0.25
#: Looking at the connections takes at most this part of a core.
PART = 0.1
_PAGE = resource.getpagesize()
_STATM = "/proc/self/statm"


class Connection:
    """One connection to the ROUTER.

    Attributes:
        descriptor: ZeroMQ's.
        address: of the other side, `host:port`.
        since: when it was opened.
        peer: its routing id, once it has said a word.
        read: bytes of its messages that the router has read; only the router's thread counts them.
        cut: whether it was cut off.
    """

    __slots__ = ("address", "cut", "descriptor", "peer", "read", "since")

    def __init__(self, descriptor: int, address: str, since: float) -> None:
        self.descriptor = descriptor
        self.address = address
        self.since = since
        self.peer: bytes | None = None
        self.read = 0
        self.cut = False

    @property
    def host(self) -> str:
        """The other side's."""
        return self.address.rpartition(":")[0]

    def close(self) -> None:
        """Cut it off, if it is still the same."""
        self.cut = True
        try:
            with opened(self.descriptor) as connection:
                if "{}:{}".format(*connection.getpeername()[:2]) == self.address:
                    connection.shutdown(system_socket.SHUT_RDWR)
        except (OSError, ValueError):  # it is gone
            return


class Guard:
    """The thread that watches over the connections of a ROUTER.

    Args:
        name: of the thread.
        monitor: of the ROUTER.
        allowance: returns what a peer may have sent and nobody has read; called from this thread.
        failed: told of connections that fail before a word is said; called from this thread.
        gone: told of each connection that had said a word and is no more; called from this thread.
        cut: told of each that was cut off, and why, before it is gone; called from this thread.
    """

    def __init__(
        self,
        name: str,
        monitor: Monitor,
        allowance: Callable[[bytes], int],
        failed: Callable[[Event], None],
        gone: Callable[[Connection], None],
        cut: Callable[[Connection, str], None],
    ) -> None:
        self._monitor = monitor
        self._allowance, self._failed, self._gone, self._cut = allowance, failed, gone, cut
        self._connections: dict[int, Connection] = {}  # by descriptor
        self._strangers: dict[Connection, None] = {}  # the oldest first
        self._lock = threading.Lock()  # of both
        self._most = min(MAX_STRANGERS, resource.getrlimit(resource.RLIMIT_NOFILE)[0] // 2)
        self._statm = os.open(_STATM, os.O_RDONLY) if os.path.exists(_STATM) else -1  # noqa: PTH110
        self._size = 0
        self._all_at = self._not_before = 0.0
        #: When the router has turned last: while it stands still nobody can get a word in.
        self.turned = time.monotonic()
        self._told: set[tuple[str, str]] = set()
        self._told_until = 0.0
        self._ending = threading.Event()
        self._thread = threading.Thread(target=self._run, name=f"{name} guard", daemon=True)

    def start(self) -> None:
        """Begin to watch."""
        self._thread.start()

    def close(self) -> None:
        """Watch no more; the monitor is closed by whoever opened it."""
        self._ending.set()
        if self._thread.is_alive():
            self._thread.join()
        if self._statm >= 0:
            os.close(self._statm)
            self._statm = -1

    def introduce(self, peer: bytes, descriptor: int, now: float) -> Connection | None:
        """Return the connection over which a peer has said its first word; None if it is gone.

        Called from the router's thread.
        """
        address = address_of(descriptor)
        before: Connection | None = None
        with self._lock:
            connection = self._connections.get(descriptor)
            if connection is None or connection.address != address or connection.peer is not None:
                before, connection = connection, Connection(descriptor, address, now)
                if address:
                    self._connections[descriptor] = connection
            self._strangers.pop(connection, None)
            connection.peer = peer
        if before is not None:
            self._end(before)
        return connection if address else None

    def _run(self) -> None:
        poller = Poller()
        poller.register(self._monitor.socket, READABLE)
        while not self._ending.is_set():
            poller.poll(int(LOOK_SECONDS * 1000))
            for event in self._monitor.read():
                self._take(event)
            now = time.monotonic()
            if self._due(now):
                self._look(now)
                spent = time.monotonic() - now
                self._not_before = now + spent / PART

    def _take(self, event: Event) -> None:
        if event.what is Happened.OPENED:
            self._open(Connection(event.descriptor, event.peer, time.monotonic()))
            return
        with self._lock:
            connection = self._connections.get(event.descriptor)
            if connection is None or connection.address != event.peer:
                connection = None  # its descriptor is another's by now, whose first word was fast
            else:
                del self._connections[event.descriptor]
                self._strangers.pop(connection, None)
        if connection is not None:
            self._end(connection)
        if event.what is Happened.FAILED:
            self._tell(event)

    def _tell(self, event: Event) -> None:
        """Tell of a failure, if the like has not been told lately: there may be many."""
        now = time.monotonic()
        if now > self._told_until:
            self._told.clear()
            self._told_until = now + LOG_SECONDS
        what = (event.peer.rpartition(":")[0], event.cause)
        if what not in self._told and len(self._told) < STRANGERS_LINES:
            self._told.add(what)
            self._failed(event)

    def _open(self, connection: Connection) -> None:
        with self._lock:
            before = self._connections.get(connection.descriptor)
            if before is not None and before.address == connection.address:
                return  # its first word was faster
            self._connections[connection.descriptor] = connection
            self._strangers[connection] = None
            oldest = next(iter(self._strangers)) if len(self._strangers) > self._most else None
            if oldest is not None:
                del self._strangers[oldest]
        if before is not None:
            self._end(before)
        if oldest is not None:
            oldest.close()

    def _end(self, connection: Connection) -> None:
        if connection.peer is not None:
            self._gone(connection)

    def _due(self, now: float) -> bool:
        """Whether it is time to look at every connection."""
        if now < self._not_before:
            return False
        size = self._resident()
        if now < self._all_at and size - self._size < GROWTH_BYTES:
            self._size = min(self._size, size)
            return False
        self._size, self._all_at = size, now + ALL_SECONDS
        return True

    def _look(self, now: float) -> None:
        with self._lock:
            connections = list(self._connections.values())
        for connection in connections:
            if connection.cut:
                continue
            if connection.peer is None:
                if self._waiting(connection) > STRANGER_BYTES:
                    self._cut_off(connection, f"more than {STRANGER_BYTES:,} bytes and no word yet")
                elif self.turned - connection.since > STRANGER_SECONDS:
                    self._cut_off(connection, f"no word in {STRANGER_SECONDS:g} s")
                continue
            # What is read is allowed no more a moment later; what is asked for is, a moment before.
            before = self._allowance(connection.peer)
            waiting = self._waiting(connection)
            if waiting > max(before, self._allowance(connection.peer)):
                self._cut_off(connection, f"it sent {waiting:,} bytes that nobody asked for")

    def _waiting(self, connection: Connection) -> int:
        """Return how many bytes have come over a connection, and nobody has read."""
        return received(connection.descriptor) - connection.read - HANDSHAKE_BYTES

    def _cut_off(self, connection: Connection, why: str) -> None:
        self._cut(connection, why)
        connection.close()

    def _resident(self) -> int:
        """Return how many bytes of memory this process has."""
        if self._statm < 0:
            return 0
        return int(os.pread(self._statm, 100, 0).split()[1]) * _PAGE
