"""Two relays meet where the main node's side can only dial out.

The one at the main node dials, several times, and its connections wait at the other, which gives
one to each node that comes. Both show that they know the same secret, without saying it:

    dials     "MNRELAY1" and 32 random bytes d
    accepts   32 random bytes a, and HMAC-SHA256(secret, "accept" d a)
    dials     HMAC-SHA256(secret, "dial" d a)
    accepts   0 every few seconds while the connection waits, then 1
    dials     the same byte each time; after the 1 the connection is a node's
"""

from __future__ import annotations

import asyncio
import hmac
import secrets
import socket

from .errors import WrongSecret

_MAGIC = b"MNRELAY1"
_NONCE = 32
_WAIT, _GO = b"\0", b"\1"
#: A connection that waits is assured of it this often, and given up after the silence.
BEAT_SECONDS = 5.0
SILENT_SECONDS = 20.0
HANDSHAKE_SECONDS = 10.0
#: Connections that wait at the accepting relay, for each way in of it.
SPARE = 4
#: Whoever knows the secret may leave so many; more is a mistake.
MAX_SPARE = 256
#: A connection that is given to a node is to answer within so long.
ANSWER_SECONDS = 2.0
#: A node that comes waits so long for one.
PATIENCE_SECONDS = 5.0


def _proof(secret: bytes, who: bytes, nonces: bytes) -> bytes:
    return hmac.digest(secret, who + nonces, "sha256")


async def _read(connection: socket.socket, count: int) -> bytes:
    loop = asyncio.get_running_loop()
    data = b""
    while len(data) < count:
        part = await loop.sock_recv(connection, count - len(data))
        if not part:
            raise ConnectionResetError("it was closed")
        data += part
    return data


async def show(connection: socket.socket, secret: bytes) -> None:
    """Show an accepting relay that this one knows the secret, and see that it does.

    Raises:
        WrongSecret: it does not, or is no relay.
        OSError: the connection failed.
    """
    loop = asyncio.get_running_loop()
    mine = secrets.token_bytes(_NONCE)
    await loop.sock_sendall(connection, _MAGIC + mine)
    answer = await asyncio.wait_for(_read(connection, 2 * _NONCE), HANDSHAKE_SECONDS)
    nonces = mine + answer[:_NONCE]
    # First: so that the other one learns of a wrong secret, and says so.
    await loop.sock_sendall(connection, _proof(secret, b"dial", nonces))
    if not hmac.compare_digest(answer[_NONCE:], _proof(secret, b"accept", nonces)):
        raise WrongSecret("the other relay has another secret")


async def check(connection: socket.socket, secret: bytes) -> None:
    """See that who has dialled knows the secret.

    Raises:
        WrongSecret: it does not, or is no relay.
        OSError: the connection failed.
    """
    loop = asyncio.get_running_loop()
    hello = await asyncio.wait_for(_read(connection, len(_MAGIC) + _NONCE), HANDSHAKE_SECONDS)
    if not hello.startswith(_MAGIC):
        raise WrongSecret("it is no relay")
    nonces = hello[len(_MAGIC) :] + secrets.token_bytes(_NONCE)
    await loop.sock_sendall(connection, nonces[_NONCE:] + _proof(secret, b"accept", nonces))
    answer = await asyncio.wait_for(_read(connection, _NONCE), HANDSHAKE_SECONDS)
    if not hmac.compare_digest(answer, _proof(secret, b"dial", nonces)):
        raise WrongSecret("it has another secret")


async def wait_to_go(connection: socket.socket) -> None:
    """Wait, at the dialling relay, until a connection is given to a node.

    Raises:
        OSError: it was given up, or nothing was heard of it.
    """
    try:
        while True:
            word = await asyncio.wait_for(_read(connection, 1), SILENT_SECONDS)
            await asyncio.get_running_loop().sock_sendall(connection, word)
            if word == _GO:
                return
    except asyncio.TimeoutError:
        raise OSError("the other relay is silent") from None


class Spares:
    """The connections that wait at an accepting relay."""

    def __init__(self) -> None:
        self._waiting: dict[socket.socket, float] = {}  # when each was heard last
        self._more = asyncio.Event()

    def put(self, connection: socket.socket) -> None:
        """Take one that was checked; of too many the oldest goes."""
        self._waiting[connection] = asyncio.get_running_loop().time()
        if len(self._waiting) > MAX_SPARE:
            self._drop(next(iter(self._waiting)))
        self._more.set()

    def _drop(self, connection: socket.socket) -> None:
        del self._waiting[connection]
        connection.close()

    async def take(self) -> socket.socket:
        """Return one that lives, for a node.

        Raises:
            OSError: there was none for a while.
        """
        until = asyncio.get_running_loop().time() + PATIENCE_SECONDS
        while True:
            while self._waiting:
                connection, _ = self._waiting.popitem()  # the newest: the likeliest to live
                try:
                    return await asyncio.wait_for(_go(connection), ANSWER_SECONDS)
                except (OSError, asyncio.TimeoutError):
                    connection.close()
                except BaseException:
                    connection.close()
                    raise
            self._more.clear()
            left = until - asyncio.get_running_loop().time()
            try:
                await asyncio.wait_for(self._more.wait(), left)
            except asyncio.TimeoutError:
                raise OSError("no relay has dialled in from the main node's side") from None

    async def beat(self) -> None:
        """Assure those that wait of it, for ever; those that are gone or silent are dropped."""
        while True:
            await asyncio.sleep(BEAT_SECONDS)
            now = asyncio.get_running_loop().time()
            for connection in list(self._waiting):
                try:
                    if _has_answered(connection):
                        self._waiting[connection] = now
                    connection.send(_WAIT)
                except OSError:
                    self._drop(connection)
                    continue
                if now - self._waiting[connection] > SILENT_SECONDS:
                    self._drop(connection)

    def close(self) -> None:
        """Let go of them all."""
        while self._waiting:
            self._drop(next(iter(self._waiting)))


async def _go(connection: socket.socket) -> socket.socket:
    """Give a connection to a node, and see that the other relay has heard of it."""
    loop = asyncio.get_running_loop()
    await loop.sock_sendall(connection, _GO)
    while await _read(connection, 1) != _GO:
        pass  # answers to earlier beats
    return connection


def _has_answered(connection: socket.socket) -> bool:
    """Whether a connection that waits has said something; raise if it has ended."""
    try:
        said = connection.recv(64)
    except BlockingIOError:
        return False
    if not said:
        raise ConnectionResetError("closed")
    return True
