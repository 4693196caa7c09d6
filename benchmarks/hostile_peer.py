"""A peer that does the worst it may, as fast as it can, over some connections.

Usage: python -m benchmarks.hostile_peer ATTACK ADDRESS CONNECTIONS [KEYS]
"""

from __future__ import annotations

import contextlib
import socket
import struct
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np
import xxhash
import zmq

from protocol.carrier.keys import node_keys
from protocol.wire.codec import MAGIC, decode, encode
from protocol.wire.limits import MAX_HEADER_BYTES, UNASKED_BYTES
from protocol.wire.messages import (
    Bye,
    Chunk,
    Heartbeat,
    Hello,
    JobOffer,
    Message,
    Need,
    SolutionReady,
    TaskFailed,
    Watch,
)

HELLO = Hello("hostile", "hostile", 0, ("", "neural"), {}, 1, 1, "", 1, 0)
_NUMBERS = count()
_GREETING = b"\xff" + bytes(8) + b"\x7f\x03\x00"
Send = Callable[[bytes], None]


def hello() -> Hello:
    """Return the Hello of a node that nobody has seen."""
    number = next(_NUMBERS)
    return Hello(f"h{number}", f"hostile{number}", 0, ("", "neural"), {}, 1, 1, "x" * 900, 1, 0)


def signed(header: bytes, *buffers: bytes) -> list[bytes]:
    """Return the frames of a message with any header."""
    return [MAGIC + xxhash.xxh3_64_digest(header), header, *buffers]


def listing(count_: int, element: bytes) -> bytes:
    """Return a list in msgpack."""
    return b"\xdd" + struct.pack(">I", count_) + element * count_


def wire(frames: list[Any], more: bool = False) -> bytes:
    """Return the bytes of a message (ZMTP 3 without keys); `more`: it does not end there."""
    parts = []
    for place, frame in enumerate(map(bytes, frames)):
        flags = 1 if more or place < len(frames) - 1 else 0
        if len(frame) < 256:
            parts.append(bytes([flags, len(frame)]) + frame)
        else:
            parts.append(bytes([flags | 2]) + struct.pack(">Q", len(frame)) + frame)
    return b"".join(parts)


def said(*messages: Message) -> list[bytes]:
    """Return the frames of some messages."""
    return [bytes(frame) for frame in encode(messages)]


#: What is said over and over again: the frames of a message.
MESSAGES: dict[str, Callable[[], list[bytes]]] = {
    "unknown kinds": lambda: signed(listing(30_000, b"\x91\x63")),
    "nothing": lambda: signed(b"\x90"),
    "small words": lambda: said(Heartbeat()),
    "heartbeats": lambda: said(Heartbeat(tuple(range(10**9, 10**9 + 4000)))),
    "hellos": lambda: said(*[hello() for _ in range(40)]),
    "join and leave": lambda: said(*[m for _ in range(20) for m in (Bye("x" * 900), hello())]),
    "needs": lambda: said(*[Need(bytes(16), 0, 16)] * 1000),
    "failures": lambda: said(TaskFailed(1, "raised", "x" * 900, "y\n" * 8000)),
    "solutions": lambda: said(SolutionReady(1, {"a": 0.5}, b"x" * 40_000, {})),
    "large solutions": lambda: said(SolutionReady(1, {}, b"", {"x": np.zeros(1 << 17)})),
    "chunks": lambda: said(Chunk(bytes(16), 0, bytes(1 << 20))),
    "malformed": lambda: [b"GET / HTTP/1.1", b"Host: here"],
    "nested": lambda: signed(b"\x91\x92\x04" + b"\x91" * 1000 + b"\x01"),
    "lists": lambda: signed(listing(60, listing(1000, b"\x90"))),
    "large headers": lambda: signed(listing(1, listing(MAX_HEADER_BYTES - 99, b"\x90"))),
    "almost too much": lambda: signed(b"\x90", *[bytes(UNASKED_BYTES // 600)] * 500),
    "watches": lambda: said(*[Watch("", "", 0)] * 100),
}
#: What never ends: the beginning of a message, and what follows all the time.
ENDLESS: dict[str, tuple[bytes, bytes]] = {
    "endless frames": (wire([b"x"], more=True), wire([bytes(1 << 20)], more=True)),
    "endless small frames": (wire([b"x"], more=True), wire([b""] * 50_000, more=True)),
    "endless pings": (b"", b"\x04\x07\x04PING\x00\x0a" * 10_000),
}


#: What is done with jobs that were taken.
TAKING = ("fail jobs", "take and go")


class Raw:
    """A connection that speaks ZeroMQ's protocol by hand, faster than ZeroMQ.

    Args:
        port: of the main node.
        mechanism: that it says it has.
    """

    def __init__(self, port: int, mechanism: bytes = b"NULL") -> None:
        self.socket = socket.create_connection(("127.0.0.1", port), timeout=5)
        self.socket.sendall(_GREETING + mechanism.ljust(20, b"\0") + b"\0" + bytes(31))

    def shake(self, properties: bytes = b"") -> None:
        """Go through the handshake without keys."""
        body = b"\x05READY\x0bSocket-Type" + struct.pack(">I", 6) + b"DEALER" + properties
        self.socket.sendall(b"\x06" + struct.pack(">Q", len(body)) + body)
        self.socket.setblocking(False)

    def send(self, data: bytes) -> int:
        """Send what there is room for; forget what comes back."""
        with contextlib.suppress(BlockingIOError):
            if not self.socket.recv(1 << 20):
                raise ConnectionResetError
        try:
            return self.socket.send(data)
        except BlockingIOError:
            return 0

    def close(self) -> None:
        self.socket.close()


def pour(port: int, connections: int, first: bytes, then: Callable[[], bytes]) -> None:
    """Send something over and over again, over so many connections, made anew where they end."""
    open_: list[tuple[Raw, list[bytes]]] = []
    while True:
        while len(open_) < connections:
            with contextlib.suppress(OSError):
                raw = Raw(port)
                raw.shake()
                open_.append((raw, [first]))
        idle = True
        for entry in list(open_):
            raw, left = entry
            try:
                if not left[0]:
                    left[0] = then()
                sent = raw.send(left[0])
                left[0] = left[0][sent:]
                idle = idle and not sent
            except OSError:
                raw.close()
                open_.remove(entry)
        if idle:
            time.sleep(0.001)


def pour_keyed(address: str, connections: int, then: Callable[[], list[bytes]], keys: Path) -> None:
    """Do the same with keys, through ZeroMQ."""
    context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
    mine = node_keys(keys)
    sockets = []
    for _ in range(connections):
        made = context.socket(zmq.DEALER)
        made.curve_publickey, made.curve_secretkey = mine.public, mine.secret
        made.curve_serverkey, made.linger, made.sndhwm = mine.main, 0, 10
        made.reconnect_ivl = 1
        made.connect(address)
        with contextlib.suppress(zmq.Again):
            made.send_multipart(said(hello()), zmq.NOBLOCK)
        sockets.append(made)
    while True:
        idle = True
        for each in sockets:
            with contextlib.suppress(zmq.Again):
                each.send_multipart(then(), zmq.NOBLOCK)
                idle = False
            with contextlib.suppress(zmq.Again):
                each.recv_multipart(zmq.NOBLOCK)
        if idle:
            time.sleep(0.001)


class Taker:
    """A node that says it has room for a thousand jobs, and solves none.

    Args:
        address: of the main node.
        keys: folder with its keys; None: it has none.
        goes: whether it leaves with what it was given, and comes back as another node; else it
            says of each job that it failed.
    """

    def __init__(self, address: str, keys: Path | None, goes: bool) -> None:
        self._address, self._goes = address, goes
        self._keys = None if keys is None else node_keys(keys)
        self._context: zmq.Context[zmq.Socket[bytes]] = zmq.Context.instance()
        self._come()

    def _come(self) -> None:
        self._socket = self._context.socket(zmq.DEALER)
        self._socket.linger = 0
        if self._keys is not None:
            self._socket.curve_publickey = self._keys.public
            self._socket.curve_secretkey = self._keys.secret
            self._socket.curve_serverkey = self._keys.main
        self._socket.connect(self._address)
        self._say(replace(hello(), accelerator="", tasks=1024, credit=1024))
        self._until = time.monotonic() + 0.5

    def _say(self, *messages: Message) -> None:
        with contextlib.suppress(zmq.Again):
            self._socket.send_multipart(said(*messages), zmq.NOBLOCK)

    def turn(self) -> None:
        """Hear what there is, and answer."""
        with contextlib.suppress(zmq.Again):
            for message in decode(self._socket.recv_multipart(zmq.NOBLOCK)):
                if isinstance(message, JobOffer) and self._goes:
                    self._say(Heartbeat((message.task,), {message.task: 0.1}))
                elif isinstance(message, JobOffer):
                    self._say(TaskFailed(message.task, "raised", "sorry", ""))
        if time.monotonic() > self._until and self._goes:
            self._socket.close()
            self._come()


def take(address: str, connections: int, keys: Path | None, goes: bool) -> None:
    """Take jobs, and solve none."""
    takers = [Taker(address, keys, goes) for _ in range(connections)]
    while True:
        for taker in takers:
            taker.turn()
        time.sleep(0.001)


def come_and_go(port: int, mechanism: bytes) -> None:
    """Connect, greet and go."""
    while True:
        with contextlib.suppress(OSError):
            Raw(port, mechanism).close()


def half_commands(port: int, connections: int, mechanism: bytes) -> None:
    """Send most of a handshake's command that is as large as a frame may be."""
    open_: list[Raw] = []
    while True:
        with contextlib.suppress(OSError):
            raw = Raw(port, mechanism)
            open_.append(raw)
            raw.socket.sendall(b"\x06" + struct.pack(">Q", 1 << 20) + bytes((1 << 20) - 100))
        for old in open_[:-connections]:
            old.close()
        del open_[:-connections]


def properties(port: int, connections: int) -> None:
    """Shake hands with a hundred thousand properties, which ZeroMQ keeps for each connection."""
    many = b"".join(
        b"\x03" + n.to_bytes(3, "big").replace(b"\0", b"x") + bytes(4) for n in range(100_000)
    )
    open_: list[Raw] = []
    while True:
        with contextlib.suppress(OSError):
            raw = Raw(port)
            open_.append(raw)
            raw.socket.sendall(b"")
            raw.shake(many[:900_000])
        for old in open_[:-connections]:
            old.close()
        del open_[:-connections]


def deaf_watchers(address: str, connections: int, keys: Path | None) -> None:
    """Watch, and read nothing of what is told."""
    context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
    sockets = []
    for number in range(connections):
        made = context.socket(zmq.DEALER)
        made.rcvhwm, made.linger = 1, 0
        made.setsockopt(zmq.RCVBUF, 4096)
        if keys is not None:
            mine = node_keys(keys)
            made.curve_publickey, made.curve_secretkey = mine.public, mine.secret
            made.curve_serverkey = mine.main
        made.connect(address)
        sockets.append((made, said(Watch(f"{number:08x}", "deaf", 0))))
    while True:
        for made, watch in sockets:
            with contextlib.suppress(zmq.Again):
                made.send_multipart(watch, zmq.NOBLOCK)
        time.sleep(0.5)


def main(attack: str, address: str, connections: int, keys: Path | None) -> None:
    """Do it until killed."""
    port = int(address.rpartition(":")[2])
    mechanism = b"NULL" if keys is None else b"CURVE"
    if attack == "burn":  # a core, and nothing else
        while True:
            pass
    elif attack in MESSAGES and keys is not None:
        pour_keyed(address, connections, MESSAGES[attack], keys)
    elif attack in MESSAGES:
        pour(port, connections, wire(said(hello())), lambda: wire(MESSAGES[attack]()))
    elif attack in ENDLESS:
        first, then = ENDLESS[attack]
        pour(port, connections, wire(said(hello())) + first, lambda: then)
    elif attack in TAKING:
        take(address, connections, keys, goes=attack == "take and go")
    elif attack == "come and go":
        come_and_go(port, mechanism)
    elif attack == "half commands":
        half_commands(port, connections, mechanism)
    elif attack == "properties":
        properties(port, connections)
    elif attack == "deaf watchers":
        deaf_watchers(address, connections, keys)
    else:
        raise SystemExit(f"no attack {attack!r}")


if __name__ == "__main__":
    main(
        sys.argv[1], sys.argv[2], int(sys.argv[3]),
        Path(sys.argv[4]) if len(sys.argv) > 4 else None,
    )  # fmt: skip
