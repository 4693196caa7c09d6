"""What ZeroMQ reports of a socket's connections, as events that say who and why.

A monitor must be read: ZeroMQ blocks its own thread, and with it every connection, once so many
events are waiting (`MAX_EVENTS`). So few kinds are asked for.
"""

from __future__ import annotations

import os
import socket as system_socket
import struct
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from enum import Enum
from itertools import count

import zmq

Socket = zmq.Socket[bytes]

_ACCEPTED, _DISCONNECTED = int(zmq.EVENT_ACCEPTED), int(zmq.EVENT_DISCONNECTED)
_OPENED, _LISTENING = int(zmq.EVENT_CONNECTED), int(zmq.EVENT_LISTENING)
_SUCCEEDED = int(zmq.EVENT_HANDSHAKE_SUCCEEDED)
_PROTOCOL, _AUTH, _NO_DETAIL = (
    int(zmq.EVENT_HANDSHAKE_FAILED_PROTOCOL), int(zmq.EVENT_HANDSHAKE_FAILED_AUTH),
    int(zmq.EVENT_HANDSHAKE_FAILED_NO_DETAIL),
)  # fmt: skip
_FAILED = _PROTOCOL | _AUTH | _NO_DETAIL
#: Events that may wait to be read.
MAX_EVENTS = 100_000
_numbers = count()
_NOBLOCK = int(zmq.NOBLOCK)  # a plain number: pyzmq's enumerations cost a microsecond
_MISMATCH = int(zmq.PROTOCOL_ERROR_ZMTP_MECHANISM_MISMATCH)
_CRYPTOGRAPHIC = int(zmq.PROTOCOL_ERROR_ZMTP_CRYPTOGRAPHIC)
#: What a main node answers for a key that it once let in (`sockets.Answer`).
_REVOKED = 500


class Happened(Enum):
    """What can happen to a connection."""

    LISTENING = "listening"  # at this descriptor; it is no connection yet
    OPENED = "opened"  # nothing is said yet
    CONNECTED = "connected"
    DISCONNECTED = "disconnected"
    FAILED = "failed"  # before it was one


@dataclass(frozen=True, slots=True)
class Event:
    """Something that happened to a connection.

    Args:
        what: happened.
        descriptor: of the connection, where it is known.
        cause: in words, where it failed.
        peer: address of the other side, where a main node can tell.
        final: whether it makes no sense to try again.
    """

    what: Happened
    descriptor: int = -1
    cause: str = ""
    peer: str = ""
    final: bool = False


class Monitor:
    """The events of one socket; make it before the socket binds or connects.

    Args:
        socket: to be watched.
        binds: whether it is a main node's.
        keys: whether it has keys.
    """

    def __init__(self, socket: Socket, *, binds: bool, keys: bool) -> None:
        watched = _DISCONNECTED | _FAILED
        watched |= _ACCEPTED | _LISTENING if binds else _OPENED | _SUCCEEDED
        # Never the same name again: ZeroMQ may not have let go of an earlier one yet.
        name = f"inproc://monitor-{next(_numbers)}"
        socket.monitor(name, watched)
        try:
            self.socket: Socket = socket.context.socket(zmq.PAIR)
        except zmq.ZMQError:  # too many open files, say
            socket.monitor(None, 0)
            raise
        self.socket.rcvhwm = MAX_EVENTS
        self.socket.connect(name)
        self._watched = socket
        self._binds, self._keys = binds, keys
        self._peers: dict[int, str] = {}  # by descriptor
        self._failing: str | None = None

    def read(self) -> list[Event]:
        """Return what has happened since the last call."""
        events: list[Event] = []
        while True:
            try:
                content = self.socket.recv(_NOBLOCK)
                self.socket.recv()  # which endpoint it is
            except zmq.Again:
                return events
            number, value = struct.unpack("=Hi", content)
            events += self._bound(number, value) if self._binds else self._connected(number, value)

    def _connected(self, number: int, value: int) -> list[Event]:
        """Return what an event of a computing node's socket means."""
        if number == _OPENED:
            return [Event(Happened.OPENED, value)]
        if number == _SUCCEEDED:
            return [Event(Happened.CONNECTED)]
        if number == _DISCONNECTED:
            return [Event(Happened.DISCONNECTED, value)]
        if number == _AUTH:
            if value == _REVOKED:
                return [Event(Happened.FAILED, cause="this node's key was revoked", final=True)]
            cause = "the main node does not let this node's key in"
            return [Event(Happened.FAILED, cause=cause)]
        if self._keys:
            cause = "it broke off: main.pub here is another main node's, or it has no keys"
            if number == _PROTOCOL and value == _MISMATCH:
                cause = "it has no keys: start it with --keys, or this node without"
        else:
            cause = (
                "it broke off: it may want keys (--keys), be no main node, or be a relay with none"
                " behind it"
            )
            if number == _PROTOCOL and value == _MISMATCH:
                cause = "it wants keys: start this node with --keys"
        return [Event(Happened.FAILED, cause=cause)]

    def _bound(self, number: int, value: int) -> list[Event]:
        """Return what an event of a main node's socket means.

        A failure does not say whose it is; the disconnection that follows at once does.
        """
        if number == _ACCEPTED:
            self._peers[value] = peer = address_of(value)
            return [Event(Happened.OPENED, value, peer=peer)]
        if number == _LISTENING:
            return [Event(Happened.LISTENING, value)]
        if number == _DISCONNECTED:
            peer = self._peers.pop(value, "")
            if self._failing is not None:
                cause, self._failing = self._failing, None
                return [Event(Happened.FAILED, value, cause, peer)]
            return [Event(Happened.DISCONNECTED, value, peer=peer)]
        if number == _PROTOCOL and value == _CRYPTOGRAPHIC:
            self._failing = "it holds another main node's public key (main.pub)"
        elif number == _PROTOCOL and value == _MISMATCH:
            wrong = "it came without keys" if self._keys else "it wants keys, and there are none"
            self._failing = f"{wrong}, or it is no computing node"
        elif number != _AUTH:  # of which the gate has told
            self._failing = "it broke off before it was known" + (
                ": maybe it came without keys" if self._keys else ""
            )
        return []

    def close(self) -> None:
        """Stop watching; before the socket is closed.

        ZeroMQ's own thread waits for ever to tell of something that nobody is there to hear: so it
        stops first.
        """
        with suppress(zmq.ZMQError):  # the context has ended
            self._watched.monitor(None, 0)
        self.socket.close(0)


def address_of(descriptor: int) -> str:
    """Return who is at the other end of a connection, `host:port`; empty if it is gone."""
    try:
        with opened(descriptor) as connection:
            host, port = connection.getpeername()[:2]
            return f"{host}:{port}"
    except (OSError, ValueError):  # gone, or by now something else
        return ""


@contextmanager
def opened(descriptor: int) -> Iterator[system_socket.socket]:
    """Give a connection of ZeroMQ's for a block, by a descriptor of our own.

    Raises:
        OSError: it is gone.
    """
    copy = os.dup(descriptor)
    try:
        connection = system_socket.socket(fileno=copy)
    except BaseException:
        os.close(copy)
        raise
    with connection:
        yield connection
