"""Carrying bytes between two connections: a relay reads nothing but ZeroMQ's greeting.

So CURVE goes from end to end: the keys are the node's and the main node's, and a relay sees
ciphertext. Each node's connection has one of its own at the main node, and when one of the two
ends, so does the other: whoever is behind a relay is noticed, lost and found again as without it.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket

from .errors import RelayError

#: Read at once. Two of them for each connection that is carried.
BUFFER_BYTES = 1 << 16
#: ZMTP 3's greeting: signature (10), version (2), mechanism (20), as-server (1), filler (31).
GREETING_BYTES = 64
_MECHANISM = slice(12, 32)
#: Whoever has not greeted after so long is no ZeroMQ peer.
GREETING_SECONDS = 10.0
#: Once one side has ended, the other has so long to end too.
LAST_SECONDS = 0.5


class NotZeroMQ(RelayError):
    """The peer does not speak ZeroMQ's protocol."""


class NoKeys(RelayError):
    """The main node has no keys, and strangers could reach it through the relay."""


class Greeting:
    """What one side says first, as it passes by.

    Args:
        keys: whether it has to announce CURVE.
    """

    def __init__(self, keys: bool) -> None:
        self.complete = False
        self._keys = keys
        self._seen = b""

    def take(self, data: memoryview) -> None:
        """Look at bytes that are about to be carried.

        Raises:
            NotZeroMQ: they are no greeting.
            NoKeys: the greeting is of a peer without keys.
        """
        if self.complete:
            return
        self._seen += bytes(data[: GREETING_BYTES - len(self._seen)])
        seen = self._seen
        if seen[:1] != b"\xff" or (len(seen) > 9 and seen[9] != 0x7F):
            raise NotZeroMQ(f"it does not speak ZeroMQ's protocol: it says {seen[:12]!r}")
        if len(seen) < GREETING_BYTES:
            return
        self.complete = True
        mechanism = seen[_MECHANISM].rstrip(b"\0")
        if self._keys and mechanism != b"CURVE":
            raise NoKeys("no keys are used")


async def carry(node: socket.socket, main: socket.socket, keys: bool) -> None:
    """Carry bytes both ways until one side ends, and then end both.

    Args:
        node, main: connected, non-blocking; towards the node, and towards the main node.
        keys: end it where the main node has no keys.

    Raises:
        NotZeroMQ, NoKeys: what one of them says.
    """
    greetings = Greeting(keys), Greeting(keys)
    tasks = [
        asyncio.ensure_future(_pour(node, main, greetings[0])),
        asyncio.ensure_future(_pour(main, node, greetings[1])),
    ]
    try:
        done, _ = await asyncio.wait(
            tasks, timeout=GREETING_SECONDS, return_when=asyncio.FIRST_COMPLETED
        )
        if not done:
            if not all(greeting.complete for greeting in greetings):
                raise NotZeroMQ(f"no greeting for {GREETING_SECONDS:g} s")
            done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        for task in done:
            task.result()
        # What one side said last, a main node's Stop say, is to arrive at the other.
        await asyncio.wait(tasks, timeout=LAST_SECONDS)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        for end in (node, main):
            end.close()


async def _pour(source: socket.socket, sink: socket.socket, greeting: Greeting) -> None:
    """Carry one way until the source ends; a sink that does not read holds it up."""
    loop = asyncio.get_running_loop()
    buffer = memoryview(bytearray(BUFFER_BYTES))
    with contextlib.suppress(OSError):
        while count := await loop.sock_recv_into(source, buffer):
            data = buffer[:count]
            greeting.take(data)
            await loop.sock_sendall(sink, data)
        sink.shutdown(socket.SHUT_WR)


def set_up(connection: socket.socket) -> socket.socket:
    """Make a connection fit to be carried: no delays, and its death is noticed."""
    connection.setblocking(False)
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    if hasattr(socket, "TCP_KEEPIDLE"):
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, 30)
    return connection


async def dial(host: str, port: int) -> socket.socket:
    """Return a new connection.

    Raises:
        OSError: there is nobody, or no such name.
    """
    loop = asyncio.get_running_loop()
    found = await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    failure: OSError = OSError(f"{host}: no address")
    for family, kind, protocol, _, address in found:
        connection = socket.socket(family, kind, protocol)
        try:
            set_up(connection)
            await asyncio.wait_for(loop.sock_connect(connection, address), GREETING_SECONDS)
        except (OSError, asyncio.TimeoutError) as error:
            connection.close()
            failure = error if isinstance(error, OSError) else OSError("no answer")
        except BaseException:
            connection.close()
            raise
        else:
            return connection
    raise failure


def listen(host: str, port: int) -> socket.socket:
    """Return a socket that listens.

    Raises:
        OSError: it can't.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((host, port))
        listener.listen(1024)
        listener.setblocking(False)
    except OSError:
        listener.close()
        raise
    return listener
