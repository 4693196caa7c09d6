"""Carrying bytes between two connections: a relay reads nothing but ZeroMQ's greeting.

So CURVE goes from end to end: the keys are the node's and the main node's, and a relay sees
ciphertext. Each node's connection has one of its own at the main node, and when one of the two
ends, so does the other: whoever is behind a relay is noticed, lost and found again as without it.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket

from protocol.carrier.hosts import needs_ipv6

from .errors import RelayError

#: Read at once. Two of them for each connection that is carried.
BUFFER_BYTES = 1 << 16
#: ZMTP 3's greeting: signature (10), version (2), mechanism (20), as-server (1), filler (31).
GREETING_BYTES = 64
SIGNATURE_BYTES = 10
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
        #: Set once the whole greeting is there, and good.
        self.complete = asyncio.Event()
        self._keys = keys
        self._seen = b""

    def take(self, data: memoryview) -> int:
        """Look at bytes that are about to be carried; return how many of them are the greeting.

        Raises:
            NotZeroMQ: they are no greeting.
            NoKeys: the greeting is of a peer without keys.
        """
        part = bytes(data[: GREETING_BYTES - len(self._seen)])
        self._seen += part
        check_start(self._seen)
        # Older versions have no mechanisms; ZeroMQ would speak them, and without keys.
        if len(self._seen) > SIGNATURE_BYTES and self._seen[SIGNATURE_BYTES] < 3:
            raise NotZeroMQ("it speaks an old version of ZeroMQ's protocol")
        if len(self._seen) == GREETING_BYTES and not self.complete.is_set():
            if self._keys and self._seen[_MECHANISM].rstrip(b"\0") != b"CURVE":
                raise NoKeys("no keys are used")
            self.complete.set()
        return len(part)


def check_start(seen: bytes) -> None:
    """Raise unless these may be the first bytes of a ZeroMQ peer.

    Raises:
        NotZeroMQ: they are not.
    """
    last = SIGNATURE_BYTES - 1
    if seen[:1] != b"\xff" or (len(seen) > last and seen[last] != 0x7F):
        raise NotZeroMQ(f"it does not speak ZeroMQ's protocol: it says {seen[:12]!r}")


async def first_bytes(node: socket.socket) -> bytes:
    """Return what a node says before anybody answers: ZeroMQ's signature.

    Raises:
        NotZeroMQ: something else, or nothing in time.
        OSError: the connection failed.
    """
    loop = asyncio.get_running_loop()
    seen = b""
    while len(seen) < SIGNATURE_BYTES:
        try:
            part = await asyncio.wait_for(loop.sock_recv(node, BUFFER_BYTES), GREETING_SECONDS)
        except asyncio.TimeoutError:
            raise NotZeroMQ(f"it says nothing for {GREETING_SECONDS:g} s") from None
        if not part:
            raise ConnectionResetError("closed")
        seen += part
        check_start(seen)
    return seen


async def carry(node: socket.socket, main: socket.socket, keys: bool, first: bytes = b"") -> None:
    """Carry bytes both ways until one side ends, and then end both.

    Args:
        node, main: connected, non-blocking; towards the node, and towards the main node.
        keys: end it where one of them has no keys.
        first: what the node has said already.

    Raises:
        NotZeroMQ, NoKeys: what one of them says.
    """
    greetings = Greeting(keys), Greeting(keys)
    tasks = [
        asyncio.ensure_future(_pour(node, main, *greetings, first)),
        asyncio.ensure_future(_pour(main, node, *greetings[::-1])),
    ]
    try:
        done, _ = await asyncio.wait(
            tasks, timeout=GREETING_SECONDS, return_when=asyncio.FIRST_COMPLETED
        )
        if not done:
            if not all(greeting.complete.is_set() for greeting in greetings):
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


async def _pour(
    source: socket.socket, sink: socket.socket, greeting: Greeting, answer: Greeting,
    first: bytes = b"",
) -> None:  # fmt: skip
    """Carry one way until the source ends; a sink that does not read holds it up.

    Nothing but the greeting passes before both greetings are good.
    """
    loop = asyncio.get_running_loop()
    buffer = memoryview(bytearray(BUFFER_BYTES))
    buffer[: len(first)] = first
    count = len(first)
    with contextlib.suppress(OSError):
        while count := count or await loop.sock_recv_into(source, buffer):
            data, count = buffer[:count], 0
            if not (greeting.complete.is_set() and answer.complete.is_set()):
                length = greeting.take(data)
                await loop.sock_sendall(sink, data[:length])
                if length == len(data):
                    continue
                data = data[length:]
                await answer.complete.wait()
            await loop.sock_sendall(sink, data)
        sink.shutdown(socket.SHUT_WR)


def set_up(connection: socket.socket) -> None:
    """Make a connection fit to be carried: no delays, and its death is noticed."""
    connection.setblocking(False)
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    if hasattr(socket, "TCP_KEEPIDLE"):
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, 30)
    if hasattr(socket, "TCP_USER_TIMEOUT"):  # what is sent and not acknowledged for so long
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, 20_000)


async def dial(host: str, port: int) -> socket.socket:
    """Return a new connection.

    Raises:
        OSError: there is nobody, or no such name.
    """
    loop = asyncio.get_running_loop()
    try:
        found = await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except UnicodeError as error:
        raise OSError(f"{host!r} can't be a host's name") from error
    except socket.gaierror as error:
        raise OSError(f"there is no host {host}") from error
    where = f"tcp://{host}:{port}"
    failure = OSError(f"{where} has no address")
    for family, kind, protocol, _, address in found:
        connection = socket.socket(family, kind, protocol)
        try:
            set_up(connection)
            await asyncio.wait_for(loop.sock_connect(connection, address), GREETING_SECONDS)
        except ConnectionRefusedError:
            connection.close()
            failure = OSError(f"nothing listens at {where}")
        except asyncio.TimeoutError:
            connection.close()
            failure = OSError(f"no answer from {where}")
        except OSError as error:
            connection.close()
            failure = OSError(f"{where} can't be reached: {error.strerror}")
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
    family = socket.AF_INET6 if needs_ipv6(host) else socket.AF_INET
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
