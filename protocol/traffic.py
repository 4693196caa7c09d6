"""What the system knows of connections: how much has come over each; and how to end or hold one.

All of it without letting go of Python's interpreter lock: whoever watches over a busy thread would
wait for the lock each time. Linux tells; elsewhere nothing is known, and nothing done.
"""

from __future__ import annotations

import ctypes
import os
import resource
import socket
import struct
import sys
import threading

from .limits import KIB

#: What a connection carries beside messages: ZeroMQ's handshake.
HANDSHAKE_BYTES = 2 * KIB
#: Whether the system tells anything.
KNOWN = sys.platform == "linux"
_TCP, _TCP_INFO = int(socket.IPPROTO_TCP), int(getattr(socket, "TCP_INFO", 0))
_SOCKET, _COOKIE, _ATTACH, _DETACH = int(socket.SOL_SOCKET), 57, 26, 27
#: Where `tcpi_bytes_received` is in struct tcp_info, since Linux 4.1, and how much is read.
_RECEIVED, _INFO_BYTES = 128, 136
_PAGE = resource.getpagesize()

_system = ctypes.PyDLL(None, use_errno=False)  # which keeps the lock
_getsockopt, _setsockopt = _system.getsockopt, _system.setsockopt


class _Answer(threading.local):
    """Where the system writes what it tells."""

    def __init__(self) -> None:
        self.content = ctypes.create_string_buffer(_INFO_BYTES)
        self.size = ctypes.c_uint32()


_answer = _Answer()


def _ask(descriptor: int, level: int, option: int, nbytes: int) -> bytes:
    """Return what the system tells of a socket; nothing where it does not."""
    content, size = _answer.content, _answer.size
    size.value = nbytes
    if _getsockopt(descriptor, level, option, content, ctypes.byref(size)) or size.value < nbytes:
        return b""
    return content.raw[:nbytes]


def received(descriptor: int) -> int:
    """Return how many bytes have come over a TCP connection; 0 where the system does not tell."""
    told = _ask(descriptor, _TCP, _TCP_INFO, _INFO_BYTES) if KNOWN else b""
    return int(struct.unpack_from("=Q", told, _RECEIVED)[0]) if told else 0


def cookie(descriptor: int) -> int:
    """Return a number that no other socket has or will have; 0 where there is none."""
    told = _ask(descriptor, _SOCKET, _COOKIE, 8) if KNOWN else b""
    return int(struct.unpack("=Q", told)[0]) if told else 0


class _Filter(ctypes.Structure):
    """A program for the system's packet filter: struct sock_fprog."""

    _fields_ = (("length", ctypes.c_ushort), ("program", ctypes.c_char_p))


#: One instruction: return 0, which is to drop the packet.
_NOTHING = _Filter(1, struct.pack("=HBBI", 0x06, 0, 0, 0))


def hold(descriptor: int, cookie_: int) -> bool:
    """Let nothing more come over a connection for now: what is sent is sent again, ever later.

    Args:
        descriptor: of the connection.
        cookie_: its cookie; nothing is done if the descriptor is another's by now.
    """
    return _act(
        descriptor, cookie_,
        lambda copy: _setsockopt(
            copy, _SOCKET, _ATTACH, ctypes.byref(_NOTHING), ctypes.sizeof(_NOTHING)
        ),
    )  # fmt: skip


def release(descriptor: int, cookie_: int) -> bool:
    """Let a connection go on that was held."""
    nothing = ctypes.c_int(0)
    return _act(
        descriptor, cookie_,
        lambda copy: _setsockopt(copy, _SOCKET, _DETACH, ctypes.byref(nothing), 4),
    )  # fmt: skip


def end(descriptor: int, cookie_: int) -> bool:
    """End a connection, both ways."""
    return _act(descriptor, cookie_, lambda copy: _system.shutdown(copy, int(socket.SHUT_RDWR)))


def _act(descriptor: int, cookie_: int, act: object) -> bool:
    """Do something to a connection if it is still the same, by a descriptor of our own."""
    if not cookie_:
        return False
    copy = _system.dup(descriptor)
    if copy < 0:
        return False
    try:
        return cookie(copy) == cookie_ and act(copy) == 0  # type: ignore[operator]
    finally:
        _system.close(copy)


class Size:
    """How much memory this process has."""

    def __init__(self) -> None:
        self._statm = os.open("/proc/self/statm", os.O_RDONLY) if KNOWN else -1
        self._content = ctypes.create_string_buffer(100)

    def read(self) -> int:
        """Return its bytes; 0 where the system does not tell."""
        if self._statm < 0:
            return 0
        told = _system.pread(self._statm, self._content, 99, ctypes.c_long(0))
        return int(self._content.raw[:told].split()[1]) * _PAGE if told > 0 else 0

    def close(self) -> None:
        """Give the descriptor back."""
        if self._statm >= 0:
            os.close(self._statm)
            self._statm = -1
