"""The one place where ZeroMQ sockets are made, secured, read and written.

A main node with keys speaks CURVE and lets in whom its allow-list names, asked at every
connection by ZeroMQ's own protocol for that (ZAP, RFC 27; without someone who answers, any key
would be let in). Without keys it listens on loopback only, unless told otherwise.

A node that connects sets no identity: the ROUTER then gives every connection a fresh one, so
that a node that comes back is never mistaken for the connection that it lost.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import resource
import socket as system_socket
from collections.abc import Callable, Iterable, Sequence
from enum import Enum
from pathlib import Path

import zmq
from zmq.utils import z85

from ..errors import AddressError, ConfigError, InsecureAddress, KeysError
from ..options import path_at_home
from ..wire.addresses import is_loopback, split_address
from ..wire.codec import Frame, encode
from ..wire.limits import (
    CHUNK_BYTES,
    HIGH_WATER_MARK,
    MAX_FRAME_BYTES,
    MAX_FRAMES,
    READ_MARK,
    RUN_BYTES,
    STRANGER_SECONDS,
    WINDOW,
)
from .hosts import needs_ipv6
from .keys import MainKeys, NodeKeys, node_keys
from .monitor import Monitor
from .security import Security

Poller = zmq.Poller
Socket = zmq.Socket[bytes]
READABLE = int(zmq.POLLIN)


#: Frames larger than this are sent from where they lie instead of being copied.
COPY_BYTES = 1 << 16

# Plain numbers: pyzmq's enumerations cost a microsecond each time they are combined.
_NOBLOCK, _SNDMORE, _SRCFD = int(zmq.NOBLOCK), int(zmq.SNDMORE), int(zmq.SRCFD)
#: What encryption adds to a frame: a command's name, a nonce, a checksum and flags.
_CURVE_BYTES = 8 + 8 + 16 + 1

#: Connections that the system holds until they are taken.
BACKLOG = 4096
#: Handshakes answered in one go.
ANSWERS = 100
#: Files and connections that a node needs, with a few peers.
LEAST_FILES = 128
_ZAP_ADDRESS = "inproc://zeromq.zap.01"
_ZAP_DOMAIN = b"mnist-merge"


class _Context(zmq.Context[Socket]):
    """A context that keeps nobody waiting where it is not closed.

    Rubbish is collected in whatever thread comes to it. A context would be closed there, which
    waits until all of its sockets are; those that are rubbish with it never would be.
    """

    def __del__(self) -> None:
        """Leave it, and its two threads, as they are."""


def make_context() -> zmq.Context[Socket]:
    """Return a context for one node's sockets."""
    _keep_freed_memory()
    raise_limit()
    return _Context()


def _keep_freed_memory() -> None:
    """Let glibc keep the memory of frames for the next frames.

    It would give a chunk's megabyte back to the system and get it again, page by page, for the
    next one: 47 MB took 29 ms instead of 19.
    """
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError, TypeError):  # another C library, another system
        return
    trim_threshold, mmap_threshold = -1, -3  # names of <malloc.h>
    mallopt(mmap_threshold, RUN_BYTES + (256 << 10))
    mallopt(trim_threshold, WINDOW * CHUNK_BYTES + 4 * RUN_BYTES)


def _set_up(socket: Socket, ipv6: bool) -> None:
    socket.linger = 1000  # milliseconds: long enough for a Bye, short enough for a Ctrl-C
    socket.sndhwm, socket.rcvhwm = HIGH_WATER_MARK, READ_MARK
    socket.maxmsgsize = MAX_FRAME_BYTES
    socket.handshake_ivl = int(STRANGER_SECONDS * 1000)
    # Not always: a plain address would be reported in IPv6's notation.
    socket.ipv6 = ipv6
    socket.tcp_keepalive = 1
    socket.tcp_keepalive_idle = 30


def make_pair() -> tuple[bytes, bytes]:
    """Return a new pair of CURVE keys, public and secret, 40 characters each."""
    return zmq.curve_keypair()


def bind(
    context: zmq.Context[Socket], address: str, security: Security[MainKeys]
) -> tuple[Socket, Monitor, str]:
    """Return a main node's ROUTER bound to `address`, its monitor, and the address that it got.

    Args:
        address: `tcp://host:port`; port 0 takes a free one.
        security: with keys, there must be a `Gate` in this context.

    Raises:
        AddressError: malformed, taken, or not an address of this machine.
        InsecureAddress: others can reach it, there are no keys, and it is not said that this is
            meant.
    """
    host, _ = split_address(address, lowest_port=0)
    keys = security.keys
    if security.stays_home and not is_loopback(address):
        raise InsecureAddress(
            f"{address} can be reached from other machines, and there are no keys to keep"
            " strangers out: make some with `mnist-keys new DIR NAME...` and give --keys DIR"
            " (or --insecure, in a network where you trust everybody; in a program keys=DIR or"
            " insecure=True)"
        )
    socket = context.socket(zmq.ROUTER)
    _set_up(socket, needs_ipv6(host))
    socket.router_mandatory = True  # a vanished node is an error, not a silent loss
    socket.backlog = BACKLOG
    if keys is not None:
        socket.curve_server = True
        _set_pair(socket, keys.public, keys.secret)
        socket.zap_domain = _ZAP_DOMAIN
    monitor = Monitor(socket, binds=True, keys=keys is not None)
    try:
        socket.bind(address)
    except zmq.ZMQError as error:
        close(socket, monitor, 0)
        raise AddressError(_bind_failure(address, error)) from error
    return socket, monitor, socket.getsockopt_string(zmq.LAST_ENDPOINT).rstrip("\0")


def node_security(
    folder: str | Path | None, name: str, insecure: bool, any_of: bool = False
) -> Security[NodeKeys]:
    """Return what a node that dials out has been given; arguments as for `node_keys`.

    Raises:
        KeysError: the keys can't be used.
        ConfigError: the folder is in a home that there is not.
    """
    if folder is None:
        return Security(insecure=insecure)
    keys = node_keys(path_at_home(folder), name, any_of)
    check_pair(keys.public, keys.secret)
    return Security(keys, insecure)


def check_pair(public: bytes, secret: bytes) -> None:
    """Raise unless two keys belong together.

    Raises:
        KeysError: they do not, or are none.
    """
    try:
        together = zmq.curve_public(secret) == public
    except (zmq.ZMQError, ValueError) as error:
        raise KeysError(f"a key that is none: {error}; make new ones with mnist-keys") from error
    if not together:
        raise KeysError(
            f"the secret key is not that of the public one beside it, {public.decode()!r}: they are"
            " of two pairs; copy the node's whole folder again, or make new keys with mnist-keys"
        )


def _set_pair(socket: Socket, public: bytes, secret: bytes) -> None:
    """Give a socket its keys.

    Raises:
        KeysError: they are none, or do not belong together.
    """
    try:
        check_pair(public, secret)
        socket.curve_publickey, socket.curve_secretkey = public, secret
    except KeysError:
        socket.close(0)
        raise


def raise_limit() -> None:
    """Let this process have as many connections as the system allows it.

    At the limit ZeroMQ would spin, and take nobody in.

    Raises:
        ConfigError: that are too few for any node.
    """
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if 0 <= hard < LEAST_FILES:  # ZeroMQ would end the process in the middle of something
        raise ConfigError(
            f"this process may have {hard} files and connections open at once; a node needs"
            f" {LEAST_FILES} (ulimit -n)"
        )
    with contextlib.suppress(ValueError, OSError):
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


class Answer(Enum):
    """How ZeroMQ's question whether a key is let in is answered; whoever asks can tell why.

    The second and the third are ZAP's "authentication failure" and "internal error".
    """

    YES = b"200"
    NO = b"400"  # as far as is known; it may be let in later
    REVOKED = b"500"


class Gate:
    """Answers ZeroMQ's question whether a key is let in.

    Make it before `bind`, in the same context.

    Args:
        admit: called with a public key and the address of who has it; returns how it is answered.
    """

    def __init__(self, context: zmq.Context[Socket], admit: Callable[[bytes, str], Answer]) -> None:
        self.socket = context.socket(zmq.ROUTER)
        self.socket.linger = 0
        self.socket.bind(_ZAP_ADDRESS)
        self._admit = admit

    def answer(self) -> None:
        """Answer the questions that wait, not too many at a time."""
        for _ in range(ANSWERS):
            try:
                frames = self.socket.recv_multipart(zmq.NOBLOCK)
            except zmq.Again:
                return
            self._answer(*frames)

    def _answer(self, *frames: bytes) -> None:
        asker, empty, version, number, domain, address, _, mechanism, *credentials = frames
        answer, key = Answer.NO, b""
        if mechanism == b"CURVE" and domain == _ZAP_DOMAIN and len(credentials) == 1:
            key = z85.encode(credentials[0])
            answer = self._admit(key, address.decode(errors="replace"))
        text = answer.name.lower().encode()
        self.socket.send_multipart([asker, empty, version, number, answer.value, text, key, b""])

    def close(self) -> None:
        """Answer no more."""
        self.socket.close(0)


def _bind_failure(address: str, error: zmq.ZMQError) -> str:
    if error.errno == zmq.EADDRINUSE:
        return f"{address} is taken by another program; choose another port, or 0 for a free one"
    if error.errno in (zmq.EADDRNOTAVAIL, errno.ENODEV):
        return f"{address} is not an address of this machine; use one of its own, or 0.0.0.0"
    return f"{address} can't be bound ({error}); an address looks like tcp://127.0.0.1:5555"


def connect(
    context: zmq.Context[Socket], address: str, keys: NodeKeys | None, ipv6: bool
) -> tuple[Socket, Monitor]:
    """Return a computing node's DEALER on its way to `address`, and its monitor.

    It retries for ever where nobody listens. After a failed handshake it may or may not, and may
    do so without a pause: close it then, and connect anew after a while.

    Args:
        address: `tcp://host:port`.
        keys: the node's; None: the main node has none.
        ipv6: which of the two protocols leads there: `hosts.ways`.

    Raises:
        AddressError: malformed.
        OSError: there are too many open files, say.
    """
    split_address(address, lowest_port=1)
    try:
        return _connect(context, address, keys, ipv6)
    except zmq.ZMQError as error:
        raise OSError(error.errno, str(error)) from error


def _connect(
    context: zmq.Context[Socket], address: str, keys: NodeKeys | None, ipv6: bool
) -> tuple[Socket, Monitor]:
    socket = context.socket(zmq.DEALER)
    _set_up(socket, ipv6)
    socket.immediate = True  # queue nothing for a connection that does not exist
    socket.reconnect_ivl = 20  # milliseconds, doubling up to
    socket.reconnect_ivl_max = 500
    if keys is not None:
        _set_pair(socket, keys.public, keys.secret)
        socket.curve_serverkey = keys.main
    try:
        monitor = Monitor(socket, binds=False, keys=keys is not None)
    except zmq.ZMQError:
        socket.close(0)
        raise
    try:
        socket.connect(address)
    except zmq.ZMQError as error:
        close(socket, monitor, 0)
        raise AddressError(
            f"{address} is not an address ({error}); one looks like tcp://host:5555"
        ) from error
    return socket, monitor


def close(socket: Socket, monitor: Monitor, linger: int | None = None) -> None:
    """Close a socket and its monitor; wait `linger` milliseconds for what is not sent yet."""
    monitor.close()
    socket.close(linger)


#: The first frame of a message, which knows where it came from.
Origin = zmq.Frame


def receive(socket: Socket, small: int) -> tuple[list[Frame], Origin] | None:
    """Return the frames of the next message and where it came from; None if there is none yet.

    Args:
        small: how many leading frames are small; those behind stay where ZeroMQ put them.
    """
    try:
        origin = frame = socket.recv(_NOBLOCK, copy=False)
    except zmq.Again:
        return None
    frames: list[Frame] = [frame.bytes]
    while frame.more:  # cheaper than to ask the socket each time
        frame = socket.recv(copy=False)
        if len(frames) < small:
            frames.append(frame.bytes)
        elif len(frames) <= MAX_FRAMES:  # one too many is as bad as a million
            frames.append(frame.buffer)
    return frames, origin


def key_of(origin: Origin) -> bytes:
    """Return the public key that brought a message, where the socket has keys."""
    return str(origin.get("User-Id")).encode()


def descriptor_of(origin: Origin) -> int:
    """Return the descriptor of the connection that brought a message."""
    return int(origin.get(_SRCFD))


def wire_bytes(frames: Iterable[Frame], keys: bool) -> int:
    """Return how many bytes the frames of a message took on the wire (ZMTP 3, RFC 23 and 26)."""
    extra = _CURVE_BYTES if keys else 0
    nbytes = 0
    for frame in frames:
        length = len(frame) + extra
        nbytes += length + (2 if length < 256 else 9)
    return nbytes


def send(socket: Socket, frames: Sequence[Frame]) -> bool:
    """Send a message without ever blocking; return False where there is no room for it now.

    Raises:
        ConnectionError: the peer that the first frame names has no connection.
    """
    try:
        for frame in frames[:-1]:
            socket.send(frame, _NOBLOCK | _SNDMORE, len(frame) <= COPY_BYTES)
        socket.send(frames[-1], _NOBLOCK, len(frames[-1]) <= COPY_BYTES)
    except zmq.Again:
        return False
    except zmq.ZMQError as error:
        if error.errno == zmq.EHOSTUNREACH:
            raise ConnectionError("no connection to this peer") from error
        raise
    return True


def is_here(router: Socket, peer: bytes) -> bool:
    """Return whether a peer of a ROUTER has a connection; it is told nothing, in a message."""
    router.getsockopt(zmq.EVENTS)  # else ZeroMQ would answer for how it was a moment ago
    try:
        send(router, [peer, *encode([])])
    except ConnectionError:
        return False
    return True


# Python's own calls let go of the interpreter lock around the system's: the woken thread would
# take it at once, on another core, and this one wait for it. Keeping it saves a tenth of a round
# trip. The call does not block: the socket doesn't.
_write = ctypes.PyDLL(None).write
_write.argtypes = (ctypes.c_int, ctypes.c_char_p, ctypes.c_size_t)


class Waker:
    """Ends another thread's poll from any thread."""

    def __init__(self) -> None:
        self._here, self._there = system_socket.socketpair()
        self._here.setblocking(False)
        self._there.setblocking(False)
        self._writable = self._there.fileno()

    def fileno(self) -> int:
        """Return what to poll for reading."""
        return self._here.fileno()

    def wake(self) -> None:
        """End the poll, or the next one."""
        _write(self._writable, b"\0", 1)  # where it is full, the poll ends anyway

    def drain(self) -> None:
        """Forget the wakes so far."""
        try:
            self._here.recv(4096)
        except BlockingIOError:
            return

    def close(self) -> None:
        """Give the descriptors back."""
        self._writable = -1
        self._here.close()
        self._there.close()
